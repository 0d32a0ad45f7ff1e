"""The engine: who is in which room, and following a channel while somebody is."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from channels.cursor import CursorPosition
from channels.errors import StoreUnavailable
from channels.position import Position
from hub.engine import Engine
from services import Services
from services.event_log import Gap
from tests.servers import ValkeyServer

from .harness import OPEN, Reader, World, channel
from .model import run_model


async def until_empty(engine: Engine) -> None:
    """Return when the rooms that nobody is in are closed."""
    for _ in range(1_000):
        if not engine.rooms:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"rooms stay open: {list(engine.rooms)}")


async def test_the_first_in_follows_and_the_last_out_stops() -> None:
    """A channel is followed while somebody is in its room."""
    world = World()
    engine = world.engine(linger_s=0)
    readers = [Reader(engine), Reader(engine)]
    for reader in readers:
        await reader.join(channel())
    world.publish(3)
    world.pump()
    assert [reader.seen for reader in readers] == [3, 3]
    for reader in readers:
        reader.leave()
    await until_empty(engine)
    assert (world.starts, world.stops, world.followed) == (1, 1, {})


@pytest.mark.parametrize("seed", range(20))
async def test_two_first_subscribers_share_one_listening(seed: int) -> None:
    """Those who come together while the channel is not followed yet all get everything."""
    world = World(Random(seed))
    engine = world.engine(linger_s=0)
    readers = [Reader(engine) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.join(channel()))
    assert world.starts == 1
    world.publish(2)
    world.pump()
    assert [reader.seen for reader in readers] == [2, 2, 2]
    readers[0].leave()
    world.publish()
    world.pump()
    assert [reader.seen for reader in readers] == [2, 3, 3]
    await engine.close()


async def test_whoever_comes_back_soon_finds_the_room_open() -> None:
    """A page that is reloaded does not make the node listen anew."""
    world = World()
    engine = world.engine(linger_s=30)
    reader = Reader(engine)
    await reader.join(channel())
    reader.leave()
    world.publish()
    world.pump()
    await reader.join(channel())
    assert (reader.seen, world.starts) == (1, 1)
    reader.leave()
    await engine.close()
    assert world.stops == 1


async def test_coming_in_while_the_room_closes() -> None:
    """Whoever comes while the node stops listening waits, and opens the room again."""
    world = World()
    engine = world.engine(linger_s=0)
    first, second = Reader(engine), Reader(engine)
    await first.join(channel())
    closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def notice(name: str) -> None:
        if name == "stop" and not closing.done():
            closing.set_result(None)

    world.on_call = notice
    first.leave()
    await closing
    await second.join(channel())
    world.publish()
    world.pump()
    assert (second.seen, world.starts, world.stops) == (1, 2, 1)
    second.leave()
    await until_empty(engine)
    assert world.stops == 2


async def test_coming_back_and_leaving_before_the_room_closes() -> None:
    """The closing that was on its way gives up; the next one closes."""
    world = World()
    engine = world.engine(linger_s=0)
    reader = Reader(engine)
    for _ in range(5):
        await reader.join(channel())
        reader.leave()
        await asyncio.sleep(0)
    await until_empty(engine)
    assert world.starts == world.stops


async def test_a_failed_start_lets_nobody_in() -> None:
    """The first fails, the second that waited for it tries for itself."""
    world = World()
    world.failing.add("start")
    engine = world.engine()
    readers = [Reader(engine), Reader(engine)]
    results = await asyncio.gather(
        *(reader.join(channel()) for reader in readers), return_exceptions=True
    )
    assert [type(result) for result in results] == [StoreUnavailable] * 2
    assert not engine.rooms
    world.failing.clear()
    await readers[0].join(channel())
    assert world.starts == world.stops + 1
    await engine.close()


async def test_a_failed_recovery_lets_nobody_in() -> None:
    """What was joined already is left again."""
    world = World()
    world.publish(5)
    world.failing |= {"read", "recover"}
    engine = world.engine(linger_s=0)
    reader = Reader(engine)
    reader.position, reader.id = Position("e1", 2), "id-e1-2"
    with pytest.raises(StoreUnavailable):
        await reader.join(channel())
    await until_empty(engine)
    assert (world.starts, world.stops) == (1, 1)


@pytest.mark.parametrize("turns", range(12))
async def test_a_join_can_be_cancelled_anywhere(turns: int) -> None:
    """Whoever gives up leaves nothing behind, and does not hurt who waits for the same room."""
    world = World(Random(turns))
    world.publish(5)
    engine = world.engine(linger_s=0)
    first, second = Reader(engine), Reader(engine)
    first.position, first.id = Position("e1", 2), "id-e1-2"
    joining = asyncio.create_task(first.join(channel()))
    waiting = asyncio.create_task(second.join(channel()))
    for _ in range(turns):
        await asyncio.sleep(0)
    joining.cancel()
    await asyncio.wait([joining, waiting])
    assert waiting.exception() is None
    world.publish()
    world.pump()
    assert second.seen == 1
    second.leave()
    if not joining.cancelled():
        first.leave()
    await until_empty(engine)
    assert world.starts == world.stops


async def test_a_recovery_may_be_ahead_of_the_room() -> None:
    """The log has what the room was not told yet; nothing comes twice when it is."""
    world = World()
    engine = world.engine()
    early, late = Reader(engine), Reader(engine)
    await early.join(channel())
    world.publish(4)
    late.position, late.id = Position("e1", 1), "id-e1-1"
    await late.join(channel())
    assert (early.seen, late.seen) == (0, 3)
    world.publish()
    world.pump()
    assert (early.seen, late.seen) == (5, 4)
    await engine.close()


async def test_whoever_finds_that_history_began_anew_has_the_room_look() -> None:
    """The gap is told once; the first publication of the new history is delivered, not lost."""
    world = World()
    world.publish(2)
    engine = world.engine()
    stays, comes_back = Reader(engine, stays=True), Reader(engine, stays=True)
    await stays.join(channel())
    comes_back.position, comes_back.id = Position("e1", 1), "id-e1-1"
    world.begin_anew()
    await comes_back.join(channel())
    await asyncio.wait_for(stays.progress.wait(), 5)
    world.publish()
    world.pump()
    for reader in (stays, comes_back):
        assert (reader.gaps, reader.seen) == (1, 1)
    await engine.close()


async def test_nothing_missed_needs_no_reading() -> None:
    """A short break on a quiet channel costs no call to Redis."""
    world = World()
    world.publish(3)
    engine = world.engine()
    reader = Reader(engine)
    await reader.join(channel())
    reader.leave()
    world.failing |= {"read", "recover"}
    await reader.join(channel())
    await engine.close()


async def test_the_same_position_with_another_id_is_read() -> None:
    """A position alone does not prove that the reader's past is this log's past."""
    world = World()
    world.publish(3)
    engine = world.engine()
    await Reader(engine).join(channel())
    world.failing |= {"read", "recover"}
    with pytest.raises(StoreUnavailable):
        await engine.join(
            channel(), Reader(engine), CursorPosition(Position("e1", 3), "id-of-another")
        )
    await engine.close()


async def test_an_empty_epoch_means_whatever_epoch_it_is() -> None:
    """The protocol's rule for clients that know an offset only."""
    world = World()
    world.publish(3)
    engine = world.engine()
    reader = Reader(engine)
    joined = await engine.join(channel(), reader, CursorPosition(Position("", 1)))
    assert (joined.gap, len(joined.publications)) == (None, 2)
    await engine.close()


@pytest.mark.parametrize(
    ("position", "gap"),
    [
        (Position("e0", 3), Gap.EPOCH),
        (Position("e1", 9), Gap.FORKED),
        (Position("e1", 1), Gap.TRIMMED),
    ],
)
async def test_what_cannot_be_recovered_has_a_reason(position: Position, gap: Gap) -> None:
    """The reader is in, at the top, and is told why it could not go on."""
    world = World()
    world.publish(5)
    world.trim(2)
    engine = world.engine()
    joined = await engine.join(channel(), Reader(engine), CursorPosition(position))
    assert (joined.gap, joined.publications, joined.position) == (gap, [], world.top)
    await engine.close()


@pytest.mark.parametrize("turns", range(6))
async def test_closing_while_somebody_comes_in(turns: int) -> None:
    """The engine waits for who is on the way, stops what they started, and lets nobody in."""
    world = World(Random(turns))
    engine = world.engine()
    joining = asyncio.create_task(Reader(engine).join(channel()))
    for _ in range(turns):
        await asyncio.sleep(0)
    await engine.close()
    await asyncio.wait([joining])
    assert isinstance(joining.exception(), StoreUnavailable | None)
    assert (world.followed, engine.rooms) == ({}, {})
    assert world.starts == world.stops
    with pytest.raises(StoreUnavailable):
        await Reader(engine).join(channel())


async def test_a_room_that_could_not_be_closed_is_gone() -> None:
    """Whatever went wrong, the next one in opens a room that is fed."""
    world = World()
    engine = world.engine(linger_s=0)
    reader = Reader(engine)
    await reader.join(channel())
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    world.failing.add("stop")
    reader.leave()
    await until_empty(engine)
    world.failing.clear()
    world.followed.clear()
    await reader.join(channel())
    world.publish()
    world.pump()
    assert reader.seen == 1
    await engine.close()


@pytest.mark.parametrize("block", range(4))
async def test_nobody_misses_repeats_or_reorders_anything(block: int) -> None:
    """Hundreds of random stories end with every reader at the top, gaps being told."""
    seen = 0
    for seed in range(block * 100, block * 100 + 100):
        seen += await run_model(seed)
    assert seen > 1_000


async def _come_and_go(reader: Reader, random: Random, done: asyncio.Event) -> None:
    """Join, stay for a while, leave, and come back until it is over; then stay."""
    while True:
        await reader.join(channel())
        if done.is_set():
            return
        waits = [asyncio.create_task(done.wait())]
        if not reader.stays:
            waits.append(asyncio.create_task(reader.wants_back.wait()))
        await asyncio.wait(
            waits, timeout=random.uniform(0, 0.2), return_when=asyncio.FIRST_COMPLETED
        )
        for wait in waits:
            wait.cancel()
        if done.is_set() and reader.inside:
            return
        if reader.inside:
            reader.leave()


async def _catch_up(reader: Reader, top: Position) -> None:
    """Return when ``reader`` stands at ``top``; bring it back when it was told of a gap."""
    async with asyncio.timeout(20):
        while reader.position != top:
            reader.progress.clear()
            if reader.wants_back.is_set():
                await reader.join(channel())
            else:
                await reader.progress.wait()


async def test_the_same_on_a_real_server(valkey: ValkeyServer) -> None:
    """Readers come and go while the server kills the subscriptions again and again."""
    async with Services.connect(valkey.url, catalogue=OPEN) as services:
        log = services.events.log
        engine = Engine(services.follower, log, linger_s=0.01)
        random = Random(1)
        done = asyncio.Event()
        steady = Reader(engine, stays=True)
        await steady.join(channel())
        readers = [Reader(engine, stays=i % 2 == 0) for i in range(12)]
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(_come_and_go(reader, random, done))
            for kills in range(25):
                count = random.randint(1, 50)
                await asyncio.gather(
                    *(services.events.publish("chat", {"i": i}) for i in range(count))
                )
                top = (await log.read(channel(), limit=0)).top
                if kills % 2:  # now in the middle of the burst, now after it
                    await _catch_up(steady, top)
                await services.store.execute("CLIENT", "KILL", "TYPE", "pubsub")
                await _catch_up(steady, top)
            done.set()
        for reader in readers:
            await _catch_up(reader, top)
        # The log kept everything, so nothing was lost to anybody.
        assert [reader.gaps for reader in (steady, *readers)] == [0] * 13
        assert services.follower.stats.repairs > 5
        for reader in (steady, *readers):
            reader.leave()
        await engine.close()
        assert not engine.rooms
        assert not services.follower._followed
    assert asyncio.all_tasks() == {asyncio.current_task()}
    with valkey.client() as client:
        assert client.pubsub_channels() == []
