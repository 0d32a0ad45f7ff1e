"""Which events may be left out for a reader that is behind, and by which key."""

from typing import ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import ChannelDeclaration, event_type
from channels.conflation import (
    MAX_KEY_LENGTH,
    check_conflation_key,
    check_conflation_of,
    conflation_key,
)
from channels.errors import BadRequest, SettingsError
from channels.event import Event
from channels.events import JobProgress, JobProgressData, NodeReport, NodeReported
from channels.ids import Id

from .strategies import EVENT_CLASSES, events_of

every_event = pytest.mark.parametrize("kind", EVENT_CLASSES, ids=event_type)


class _Data(msgspec.Struct, frozen=True, kw_only=True):
    gauge: Id
    label: str
    spare: Id = "x"


def kind_of(by: str, tag: str = "gauge.changed") -> type[Event]:
    """Return an event type that conflates by ``by``."""
    return msgspec.defstruct(
        "GaugeChanged",
        [("data", _Data)],
        bases=(Event,),
        namespace={"conflate_by": by, "__annotations__": {"conflate_by": ClassVar[str]}},
        frozen=True,
        kw_only=True,
        tag=tag,
    )


def test_only_progress_and_gauges_conflate():
    """Approvals, notifications, ends, amounts and patches are never left out."""
    conflating = {event_type(kind): kind.conflate_by for kind in EVENT_CLASSES if kind.conflate_by}
    assert conflating == {"job.progress": "job", "hub.node.reported": "node"}


def test_the_key_is_type_and_id():
    """One job's progress supersedes neither another's nor anything else of the same job."""
    data = JobProgressData(queue="q", workspace="w1", job="j1", kind="k", done=1)
    assert conflation_key(JobProgress(data=data)) == "job.progress:j1"
    report = NodeReported(data=NodeReport(node="n1"))
    assert conflation_key(report) == "hub.node.reported:n1"


@every_event
@given(data=st.data())
@settings(max_examples=10)
def test_every_valid_event_has_a_valid_key_or_none(kind, data):
    """Whatever an event holds, its key fits into the header of a message."""
    key = conflation_key(data.draw(events_of(kind)))
    assert bool(key) == bool(kind.conflate_by)
    if key:
        assert check_conflation_key(key) == key


@pytest.mark.parametrize("key", ["a", "gauge:cpu/0", "A.b_c@d-e", "x" * MAX_KEY_LENGTH])
def test_a_key_may_look_so(key):
    """Whatever travels in a field between spaces."""
    assert check_conflation_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "two words", "a\n", "a\0", "ключ", "x" * (MAX_KEY_LENGTH + 1), '"', "{a}"]
)
def test_any_other_is_refused(key):
    """The error says what was expected and what came."""
    with pytest.raises(BadRequest, match=r"a conflation key is 1-128 characters out of .*; got "):
        check_conflation_key(key)


@pytest.mark.parametrize("by", ["nothing", "label", "spare", "data"])
def test_a_type_conflates_by_a_required_id_only(by):
    """A field that is free text, may be absent or does not exist is refused when declared."""
    with pytest.raises(SettingsError, match=f"conflates by {by!r}: expected the name of a requ"):
        ChannelDeclaration("gauge:{workspace}", events=(kind_of(by),))
    ChannelDeclaration("gauge:{workspace}", events=(kind_of("gauge"),))


@pytest.mark.parametrize("tag", ["gauge changed", "gauge." + "x" * 64])
def test_a_type_whose_name_makes_no_key_is_refused(tag):
    """Too long, or with a space."""
    with pytest.raises(SettingsError, match=r"cannot conflate: its type .* make no conflation key"):
        check_conflation_of(kind_of("gauge", tag))


def test_foreign_json_has_no_fields_to_conflate_by():
    """What is carried verbatim has no id that we know."""

    class Foreign(Event, frozen=True, kw_only=True, tag="foreign.event"):
        conflate_by: ClassVar[str] = "id"
        data: int

    with pytest.raises(SettingsError, match="conflates by 'id'"):
        check_conflation_of(Foreign)
