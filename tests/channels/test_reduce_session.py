"""The rule by which a reader keeps a session: JSON in, JSON out.

``session_reductions.json`` is for readers in every language.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from channels.errors import VersionConflict
from channels.reduce_session import reduce_session

CASES = json.loads((Path(__file__).parent / "session_reductions.json").read_text(encoding="utf-8"))
STATE = CASES[0]["state"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_state_after_an_event(case):
    """What is given stays as it is; what is returned is what the file says, or a gap."""
    given = copy.deepcopy((case["state"], case["event"]))
    if case.get("gap"):
        with pytest.raises(VersionConflict) as caught:
            reduce_session(*given)
        assert caught.value.current == case["state"]["version"]
    else:
        assert reduce_session(*given) == case["result"]
    assert given == (case["state"], case["event"])


def test_a_message():
    """The file is not only what the code made of itself: the window, the count, the idle time."""
    event = {
        "type": "session.message",
        "time": "2026-01-02T03:00:30Z",
        "data": {"version": 5, "message": {"id": "m3", "seq": 3}},
    }
    assert reduce_session(STATE, event) == STATE | {
        "version": 5,
        "message_count": 3,
        "recent_messages": [{"id": "m2", "seq": 2}, {"id": "m3", "seq": 3}],
        "expires_at": "2026-01-02T03:01:30.000Z",
    }


@pytest.mark.parametrize(
    ("time", "expires"),
    [
        ("2026-01-02T03:00:30.1239Z", "2026-01-02T03:01:30.123Z"),
        ("2026-01-02T04:00:30.5+01:00", "2026-01-02T03:01:30.500Z"),
        ("2026-01-02T02:59:00Z", "2026-01-02T03:01:00.000Z"),
        ("2026-01-02T03:01:59Z", "2026-01-02T03:02:00.000Z"),
    ],
)
def test_use_renews_the_idle_time(time, expires):
    """From the time of the event; never earlier than before, never beyond the last end."""
    event = {"type": "session.updated", "time": time, "data": {"version": 5, "patch": {}}}
    assert reduce_session(STATE, event)["expires_at"] == expires


def test_a_patch_merges_nothing_below_the_top():
    """Null clears there; below it null is a value."""
    patch = {"current_agent": None, "last_output": {"c": None}}
    event = {"type": "session.updated", "time": "2026-01-02T03:00:30Z"}
    after = reduce_session(STATE, event | {"data": {"version": 5, "patch": patch}})
    assert "current_agent" not in after
    assert after["last_output"] == {"c": None}
