"""Reading the state behind a channel: one read for a crowd, begun after each had asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from channels.catalogue import Channel
from channels.errors import (
    LimitExceeded,
    NotAvailable,
    PermissionDenied,
    StoreError,
    StoreUnavailable,
)
from channels.position import Position
from hub.snapshot_reader import MAX_SNAPSHOT_BYTES, SnapshotReader
from services.snapshots import Snapshot, Snapshots

from .harness import channel


class State:
    """A state that grows with every read, and lets reads wait."""

    def __init__(self) -> None:
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.answer: Callable[[], Awaitable[Snapshot]] = self.tell

    async def tell(self) -> Snapshot:
        """Return how often it was read."""
        return Snapshot(b"%d" % self.reads, Position("e1", self.reads), "id")

    async def read(self, _: Channel) -> Snapshot:
        """Be a snapshotter."""
        self.reads += 1
        answer = await self.answer()
        self.began.set()
        await self.gate.wait()
        return answer

    def reader(self, **options: float) -> SnapshotReader:
        """Return a reader of it."""
        snapshots = Snapshots()
        snapshots.offer("undeclared", self.read)
        return SnapshotReader(snapshots, **{"pace_s": 0, **options})  # type: ignore[arg-type]  # floats


@pytest.fixture
async def state() -> AsyncIterator[State]:
    """A state; in the end no task may be left."""
    yield State()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert {task.get_name() for task in left if "snapshot" in task.get_name()} == set()


async def test_a_crowd_shares_a_read(state: State) -> None:
    """A thousand who ask at once cost one read."""
    reader = state.reader()
    told = await asyncio.gather(*(reader.read(channel()) for _ in range(1_000)))
    assert state.reads == 1
    assert {snapshot.data for snapshot in told} == {b"1"}
    await reader.close()


async def test_who_asks_during_a_read_gets_the_next_one(state: State) -> None:
    """What a read that began before does not see, somebody may have done since."""
    reader = state.reader()
    state.gate.clear()
    first = asyncio.create_task(reader.read(channel()))
    await state.began.wait()
    later = [asyncio.create_task(reader.read(channel())) for _ in range(100)]
    await asyncio.sleep(0)
    state.gate.set()
    assert (await first).data == b"1"
    assert {(await task).data for task in later} == {b"2"}
    assert state.reads == 2
    await reader.close()


async def test_reads_follow_each_other_at_a_pace(state: State) -> None:
    """A crowd that trickles in costs a read a pause, not one each."""
    reader = state.reader(pace_s=3600)
    await reader.read(channel())
    waiting = asyncio.create_task(reader.read(channel()))
    other = await reader.read(channel("other"))  # whose pace is its own
    assert (other.data, state.reads, waiting.done()) == (b"2", 2, False)
    await reader.close()
    with pytest.raises(StoreUnavailable):
        await waiting


async def test_who_gives_up_holds_up_nobody(state: State) -> None:
    """The read goes on for the others."""
    reader = state.reader()
    state.gate.clear()
    tasks = [asyncio.create_task(reader.read(channel())) for _ in range(3)]
    await state.began.wait()
    tasks[0].cancel()
    state.gate.set()
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()
    assert [task.result().data for task in tasks[1:]] == [b"1", b"1"]
    await reader.close()


async def test_a_channel_without_a_state_has_none() -> None:
    """The error says so, and nothing is asked of anybody."""
    reader = SnapshotReader(Snapshots())
    assert not reader.offers(channel())
    with pytest.raises(NotAvailable, match="'chat' has no snapshot"):
        await reader.read(channel())
    await reader.close()


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (PermissionDenied("not yours"), PermissionDenied),
        (StoreUnavailable("away"), StoreUnavailable),
        (ZeroDivisionError("a bug"), StoreError),
    ],
)
async def test_what_fails_is_told_to_each(
    state: State, raised: Exception, told: type[Exception]
) -> None:
    """Everybody gets an error of its own; the next read works."""

    async def fail() -> Snapshot:
        raise raised

    reader = state.reader()
    state.answer = fail
    results = await asyncio.gather(
        *(reader.read(channel()) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, told) for result in results)
    assert len({id(result) for result in results}) == 3
    if isinstance(raised, ZeroDivisionError):
        [error, *_] = results
        assert isinstance(error, StoreError)
        assert error.temporary
        assert "bug" not in error.public_message
    state.answer = state.tell
    assert (await reader.read(channel())).data == b"2"
    await reader.close()


async def test_a_read_that_takes_too_long_is_given_up(state: State) -> None:
    """Those who wait are told to try again."""
    reader = state.reader(timeout_s=0.01)
    state.gate.clear()
    with pytest.raises(StoreError, match="took longer") as refused:
        await reader.read(channel())
    assert refused.value.temporary
    await reader.close()


async def test_a_state_can_be_too_large(state: State) -> None:
    """It is refused, and never held for a crowd."""

    async def tell() -> Snapshot:
        return Snapshot(b"0" * (MAX_SNAPSHOT_BYTES + 1), Position("e1", 1), "id")

    reader = state.reader()
    state.answer = tell
    with pytest.raises(LimitExceeded, match=f"{MAX_SNAPSHOT_BYTES + 1} bytes"):
        await reader.read(channel())
    await reader.close()


async def test_a_snapshot_is_json(state: State) -> None:
    """Nothing is none: a reply with it could not be read."""

    async def tell() -> Snapshot:
        return Snapshot(b"", Position("e1", 1), "id")

    reader = state.reader()
    state.answer = tell
    with pytest.raises(StoreError, match="no JSON"):
        await reader.read(channel())
    await reader.close()


async def test_large_states_are_told_a_few_a_turn(state: State) -> None:
    """So that others get their turn, and sockets can drain."""

    async def tell() -> Snapshot:
        return Snapshot(b"0" * 2_000_000, Position("e1", 1), "id")

    reader = state.reader()
    state.answer = tell
    tasks = [asyncio.create_task(reader.read(channel())) for _ in range(20)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert 0 < sum(task.done() for task in tasks) < 20
    await asyncio.gather(*tasks)
    assert state.reads == 1
    await reader.close()


async def test_nothing_is_asked_while_redis_is_away(state: State) -> None:
    """Whoever asks then is told at once."""
    snapshots = Snapshots()
    snapshots.offer("undeclared", state.read)

    def away() -> None:
        raise StoreUnavailable("Redis is away")

    reader = SnapshotReader(snapshots, check_store=away)
    with pytest.raises(StoreUnavailable, match="Redis is away"):
        await reader.read(channel())
    assert state.reads == 0


@pytest.mark.parametrize("turns", range(4))
async def test_closing_tells_everybody(state: State, turns: int) -> None:
    """Who waits, and who comes later, is told that the node ends."""
    reader = state.reader()
    state.gate.clear()
    waiting = [asyncio.create_task(reader.read(channel())) for _ in range(3)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await reader.close()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        await reader.read(channel())
