"""Reading the state behind a channel: one read for everybody who waits for it.

A crowd that comes back wants the same snapshot of the same channel within a second. Whoever
asks gets one whose read began after it had asked, so that it sees what it did before; all who
asked before a read began share it, and reads of one channel follow each other at a pace. So a
crowd costs a few reads, however large it is.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable

from channels.catalogue import Channel
from channels.errors import FanwireError, LimitExceeded, NotAvailable, StoreUnavailable
from services.snapshots import Snapshot, Snapshots, Snapshotter

__all__ = ["SnapshotReader"]

_log = logging.getLogger(__name__)

#: Seconds between the beginnings of two reads of one channel: 40 of them a second at most,
#: whatever comes. A reader that is alone waits only if somebody else was there just before.
PACE_S = 0.025
#: Seconds one read may take. Those who wait are held up, and what is published meanwhile is
#: held for each of them.
TIMEOUT_S = 5.0
#: Bytes of a snapshot that anybody gets; a client of the bidirectional protocol that does not
#: ask for it gets less, see ``ConnectionSettings.snapshot_bytes``.
MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024
#: Readers answered a turn of the loop, and bytes that their replies may have together: writing
#: them takes a few milliseconds, which live delivery has to wait for, and sockets drain between.
_BATCH = 32
_BATCH_BYTES = 4 * 1024 * 1024


class _SnapshotFailed(StoreUnavailable):
    @property
    def public_message(self) -> str:
        return "the state behind the channel cannot be read now; try again soon"


class _Reading:
    """The reads of one channel, one after the other, as long as somebody waits."""

    __slots__ = ("task", "waiting")

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Snapshot]] = []
        self.task: asyncio.Task[None] | None = None

    def fail(self, waiting: list[asyncio.Future[Snapshot]], error: Exception) -> None:
        """Tell those who wait that there is nothing to be had."""
        for waiter in waiting:
            if not waiter.done():
                # Each its own: a shared one would collect the traceback of everybody.
                waiter.set_exception(copy.copy(error))


class SnapshotReader:
    """The snapshots of one node's channels."""

    __slots__ = ("_check_store", "_closed", "_pace_s", "_readings", "_snapshots", "_timeout_s")

    def __init__(
        self,
        snapshots: Snapshots,
        *,
        check_store: Callable[[], None] = lambda: None,
        pace_s: float = PACE_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Read ``snapshots``; ``check_store`` raises ``StoreUnavailable`` while Redis is away."""
        self._snapshots = snapshots
        self._check_store = check_store
        self._pace_s = pace_s
        self._timeout_s = timeout_s
        self._readings: dict[str, _Reading] = {}
        self._closed = False

    def offers(self, channel: Channel) -> bool:
        """Whether there is a state behind ``channel`` that can be told."""
        return self._snapshots.find(channel) is not None

    def check(self, channel: Channel) -> None:
        """Refuse a channel without a state; raises ``NotAvailable``."""
        if not self.offers(channel):
            raise NotAvailable(
                f"channel {channel.name!r} has no snapshot: there is no state behind it that "
                "the hub could tell"
            )

    async def read(self, channel: Channel) -> Snapshot:
        """Return the state behind ``channel``, by a read that begins after this call.

        Raises:
            NotAvailable: there is none.
            StoreError: it could not be read, or the engine is closing.
            LimitExceeded: it is larger than anybody could take.
            RequestError: whoever reads it says that there is nothing to be had.
        """
        self.check(channel)
        if self._closed:
            raise _closing()
        self._check_store()
        waiter: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        reading = self._readings.get(channel.name)
        if reading is None:
            reading = self._readings[channel.name] = _Reading()
            name = f"fanwire-snapshot {channel.name}"
            reading.task = asyncio.create_task(self._serve(channel, reading), name=name)
        reading.waiting.append(waiter)
        return await waiter

    async def close(self) -> None:
        """End the reads that are under way."""
        self._closed = True
        readings = list(self._readings.values())
        tasks = [reading.task for reading in readings if reading.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for reading in readings:
            reading.fail(reading.waiting, _closing())  # its task had not begun
        self._readings.clear()

    async def _serve(self, channel: Channel, reading: _Reading) -> None:
        """Read, and answer everybody who asked before, until nobody waits."""
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[Snapshot]] = []
        try:
            while True:
                waiting, reading.waiting = reading.waiting, []
                waiting = [waiter for waiter in waiting if not waiter.done()]  # some gave up
                if not waiting:
                    return
                again_at = loop.time() + self._pace_s
                await self._answer(channel, reading, waiting)
                # Also with nobody waiting: the next of a crowd is on its way, and it is the
                # time between two reads that bounds what they cost.
                await asyncio.sleep(again_at - loop.time())
        finally:
            del self._readings[channel.name]
            reading.fail([*waiting, *reading.waiting], _closing())

    async def _answer(
        self, channel: Channel, reading: _Reading, waiting: list[asyncio.Future[Snapshot]]
    ) -> None:
        try:
            snapshot = await self._read(channel)
        except FanwireError as error:
            reading.fail(waiting, error)
        else:
            batch = max(1, min(_BATCH, _BATCH_BYTES // len(snapshot.data)))
            for start in range(0, len(waiting), batch):
                for waiter in waiting[start : start + batch]:
                    if not waiter.done():
                        waiter.set_result(snapshot)
                await asyncio.sleep(0)

    async def _read(self, channel: Channel) -> Snapshot:
        snapshotter: Snapshotter | None = self._snapshots.find(channel)
        if snapshotter is None:
            raise _SnapshotFailed(f"nobody reads the snapshot of {channel.name!r} any more")
        try:
            async with asyncio.timeout(self._timeout_s):
                snapshot = await snapshotter(channel)
        except TimeoutError:
            raise _SnapshotFailed(
                f"the snapshot of {channel.name!r} took longer than {self._timeout_s:g} s"
            ) from None
        except FanwireError:
            raise
        except Exception as error:
            _log.exception("the snapshot of %r failed", channel.name)
            raise _SnapshotFailed(f"{type(error).__name__}: {error}") from error
        if not snapshot.data:
            raise _SnapshotFailed(f"the snapshot of {channel.name!r} is no JSON: it is empty")
        if len(snapshot.data) > MAX_SNAPSHOT_BYTES:
            raise LimitExceeded(
                f"the snapshot of {channel.name!r} is {len(snapshot.data)} bytes; at most "
                f"{MAX_SNAPSHOT_BYTES} are told"
            )
        return snapshot


def _closing() -> StoreUnavailable:
    return StoreUnavailable("this node is shutting down")
