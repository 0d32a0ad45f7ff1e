"""The outbox: what waits to be written to one client, bounded in bytes.

While the client reads, nothing waits: a transport that takes bytes at once has opened the
way past the queue, and live batches take it. When the client falls behind, or the transport
only takes what it asks for (plain ASGI), replies and frames queue. Then a
publication with a conflation key may give way to a newer one (``frame_queue.py``); what has
no key is never dropped: a client that owes more than it may is let go, and recovers it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from hub.frame import Batch
from hub.frame_queue import Entry, FrameQueue
from hub.traffic import Traffic

__all__ = ["Outbox"]

#: Bytes taken out at once, and so no longer counted or conflated: what a transport buffers
#: before it asks for a pause.
MAX_TAKE_BYTES = 64 * 1024

_os_write = os.write


def _nothing() -> None:
    pass


class Outbox:
    """A queue of replies and shared frames, for one client.

    ``limit_bytes`` is what a slow reader may owe before the connection is ended, one batch
    more at most (and its frames are shared); what a client asked to recover is added on top
    while it waits, since the hub offered it.
    """

    __slots__ = ("_backlog", "_fd", "_limit", "_queue", "_traffic", "_waiter", "_write", "on_ready")

    def __init__(self, limit_bytes: int, traffic: Traffic) -> None:
        # None while nothing waits: for most clients always, and there are many.
        self._queue: FrameQueue | None = None
        self._backlog = 0
        self._limit = limit_bytes
        self._traffic = traffic
        self._waiter: asyncio.Future[None] | None = None
        #: Called when something begins to wait. It must not take it within the call.
        self.on_ready: Callable[[], object] = _nothing
        # The way past the queue: None and -1 while there is none.
        self._write: Callable[[bytes], object] | None = None
        self._fd = -1

    def __len__(self) -> int:
        """Bytes that wait."""
        return 0 if self._queue is None else self._queue.size

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return self._queue is not None

    # -- past the queue --------------------------------------------------------------------

    def open(self, write: Callable[[bytes], object], fd: int = -1) -> None:
        """Have live batches written with ``write``, until something queues or :meth:`shut`.

        For a transport, while nothing waits. ``fd`` is the socket it writes to, if bytes may
        go there directly as long as this way is open: it holds none back itself, and what the
        socket does not take goes to ``write``, which then shuts this way. That saves a
        microsecond of seven a delivery.
        """
        self._write, self._fd = write, fd

    def shut(self) -> None:
        """Have everything queue from now on."""
        self._write, self._fd = None, -1

    @property
    def is_open(self) -> bool:
        """Whether there is a way past the queue."""
        return self._write is not None

    def write_now(self, data: bytes) -> bool:
        """Write ``data`` past the queue; return False when there is no way."""
        if (fd := self._fd) >= 0:
            try:
                sent = _os_write(fd, data)
            except OSError:
                sent = 0  # it is full, or broken: the transport finds out
            if sent != len(data) and self._write is not None:
                self._write(data[sent:])
            return True
        if self._write is None:
            return False
        self._write(data)
        return True

    # -- the queue -------------------------------------------------------------------------

    def push(self, entry: Entry) -> bool:
        """Queue ``entry``; return False when the client owes too much, and queue nothing."""
        if len(entry) + len(self) > self._limit + self._backlog:
            return False
        self._queue_up(entry)
        return True

    def push_backlog(self, entry: Entry) -> None:
        """Queue something the client asked to recover, whatever its size."""
        self._backlog += len(entry)
        self._queue_up(entry)

    def push_batch(self, batch: Batch) -> bool:
        """Queue live publications; return False when the client owes too much already.

        What it owed before counts, not the batch: a batch is what came in one turn of the
        loop, and after a stall it can be large, through no fault of the client's.
        """
        if len(self) > self._limit + self._backlog:
            return False
        for frame in batch.frames:
            if frame.publication.key and self._queue is not None and self._queue.supersede(frame):
                self._traffic.dropped("conflated")
            self._queue_up(frame)
        return True

    def _queue_up(self, entry: Entry) -> None:
        if self._queue is None:
            self._queue = FrameQueue()
            self.shut()  # nothing may overtake what waits
            self._queue.push(entry)
            self.on_ready()
        else:
            self._queue.push(entry)

    def take(self) -> list[Entry]:
        """Return the next of what waits, at most 64 KiB or one entry; empty when nothing does."""
        if self._queue is None:
            return []
        entries = self._queue.pop(MAX_TAKE_BYTES)
        if not self._queue:
            self._queue = None
            self._backlog = 0
        self._wake()
        return entries

    def clear(self) -> None:
        """Forget what waits."""
        self._queue = None
        self._backlog = 0
        self._wake()

    async def drained(self) -> None:
        """Return when the client owes no more than ``limit_bytes``; one may wait at a time.

        Whoever asks for much and reads nothing is not given more.
        """
        while len(self) > self._limit:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and len(self) <= self._limit:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None
