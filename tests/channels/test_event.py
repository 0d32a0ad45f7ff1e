"""The base of events: what encodes, what decodes, and what is refused."""

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import encode_event, event_type, events
from channels.errors import BadRequest
from channels.event import Event, EventDecoder

from .strategies import json_values

TIME = "2026-01-02T03:04:05Z"
DELETED = {
    "type": "session.deleted",
    "id": "e1",
    "source": "/fanwire",
    "specversion": "1.0",
    "time": TIME,
    "data": {"workspace": "w1", "session": "s1", "version": 1},
}
decoder = EventDecoder((events.SessionDeleted, events.SessionUpdated))
run_decoder = EventDecoder((events.RunEvent,))


def deleted(**changes):
    """Return the JSON of an event with some attributes changed; ``...`` leaves one out."""
    attributes = {name: one for name, one in (DELETED | changes).items() if one is not ...}
    return json.dumps(attributes).encode()


def patch(value):
    """Return an event that carries ``value``."""
    data = events.SessionUpdatedData(workspace="w1", session="s1", version=2, patch=value)
    return events.SessionUpdated(data=data)


def verbatim(text):
    """Return an event with ``text`` as it is for data."""
    return events.RunEvent(data=msgspec.Raw(text), id="e1")


class TestDecoding:
    """Reading an event."""

    def test_reads_what_stands_there(self):
        """All attributes arrive; the time is aware."""
        event = decoder.decode(deleted(subject="s1"))
        assert event == events.SessionDeleted(
            id="e1",
            source="/fanwire",
            time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            subject="s1",
            data=events.SessionData(workspace="w1", session="s1", version=1),
        )

    def test_a_time_of_another_zone_is_the_same_moment(self):
        """Offsets are kept or normalised, never dropped."""
        event = decoder.decode(deleted(time="2026-01-02T08:34:05+05:30"))
        assert event.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    @pytest.mark.parametrize("name", ["id", "source", "specversion", "time", "type", "data"])
    @pytest.mark.parametrize("decode", [decoder.decode, run_decoder.decode])
    def test_nothing_is_invented_for_what_is_missing(self, name, decode):
        """A reader that filled in an id or a time would make up what happened."""
        kind = "session.deleted" if decode == decoder.decode else "run.event"
        with pytest.raises(BadRequest, match=f"missing required field `{name}`"):
            decode(deleted(**{"type": kind, name: ...}))

    @pytest.mark.parametrize(
        "changes",
        [
            {"time": "2026-01-02T03:04:05"},
            {"time": "2026-01-02"},
            {"time": "yesterday"},
            {"time": 1767322800},
            {"time": None},
            {"specversion": "0.3"},
            {"specversion": None},
            {"type": "session.created"},
            {"type": 1},
            {"type": None},
            {"id": ""},
            {"id": "a b"},
            {"id": "a\n"},
            {"id": "x" * 65},
            {"id": 5},
            {"source": ""},
            {"source": "a b"},
            {"source": "a\n"},
            {"source": "a\0"},
            {"source": "//\u2028"},
            {"source": "x" * 513},
            {"subject": ""},
            {"subject": None},
            {"subject": "a\nb"},
            {"subject": "a\x7f"},
            {"subject": "a\u0085"},
            {"data": None},
            {"data": []},
            {"data": {"workspace": "w1", "session": "s1", "version": 0}},
            {"data": {"workspace": "w1", "session": "s:1", "version": 1}},
        ],
        ids=repr,
    )
    def test_what_is_no_such_event_is_refused(self, changes):
        """The message names the types that were expected."""
        with pytest.raises(
            BadRequest, match=r"expected an event of type session\.deleted, session"
        ):
            decoder.decode(deleted(**changes))

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"\xff",
            b'{"type":"\xff"}',
            b"[" * 65_536,
            b'{"x":' * 13_000,
            deleted(extra="\ud800"),
            deleted() + b"x",
            deleted()[:-1] + b',"type":"session.updated"}',
        ],
        ids=lambda text: repr(text[:20]),
    )
    def test_garbage_is_a_bad_request(self, text):
        """Bad UTF-8, bombs and broken JSON raise the one error that callers catch."""
        with pytest.raises(BadRequest):
            decoder.decode(text)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_an_event_or_a_bad_request(self, text):
        """Nothing else comes out."""
        with pytest.raises(BadRequest):
            decoder.decode(text)

    def test_unknown_attributes_are_ignored(self):
        """Extensions of CloudEvents and fields of newer writers do no harm."""
        assert decoder.decode(deleted(traceparent="00-1", n=[1])) == decoder.decode(deleted())


class TestEncoding:
    """Writing an event."""

    def test_fills_in_what_the_writer_need_not_say(self):
        """Each event gets an id of its own, the present time in UTC, and no empty subject."""
        one, two = (json.loads(encode_event(patch({}))) for _ in range(2))
        assert one["id"] != two["id"]
        assert one["time"].endswith("Z")
        assert one["specversion"] == "1.0"
        assert "subject" not in one

    def test_a_time_of_another_zone_keeps_its_offset(self):
        """The moment survives the way through JSON."""
        zone = timezone(timedelta(hours=-7))
        event = events.SessionDeleted(
            time=datetime(2026, 1, 2, tzinfo=zone),
            data=events.SessionData(workspace="w1", session="s1", version=1),
        )
        assert decoder.decode(encode_event(event)).time == event.time

    @pytest.mark.parametrize(
        "text", [b'{"a":\n1}', b'{"a":\r\n1}', b'\n{"a":1}\n', b'{\r"a":1}'], ids=repr
    )
    def test_line_ends_in_verbatim_data_become_spaces(self, text):
        """They stood between tokens; a frame ends at a newline."""
        encoded = encode_event(verbatim(text))
        assert b"\n" not in encoded
        assert b"\r" not in encoded
        assert json.loads(encoded)["data"] == {"a": 1}

    @pytest.mark.parametrize("text", [b'"a\nb"', b'1}\n{"push":{}', b"\n", b'"\xff\n"'], ids=repr)
    def test_verbatim_data_cannot_smuggle_in_a_line(self, text):
        """A line end inside a string or between two values is refused."""
        with pytest.raises(BadRequest):
            encode_event(verbatim(text))

    @given(json_values)
    def test_verbatim_data_travels_as_it_is(self, value):
        """Data that is one line of JSON is not touched, however it is spelled."""
        text = json.dumps(value, indent=None, ensure_ascii=True).encode()
        decoded = run_decoder.decode(encode_event(verbatim(text)))
        assert bytes(decoded.data) == text

    def test_u2028_stays(self):
        """It is no line end in JSON, nor in a frame."""
        assert "\u2028".encode() in encode_event(patch({"a": "\u2028"}))

    @pytest.mark.parametrize(
        "value", ["\ud800", object(), {1, object()}], ids=["surrogate", "object", "set"]
    )
    def test_what_json_cannot_say_is_refused(self, value):
        """Lone surrogates come out of other programs' JSON; they must not go further."""
        with pytest.raises(BadRequest, match="cannot be told in JSON"):
            encode_event(patch({"a": value}))

    def test_endless_nesting_is_refused(self):
        """The interpreter survives a structure that contains itself."""
        value = {}
        value["a"] = value
        with pytest.raises(BadRequest, match="cannot be told in JSON"):
            encode_event(patch(value))

    @pytest.mark.parametrize("id", ["", "a b", "a\n", "x" * 65])
    def test_an_id_that_is_none_is_refused(self, id):
        """It stands between spaces in what Redis carries: it would tear the message apart."""
        with pytest.raises(BadRequest, match="the event's id must be 1-64 characters"):
            encode_event(events.RunEvent(data=msgspec.Raw(b"1"), id=id))

    def test_nan_is_null(self):
        """JSON has no word for it."""
        text = encode_event(patch({"a": float("nan"), "b": float("inf")}))
        assert json.loads(text)["data"]["patch"] == {"a": None, "b": None}


class TestTypes:
    """The wire name of a class."""

    def test_is_its_tag(self):
        """The tag is wire format."""
        assert event_type(events.SessionCreated) == "session.created"

    def test_must_be_spelled_out(self):
        """The name of a class is no wire name: renaming it would break readers."""

        class Untagged(Event, frozen=True, kw_only=True):
            """An event that forgot its tag."""

        with pytest.raises(TypeError, match="Untagged is not a concrete event"):
            EventDecoder((Untagged,))
