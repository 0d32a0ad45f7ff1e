"""What a connection wants done: its only way to the world.

An effect that asks for something (``Join``, ``Publish``, ``ReadHistory``) is always the last of
a list; the driver answers it before the connection goes on.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from msgspec import Raw

from channels.catalogue import Channel
from channels.errors import Disconnect
from channels.position import Position
from hub.wish import Wish

__all__ = ["Close", "Effect", "Join", "Leave", "Publish", "ReadHistory", "Send"]


class Send(NamedTuple):
    """Write ``data`` to the client. ``backlog`` marks what it asked to recover."""

    data: bytes
    backlog: bool = False


class Join(NamedTuple):
    """Let the client into the channel; answer with ``joined`` or ``failed``."""

    channel: Channel
    since: Position | None
    snapshot: Wish = Wish.NEVER


class Leave(NamedTuple):
    """Let the client out of the channel."""

    channel: str


class Publish(NamedTuple):
    """Publish for the client; answer with ``published`` or ``failed``."""

    channel: Channel
    data: Raw
    info: bytes


class ReadHistory(NamedTuple):
    """Read the channel's log; answer with ``history_read`` or ``failed``."""

    channel: Channel
    since: Position | None
    limit: int
    reverse: bool


class Close(NamedTuple):
    """Write what is queued, then end the connection; no effect follows."""

    disconnect: Disconnect


Effect: TypeAlias = Send | Join | Leave | Publish | ReadHistory | Close
