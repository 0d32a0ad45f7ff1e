"""Snapshots: what a channel's events are about, as it is at one position of the channel.

State and position are read in one script, so no change falls between: a reader that has the
snapshot and applies every event after its position has the state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from channels.catalogue import Channel
from channels.position import Position

__all__ = ["Snapshot", "Snapshots"]


class Snapshot(NamedTuple):
    """``data`` is JSON, one line; ``id`` that of the publication at ``position``."""

    data: bytes
    position: Position
    id: str


#: Reads the snapshot of a channel, in one script and in less than 5 seconds. Keep it small: what
#: is larger than 640 KiB is refused to clients that do not say that they take more, and what is
#: larger than 4 MiB to everybody. Raises ``StoreError`` when it cannot be read, and a
#: ``RequestError`` where there is none to be had.
Snapshotter: TypeAlias = Callable[[Channel], Awaitable[Snapshot]]


class Snapshots:
    """Who can tell the state behind a channel, by the channel's namespace."""

    __slots__ = ("_by_namespace",)

    def __init__(self) -> None:
        self._by_namespace: dict[str, Snapshotter] = {}

    def offer(self, namespace: str, snapshotter: Snapshotter) -> None:
        """Have the snapshots of ``namespace:...`` read by ``snapshotter``."""
        self._by_namespace[namespace] = snapshotter

    def find(self, channel: Channel) -> Snapshotter | None:
        """Return who reads the snapshot of ``channel``; None where it has no state behind it."""
        return self._by_namespace.get(channel.declaration.namespace)
