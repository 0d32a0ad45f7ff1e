"""Events as text."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from channels import Catalogue, Position, encode_event, events
from clients import Delivery, Gap, Snapshot
from hub.cli.printing import HumanPrinter, JsonPrinter, event_time

CREATED = events.NotificationCreated(
    time=datetime(2026, 5, 1, 12, 0, 0, 123_000, tzinfo=UTC),
    data=events.NotificationCreatedData(user="u1", notification="n1", title="Hello"),
)
GAP = Gap("log:x", Position("e", 2), Position("f", 7))


def delivery(raw: bytes, channel: str = "log:x") -> Delivery:
    """Return a publication that holds ``raw``."""
    return Delivery(channel, Position("e", 3), raw, Catalogue())


def human(raw: bytes, *, colour: bool = False) -> str:
    """Return what people see of ``raw``."""
    out = io.StringIO()
    HumanPrinter(out, colour=colour).event(delivery(raw))
    return out.getvalue()


def test_people_see_time_channel_offset_type_and_data() -> None:
    """An event by its type, and at its own time."""
    clock = CREATED.time.astimezone().strftime("%H:%M:%S.123")
    assert human(encode_event(CREATED)) == (
        f"{clock}  log:x  3  notification.created  "
        '{"user":"u1","notification":"n1","title":"Hello"}\n'
    ).replace('"Hello"', '"Hello","body":"","level":"info","ref":"","subject":""')


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'{"line":"text of a log"}', "text of a log"),
        (b'{"line":1}', '{"line":1}'),
        (b"[1,2]", "[1,2]"),
        (b'{"type":"no event"}', '{"type":"no event"}'),
        (b'"\\ud800"', '"\\ud800"'),
    ],
)
def test_other_json_is_shown_as_it_is(raw: bytes, shown: str) -> None:
    """A line of text as text, the rest as compact JSON."""
    assert human(raw).split("  ", 3)[3] == shown + "\n"


def test_an_event_cannot_play_with_the_terminal() -> None:
    """Escape sequences, C1 controls and reversed text are shown, not obeyed."""
    shown = human(b'{"line":"\\u001b[2J\\u009b1m\\u202eevil\\n\\u2028"}')
    assert shown.endswith("\\u001b[2J\\u009b1m\\u202eevil\\u000a\\u2028\n")
    assert "\x1b" not in human(b'"\x7f"')
    assert shown.count("\n") == 1


def test_colours_only_where_they_are_wanted() -> None:
    """The caller decides."""
    assert "\x1b[36mlog:x" in human(b"1", colour=True)
    assert "\x1b" not in human(b"1")


def test_a_gap_is_a_line_of_its_own() -> None:
    """Nobody overlooks it."""
    out = io.StringIO()
    HumanPrinter(out, colour=False).gap(GAP)
    HumanPrinter(out, colour=False).gap(Gap("log:x", None, Position("", 0)))
    first, second = out.getvalue().splitlines()
    assert first == "-- gap: events of log:x may be missing after e:2; going on at f:7 --"
    assert "after" not in second


def test_what_was_skipped_is_shown() -> None:
    """To people beside the offset, to pipes after it."""
    skipping = Delivery("log:x", Position("e", 9), b"1", Catalogue(), skipped=2)
    out = io.StringIO()
    HumanPrinter(out, colour=False).event(skipping)
    JsonPrinter(out).event(skipping)
    for_people, for_pipes = out.getvalue().splitlines()
    assert for_people.endswith("  log:x  9 (2 skipped)  1")
    assert for_pipes == '{"channel":"log:x","epoch":"e","offset":9,"skipped":2,"data":1}'


def test_pipes_see_one_object_a_line() -> None:
    """The data is exactly what was published."""
    out = io.StringIO()
    JsonPrinter(out).event(delivery('{"n":1.10,"text":"Grüße"}'.encode()))
    JsonPrinter(out).gap(GAP)
    event, gap = out.getvalue().splitlines()
    assert event == ('{"channel":"log:x","epoch":"e","offset":3,"data":{"n":1.10,"text":"Grüße"}}')
    assert json.loads(gap) == {
        "channel": "log:x",
        "gap": {"after": {"epoch": "e", "offset": 2}, "position": {"epoch": "f", "offset": 7}},
    }


@pytest.mark.parametrize("raw", [b"1", b"{}", b'{"time":5}', b'{"time":"soon"}', b'"\\ud800"'])
def test_what_carries_no_time_has_none(raw: bytes) -> None:
    """Nor has a time without a zone."""
    assert event_time(delivery(raw)) is None
    assert event_time(delivery(b'{"time":"2026-05-01T12:00:00"}')) is None
    assert event_time(delivery(encode_event(CREATED))) == CREATED.time


def test_a_state_is_harmless_too() -> None:
    """What could move a cursor is shown as an escape to people, and kept for pipes."""
    raw = '{"a":"\u2028"}'.encode()
    snapshot = Snapshot("log:x", Position("e", 3), raw)
    out = io.StringIO()
    HumanPrinter(out, colour=False).snapshot(snapshot)
    assert out.getvalue().split("  ", 1)[1] == 'log:x  3  snapshot  {"a":"\\u2028"}\n'
    out = io.StringIO()
    JsonPrinter(out).snapshot(snapshot)
    assert json.loads(out.getvalue()) == {
        "channel": "log:x",
        "epoch": "e",
        "offset": 3,
        "snapshot": {"a": "\u2028"},
    }
