"""The outbox: what waits to be written to one client, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque

from hub.frame import Frame

__all__ = ["Outbox"]

#: Bytes of text that go into one WebSocket message at most, unless one item is larger. Large
#: enough that a burst costs few system calls, small enough not to delay a ping for long.
MAX_MESSAGE_BYTES = 32 * 1024


class Outbox:
    """A queue of replies and shared frames.

    ``limit_bytes`` is what a slow reader may owe before the connection is ended; what a
    client asked to recover is added on top while it waits, since the hub offered it.
    """

    __slots__ = ("_backlog", "_bytes", "_items", "_limit", "_waiter", "ready")

    def __init__(self, limit_bytes: int) -> None:
        self._items: deque[bytes | Frame] = deque()
        self._bytes = 0
        self._backlog = 0
        self._limit = limit_bytes
        self._waiter: asyncio.Future[None] | None = None
        #: Set while there is something to write, or the connection is to be closed.
        self.ready = asyncio.Event()

    def __len__(self) -> int:
        """Bytes that wait."""
        return self._bytes

    def push(self, item: bytes | Frame) -> bool:
        """Queue ``item``; return False when the client owes too much, and queue nothing."""
        size = len(item)
        if self._bytes + size > self._limit + self._backlog:
            return False
        self._items.append(item)
        self._bytes += size
        self.ready.set()
        return True

    def push_backlog(self, item: bytes) -> None:
        """Queue something the client asked to recover, whatever its size."""
        self._backlog += len(item)
        self.push(item)

    def take(self) -> str:
        """Return the text of the next message: everything that waits, up to a sensible size.

        Empty when nothing waits; then ``ready`` is cleared.
        """
        texts: list[str] = []
        size = 0
        while self._items and (not texts or size + len(self._items[0]) <= MAX_MESSAGE_BYTES):
            item = self._items.popleft()
            size += len(item)
            texts.append(item.text if isinstance(item, Frame) else item.decode("utf-8"))
        self._bytes -= size
        self._wake()
        if not self._items:
            self._backlog = 0
            self.ready.clear()
        return "\n".join(texts)

    def clear(self) -> None:
        """Forget what waits, but keep ``ready`` as it is: the writer still has to look."""
        self._items.clear()
        self._bytes = self._backlog = 0
        self._wake()

    async def drained(self) -> None:
        """Return when the client owes no more than ``limit_bytes``; one may wait at a time.

        Whoever asks for much and reads nothing is not given more.
        """
        while self._bytes > self._limit:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and self._bytes <= self._limit:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None
