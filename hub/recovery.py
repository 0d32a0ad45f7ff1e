"""Recovery: everybody who comes back to a room is served from one read of the log.

When a node or the network between goes down, all subscribers of a channel come back within
seconds, each from a slightly different position. The first has the log read; those who come
meanwhile wait for the same read, and those who come later find what was read, and what was
told since, in the room's :class:`~hub.tail.Tail`. A gap is only told after a read that began
when the reader had asked already, and whatever a tail cannot prove is asked of the log for
that reader alone.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable

from channels.catalogue import Channel
from channels.cursor import CursorPosition
from channels.errors import StoreError, StoreUnavailable
from channels.position import Position
from hub.room import Room
from hub.tail import Tail
from services.event_log import PAGE_SIZE, EventLog, Recovered

__all__ = ["Recovery"]

#: Seconds a tail is kept after its read. As long as a crowd needs to come back (clients wait
#: 0.5 to 3 seconds), and so short that what was removed from the log is not told for long.
KEEP_S = 5.0
#: Bytes that the tails of all rooms may hold, as they were read; beyond, the oldest is
#: forgotten. A node with many rooms must not pay for each what a large one may cost.
MAX_KEPT_BYTES = 64 * 1024 * 1024
#: Publications read beyond the lowest position of a crowd: those who come next stood a little
#: lower. At 1,000 a second that is a quarter of a second, far more than what connections
#: which broke at the same moment differ by.
_CROWD_MARGIN = 256
#: The same for a single reader, who should not pay for a crowd: what the log may be ahead.
_MARGIN = 16
#: Readers answered a turn of the loop: at 0.1 ms for a reply of 100 publications, what live
#: delivery has to wait for stays below 5 ms.
_BATCH = 32
#: Reads a reader waits for before it reads for itself, while the log and the room disagree.
_MAX_READS = 2


class _Waiter:
    """Somebody who wants to know what came after ``since``; ``None`` sends it to the log."""

    __slots__ = ("answer", "reads", "since")

    def __init__(self, since: CursorPosition) -> None:
        self.since = since
        self.answer: asyncio.Future[Recovered | None] = asyncio.get_running_loop().create_future()
        #: Reads that began since it asked.
        self.reads = 0

    def settle(self, room: Room) -> None:
        """Answer from the room's tail, if that may be done by now."""
        if self.answer.done():
            return  # it gave up
        if room.tail.holds(room.position, room.id):
            found = room.tail.recover(self.since.position, self.since.id)
            if self.reads or _is_sure(found):
                self.answer.set_result(found)
        elif self.reads >= _MAX_READS:
            self.answer.set_result(None)

    def fail(self, error: Exception) -> None:
        """Tell that the read failed."""
        if not self.answer.done():
            # Each its own: a shared one would collect the traceback of everybody.
            self.answer.set_exception(copy.copy(error))


class _Reading:
    """The reads of one room's log, one after the other, as long as somebody waits."""

    __slots__ = ("task", "waiting")

    def __init__(self) -> None:
        self.waiting: list[_Waiter] = []
        self.task: asyncio.Task[None] | None = None

    def fail(self, error: Exception) -> None:
        """Tell everybody who still waits."""
        for waiter in self.waiting:
            waiter.fail(error)


def _is_sure(found: Recovered | None) -> bool:
    """Tell whether what a tail of any age said is true now: a gap may be closed by now."""
    return found is not None and found.gap is None


class Recovery:
    """What the subscribers of one node's rooms missed."""

    __slots__ = ("_check_store", "_closed", "_keep_s", "_kept", "_kept_bytes", "_log", "_readings")

    def __init__(
        self, log: EventLog, *, check_store: Callable[[], None], keep_s: float = KEEP_S
    ) -> None:
        """Recover from ``log``; ``check_store`` raises ``StoreUnavailable`` while it is away."""
        self._log = log
        self._check_store = check_store
        self._keep_s = keep_s
        self._readings: dict[Room, _Reading] = {}
        #: The rooms whose tail is kept, the oldest first: its end, and its size when read.
        self._kept: dict[Room, tuple[asyncio.TimerHandle, int]] = {}
        self._kept_bytes = 0
        self._closed = False

    async def recover(self, room: Room, since: CursorPosition) -> Recovered:
        """Return what came after ``since``, by the rule of ``EventLog.recover``.

        The subscriber must be in the room already. The result is never older than the room:
        what the room is told from now on comes after it, or is part of it.

        Raises:
            StoreError: the log could not be read, or the engine is closing.
        """
        if room.tail.holds(room.position, room.id):
            found = room.tail.recover(since.position, since.id)
            if found is not None and _is_sure(found):
                return found
        if self._closed:
            raise _closing()
        self._check_store()
        waiter = _Waiter(since)
        reading = self._readings.get(room)
        if reading is None:
            reading = self._readings[room] = _Reading()
            name = f"fanwire-recovery {room.channel.name}"
            reading.task = asyncio.create_task(self._serve(room, reading), name=name)
        reading.waiting.append(waiter)
        found = await waiter.answer
        if found is None:
            found = await self._log.recover(room.channel, since.position, since.id)
        return found

    async def close(self) -> None:
        """End the reads that are under way and forget every tail."""
        self._closed = True
        tasks = [reading.task for reading in self._readings.values() if reading.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for reading in self._readings.values():
            reading.fail(_closing())  # its task had not begun
        self._readings.clear()
        for room in list(self._kept):
            self._forget(room)

    # -- reading for everybody -------------------------------------------------------------

    async def _serve(self, room: Room, reading: _Reading) -> None:
        """Read, and answer everybody, until nobody waits; whoever asks meanwhile takes part."""
        error: Exception = _closing()
        try:
            while waiting := [waiter for waiter in reading.waiting if not waiter.answer.done()]:
                reading.waiting = waiting
                await self._read_for(room, waiting)
                # Those who came during the read may be in its reach too.
                for start in range(0, len(waiting), _BATCH):
                    for waiter in waiting[start : start + _BATCH]:
                        waiter.settle(room)
                    await asyncio.sleep(0)
        except Exception as failure:
            error = failure
            if not isinstance(failure, StoreError):
                raise
        finally:
            del self._readings[room]
            reading.fail(error)

    async def _read_for(self, room: Room, asked: list[_Waiter]) -> None:
        """Read the room's tail anew, from the lowest position of those who asked."""
        self._forget_later(room)
        here = room.position
        lowest = here.offset
        for waiter in asked:
            waiter.reads += 1
            if waiter.since.position.epoch == here.epoch:
                lowest = min(lowest, waiter.since.position.offset)
        if not room.tail.holds(here, room.id):
            # What the room is told during the read may be missing there: it is kept here.
            room.tail = Tail(here, room.id, keep=room.channel.declaration.history.size)
        margin = _CROWD_MARGIN if len(asked) > 1 else _MARGIN
        try:
            read = await self._read(room.channel, lowest, here.offset - lowest + 1 + margin)
        except BaseException:
            room.tail.forget()
            raise
        read.follow(room.tail)
        room.tail = read
        self._keep(room)

    async def _read(self, channel: Channel, lowest: int, count: int) -> Tail:
        """Return the newest ``count`` publications, or more, until ``lowest`` is reached."""
        limit = min(count, PAGE_SIZE)
        page = await self._log.read(channel, limit=limit, reverse=True)
        tail = Tail(page.top, page.top_id, keep=channel.declaration.history.size)
        while tail.prepend(page, limit) and tail.base > lowest:
            limit = PAGE_SIZE
            since = Position(tail.epoch, tail.base + 1)
            page = await self._log.read(channel, since=since, limit=limit, reverse=True)
        return tail

    # -- keeping what was read -------------------------------------------------------------

    def _keep(self, room: Room) -> None:
        loop = asyncio.get_running_loop()
        size = room.tail.size_bytes
        self._kept[room] = loop.call_later(self._keep_s, self._forget, room), size
        self._kept_bytes += size
        while self._kept_bytes > MAX_KEPT_BYTES and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))

    def _forget(self, room: Room) -> None:
        self._forget_later(room)
        room.tail.forget()

    def _forget_later(self, room: Room) -> None:
        """Leave the end of the room's tail to whoever reads it now."""
        kept = self._kept.pop(room, None)
        if kept is not None:
            timer, size = kept
            timer.cancel()
            self._kept_bytes -= size


def _closing() -> StoreUnavailable:
    return StoreUnavailable("this node is shutting down")
