"""What a reader of a session's channel knows: the state, one event after another.

The rule that every reader follows, in whatever language: take the snapshot, apply each event
after its position. JSON in, JSON out; nothing is looked up, and the clock is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from .errors import VersionConflict

__all__ = ["reduce_session"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def reduce_session(state: dict[str, Any] | None, event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the session after ``event``; ``None`` is no session. ``state`` is not changed.

    An event of a type that is not known changes nothing, nor does one that ``state`` already
    contains. Every change of a session is use: it then ends its idle time after the event's
    time, never earlier than before, never later than ``ends_at``.

    Raises:
        VersionConflict: events before this one are missing: read the snapshot again.
    """
    kind, data = event["type"], event["data"]
    if kind == "session.created":
        begun: dict[str, Any] = data["state"]
        return begun
    if not str(kind).startswith("session.") or state is None:
        return state
    version = data["version"]
    if version <= state["version"]:
        return state
    if version != state["version"] + 1:
        raise VersionConflict(
            f"the state is at version {state['version']}; the event makes {version}",
            state["version"],
        )
    if kind in ("session.deleted", "session.expired"):
        return None
    return {**_changed(state, event), "version": version}


def _changed(state: dict[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    data = event["data"]
    match event["type"]:
        case "session.updated":
            # A merge patch of the top level only: a value is replaced as a whole.
            patch = data["patch"]
            merged = {name: value for name, value in state.items() if name not in patch}
            merged |= {name: value for name, value in patch.items() if value is not None}
            return _used(merged, event)
        case "session.message":
            messages = [*state["recent_messages"], data["message"]][-state["window"] :]
            count = data["message"]["seq"]
            return _used({**state, "recent_messages": messages, "message_count": count}, event)
        case "session.extended":
            return {**state, "expires_at": _text(_ms(data["expires_at"]))}
        case _:
            return state  # a later kind of change: its number is known at least


def _used(state: dict[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state after use at the time of ``event``."""
    used = _ms(event["time"]) + state["idle_ttl_s"] * 1000
    expires = max(_ms(state["expires_at"]), min(used, _ms(state["ends_at"])))
    return {**state, "expires_at": _text(expires)}


def _ms(time: str) -> int:
    return (datetime.fromisoformat(time) - _EPOCH) // _MS


def _text(ms: int) -> str:
    time = _EPOCH + ms * _MS
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
