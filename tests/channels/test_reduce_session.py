"""The rule by which a reader keeps a session: JSON in, JSON out."""

from __future__ import annotations

import copy

import pytest

from channels.errors import VersionConflict
from channels.reduce_session import reduce_session

STATE = {
    "session_id": "s1",
    "workspace_id": "w1",
    "user_id": "ada",
    "version": 4,
    "created_at": "2026-01-02T03:00:00.000Z",
    "expires_at": "2026-01-02T03:01:00.000Z",
    "ends_at": "2026-01-02T03:02:00.000Z",
    "idle_ttl_s": 60,
    "window": 2,
    "message_count": 2,
    "recent_messages": [{"id": "m1", "seq": 1}, {"id": "m2", "seq": 2}],
    "current_agent": "a",
    "last_output": {"a": {"b": 1}},
}


def event(kind, *, version=5, time="2026-01-02T03:00:30Z", **data):
    """Return an event as a reader gets it."""
    return {"type": f"session.{kind}", "time": time, "data": {"version": version, **data}}


def test_the_state_that_is_given_stays_as_it_is():
    """A reader may keep every state it had."""
    before = copy.deepcopy(STATE)
    after = reduce_session(STATE, event("message", message={"id": "m3", "seq": 3}))
    after["recent_messages"].append("x")
    assert before == STATE


def test_a_message_pushes_the_oldest_out():
    """The window is the session's own."""
    after = reduce_session(STATE, event("message", message={"id": "m3", "seq": 3}))
    assert after == STATE | {
        "version": 5,
        "message_count": 3,
        "recent_messages": [{"id": "m2", "seq": 2}, {"id": "m3", "seq": 3}],
        "expires_at": "2026-01-02T03:01:30.000Z",
    }


def test_a_patch_replaces_each_value_whole():
    """Null clears; below the top level nothing is merged, so null is a value there."""
    patch = {"current_agent": None, "last_output": {"c": None}, "current_task": "t"}
    after = reduce_session(STATE, event("updated", patch=patch))
    assert "current_agent" not in after
    assert after["last_output"] == {"c": None}
    assert after["current_task"] == "t"


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
    after = reduce_session(STATE, event("updated", time=time, patch={}))
    assert after["expires_at"] == expires


def test_an_extension_says_when():
    """And is not use: what it says holds."""
    after = reduce_session(STATE, event("extended", expires_at="2026-01-02T03:01:10.5Z"))
    assert after == STATE | {"version": 5, "expires_at": "2026-01-02T03:01:10.500Z"}


@pytest.mark.parametrize("kind", ["deleted", "expired"])
def test_an_end_leaves_nothing(kind):
    """Until it begins again."""
    assert reduce_session(STATE, event(kind)) is None
    assert reduce_session(None, event(kind)) is None
    again = reduce_session(None, event("created", version=1, state=STATE | {"version": 1}))
    assert again == STATE | {"version": 1}


def test_what_is_known_already_changes_nothing():
    """Events before the snapshot may come again."""
    assert reduce_session(STATE, event("deleted", version=4)) == STATE
    assert reduce_session(STATE, event("updated", version=2, patch={"a": 1})) == STATE


def test_a_missing_event_is_noticed():
    """The reader must take a snapshot; it is told where it stands."""
    with pytest.raises(VersionConflict, match="version 4; the event makes 6") as caught:
        reduce_session(STATE, event("updated", version=6, patch={}))
    assert caught.value.current == 4


def test_kinds_of_later_versions_do_no_harm():
    """Of sessions: their number counts. Of others: nothing."""
    assert reduce_session(STATE, event("renamed")) == STATE | {"version": 5}
    assert reduce_session(STATE, {"type": "run.event", "data": {}}) == STATE
    assert reduce_session(None, event("message", message={})) is None
