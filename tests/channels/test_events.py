"""Every typed event: valid CloudEvents, one wire name, one place, and room to grow."""

import json
from pathlib import Path
from runpy import run_path

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import encode_event, event_type
from channels.catalogue import BUILT_IN
from channels.event import Event, EventDecoder

from .strategies import EVENT_CLASSES, events_of

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((Path(__file__).parent / "golden_events.json").read_text(encoding="utf-8"))
JOBS = (
    "job.enqueued job.started job.progress job.completed job.failed job.retrying job.dead"
    " job.cancelled"
)
#: The table of channels in the design, plus the hub's own.
CHANNELS = {
    "session:{workspace}:{session}": (
        "session.created session.updated session.message session.extended session.deleted"
        " session.expired"
    ),
    "approvals:{workspace}": (
        "approval.requested approval.voted approval.escalated approval.approved"
        " approval.edited approval.rejected approval.expired approval.cancelled approval.consumed"
    ),
    "usage:{user}": (
        "usage.recorded usage.corrected budget.threshold budget.exceeded budget.reserved"
        " budget.released ratelimit.exceeded"
    ),
    "queue:{queue}": JOBS,
    "jobs:{workspace}": JOBS,
    "notifications:{user}": "notification.created notification.resolved",
    "auth:{user}": (
        "auth.session_created auth.session_revoked auth.session_rotated auth.session_expired"
    ),
    "workspace:{workspace}": (
        "foundation.updated icps.updated cache.invalidated preferences.updated"
        " onboarding.started onboarding.updated onboarding.completed onboarding.reset"
        " onboarding.expired usage.corrected budget.threshold budget.exceeded"
        " semantic.stored semantic.removed semantic.tightened"
    ),
    "org:{organisation}": "usage.corrected budget.threshold budget.exceeded",
    "run:{workspace}:{run}": "run.event",
    "hub:nodes": "hub.node.reported",
    "hub:cache": "cache.invalidated",
}

every_event = pytest.mark.parametrize("kind", EVENT_CLASSES, ids=event_type)
decoder = EventDecoder(EVENT_CLASSES)


def contains(whole, part):
    """Return whether ``whole`` says everything that ``part`` says."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and contains(whole[key], value) for key, value in part.items()
        )
    return whole == part


@every_event
@given(data=st.data())
@settings(max_examples=15)
def test_an_event_is_a_cloud_event_and_reads_back_equal(kind, data):
    """What one side encodes is valid for the reference package and equal on the other side."""
    event = data.draw(events_of(kind))
    text = encode_event(event)
    assert b"\n" not in text
    assert b"\r" not in text
    assert decoder.decode(text) == event
    foreign = JSONFormat().read(None, text)
    assert foreign.get_type() == event_type(kind)
    assert foreign.get_id() == event.id
    assert foreign.get_source() == event.source
    assert foreign.get_time() == event.time
    assert foreign.get_subject() == (None if event.subject is msgspec.UNSET else event.subject)
    assert foreign.get_data() == json.loads(text)["data"]


def test_every_type_has_a_name_of_its_own():
    """Wire names are unique: lower case, dots, and ``_`` between two words."""
    names = [event_type(kind) for kind in EVENT_CLASSES]
    assert len(names) == len(set(names))
    for name in names:
        parts = name.split(".")
        assert len(parts) >= 2
        words = [word for part in parts for word in part.split("_")]
        assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


def test_every_type_is_in_its_channels_and_in_no_other():
    """The declarations carry exactly what the design's table says."""
    declared = {one.pattern: {event_type(kind) for kind in one.events} for one in BUILT_IN}
    assert declared == {pattern: set(names.split()) for pattern, names in CHANNELS.items()}
    assert set().union(*declared.values()) == {event_type(kind) for kind in EVENT_CLASSES}


@every_event
def test_data_is_a_structure_of_named_fields(kind):
    """Only run.event carries foreign JSON; every other payload is a frozen struct."""
    data = kind.__annotations__["data"]
    assert (data == "Raw") == (event_type(kind) == "run.event")


@every_event
def test_an_older_reader_understands_a_newer_writer(kind):
    """Unknown fields, in the event and in its data, are no reason to refuse it."""
    golden = GOLDEN[event_type(kind)]
    newer = golden | {"traceparent": "00-1", "new": {"deep": [1, {}]}}
    if event_type(kind) != "run.event":
        newer["data"] = golden["data"] | {"added_later": {"deep": [1, {}]}}
        assert decoder.decode(json.dumps(newer).encode()) == decoder.decode(
            json.dumps(golden).encode()
        )
    assert isinstance(decoder.decode(json.dumps(newer).encode()), kind)


@every_event
def test_the_wire_is_what_it_was(kind):
    """Renaming or dropping a field changes what stored and foreign events mean."""
    golden = GOLDEN[event_type(kind)]
    event = decoder.decode(json.dumps(golden).encode())
    assert type(event) is kind
    assert contains(json.loads(encode_event(event)), golden)


@every_event
def test_the_golden_event_shows_every_field(kind):
    """A field that the golden file does not know would not be guarded."""
    event = decoder.decode(json.dumps(GOLDEN[event_type(kind)]).encode())
    golden = GOLDEN[event_type(kind)]
    assert set(json.loads(encode_event(event))) == set(golden)
    if event_type(kind) != "run.event":
        assert set(msgspec.to_builtins(event.data)) == set(golden["data"])


def test_the_golden_file_holds_one_event_of_every_type():
    """Nothing is left over from a type that is gone."""
    assert set(GOLDEN) == {event_type(kind) for kind in EVENT_CLASSES}


def test_the_committed_table_of_events_is_up_to_date():
    """docs/events.md is what its script makes of the classes."""
    script = run_path(str(ROOT / "docs" / "make_events.py"))
    assert script["TARGET"].read_text(encoding="utf-8") == script["make"]()


def test_the_base_is_no_event():
    """Only classes with a tag of their own can be published."""
    with pytest.raises(TypeError, match="spells out no tag"):
        event_type(Event)
