"""Recovery: a crowd that comes back is served from one read, each with what it missed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import pytest

from channels.cursor import CursorPosition
from channels.errors import StoreRefused, StoreUnavailable
from channels.position import Position
from hub import recovery as recovery_module
from hub import tail as tail_module
from hub.engine import Engine, Joined
from hub.recovery import Recovery
from hub.room import Room
from hub.traffic import Traffic
from services import Services
from services.event_log import Gap, Recovered
from tests.servers import ValkeyServer

from .harness import OPEN, Reader, World, at_once, channel, publication


@pytest.fixture
async def services(valkey: ValkeyServer) -> AsyncIterator[Services]:
    """Services on a real server, where every channel is allowed."""
    async with Services.connect(valkey.url, catalogue=OPEN) as services:
        yield services


def reads_of(server: ValkeyServer) -> int:
    """Return how many scripts the server ran; reading a log is one for each page."""
    with server.client() as client:
        stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


async def publish(services: Services, engine: Engine, count: int, name: str = "chat") -> Position:
    """Publish, and return the top when the room was told."""
    watcher = Reader(engine, stays=True)
    await watcher.join(channel(name))
    for number in range(count):
        await services.events.publish(name, {"n": number})
    top = (await services.events.log.read(channel(name), limit=0)).top
    async with asyncio.timeout(20):
        while watcher.position != top:
            watcher.progress.clear()
            await watcher.progress.wait()
    return top


async def come_back(engine: Engine, since: Position, id: str = "", name: str = "chat") -> Joined:
    """Join from a position and go on live."""
    return await engine.join(channel(name), Reader(engine, stays=True), CursorPosition(since, id))


def _said(found: Recovered | Joined) -> object:
    """Return what can be compared."""
    top, top_id = (
        (found.position, found.id) if isinstance(found, Joined) else (found.top, found.top_id)
    )
    missed = [(pub.position, pub.id, pub.wire) for pub in found.publications]
    return missed, top, top_id, found.gap


def counting(world: World) -> Counter[str]:
    """Return the calls that ``world`` gets from now on, by name."""
    calls: Counter[str] = Counter()
    world.on_call = lambda name: calls.update([name])
    return calls


# -- on a real server -----------------------------------------------------------------------


async def test_a_crowd_costs_one_or_two_reads(services: Services, valkey: ValkeyServer) -> None:
    """A thousand come back to 200 publications from everywhere; the log is read at most twice."""
    engine = Engine(services.follower, services.events.log)
    top = await publish(services, engine, 200)
    random = Random(1)
    since = [random.randrange(200) for _ in range(1_000)]
    before = reads_of(valkey)
    found = await asyncio.gather(
        *(come_back(engine, Position(top.epoch, offset)) for offset in since)
    )
    assert 1 <= reads_of(valkey) - before <= 2
    for offset, joined in zip(since, found, strict=True):
        assert [pub.offset for pub in joined.publications] == list(range(offset + 1, 201))
        assert (joined.gap, joined.position) == (None, top)
    # And who comes later costs none at all.
    before = reads_of(valkey)
    late = await come_back(engine, Position(top.epoch, min(since)))
    assert len(late.publications) == 200 - min(since)
    assert reads_of(valkey) == before
    await engine.close()


async def test_a_crowd_that_lost_its_history_costs_as_little(
    services: Services, valkey: ValkeyServer
) -> None:
    """A gap is shared too: a thousand positions that nobody can recover are few reads."""
    engine = Engine(services.follower, services.events.log)
    top = await publish(services, engine, 200)
    with valkey.client() as client:
        client.xtrim(services.keys.log(channel()), minid="150-0", approximate=False)
    asked = [Position(top.epoch, offset) for offset in range(100)]
    asked += [Position("another", offset) for offset in range(100)]
    before = reads_of(valkey)
    found = await asyncio.gather(*(come_back(engine, since) for since in asked * 5))
    assert 1 <= reads_of(valkey) - before <= 2
    expected = ([Gap.TRIMMED] * 100 + [Gap.EPOCH] * 100) * 5
    assert [joined.gap for joined in found] == expected
    await engine.close()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("trimmed", [False, True])
async def test_every_answer_is_that_of_the_log(
    services: Services, valkey: ValkeyServer, seed: int, trimmed: bool
) -> None:
    """Positions, epochs and ids of every kind: together or alone, the answer is the same."""
    random = Random(seed)
    engine = Engine(services.follower, services.events.log)
    log = services.events.log
    count = random.randrange(20, 60)
    top = await publish(services, engine, count)
    ids = {pub.offset: pub.id for pub in (await log.read(channel())).publications}
    if trimmed:
        with valkey.client() as client:
            first = random.randrange(count // 2, count + 2)
            client.xtrim(services.keys.log(channel()), minid=f"{first}-0", approximate=False)
    asked = []
    for _ in range(150):
        offset = random.randrange(count + 4)
        epoch = top.epoch if random.random() < 0.9 else "another"
        right = ids.get(offset, "")
        asked.append(
            (Position(epoch, offset), random.choice(["", right, right, "another", ids[count]]))
        )
    expected = [_said(await log.recover(channel(), *each)) for each in asked]
    together = await asyncio.gather(*(come_back(engine, *each) for each in asked))
    assert [_said(joined) for joined in together] == expected
    alone = [await come_back(engine, *each) for each in asked]
    assert [_said(joined) for joined in alone] == expected
    await engine.close()


async def test_a_storm_while_publications_come(services: Services, valkey: ValkeyServer) -> None:
    """Everybody gets each publication once and in order, what is told meanwhile included."""
    engine = Engine(services.follower, services.events.log)
    log = services.events.log
    top = await publish(services, engine, 200)
    ids = {pub.offset: pub.id for pub in (await log.read(channel())).publications}
    random = Random(3)
    readers = [Reader(engine, stays=True) for _ in range(400)]
    for reader in readers:
        offset = random.randrange(1, 201)
        reader.position, reader.id = Position(top.epoch, offset), ids[offset]
    before = reads_of(valkey)

    async def go_on() -> None:
        for number in range(200):
            await services.events.publish("chat", {"n": number})

    async def crowd() -> None:
        for start in range(0, len(readers), 40):
            await asyncio.gather(*(reader.join(channel()) for reader in readers[start:][:40]))
            await services.events.publish("chat", {"between": start})

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on())
        group.create_task(crowd())
    assert reads_of(valkey) - before - 210 <= 4, "the publications are 210 of the calls"
    async with asyncio.timeout(20):
        for reader in readers:
            while reader.position != Position(top.epoch, 410):
                reader.progress.clear()
                await reader.progress.wait()
    assert not any(reader.gaps for reader in readers)
    await engine.close()


async def test_a_server_that_refuses(services: Services, valkey: ValkeyServer) -> None:
    """Everybody who waited for the read is told, and the next one reads anew."""
    engine = Engine(services.follower, services.events.log)
    top = await publish(services, engine, 50)
    key = services.keys.log(channel())
    with valkey.client() as client:
        client.rename(key, f"{key}:kept")
        client.set(key, "no log")
        before = reads_of(valkey)
        outcomes = await asyncio.gather(
            *(come_back(engine, Position(top.epoch, 10)) for _ in range(100)),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} == {StoreRefused}
        assert reads_of(valkey) - before <= 2
        client.rename(f"{key}:kept", key)
    joined = await come_back(engine, Position(top.epoch, 10))
    assert (joined.gap, len(joined.publications)) == (None, 40)
    await engine.close()


# -- in every order -------------------------------------------------------------------------


async def test_the_first_one_gives_up() -> None:
    """Its read goes on for those who wait for it too."""
    world = World(Random(1))
    world.publish(9)
    engine = world.engine()
    await Reader(engine).join(channel())
    calls: list[str] = []
    asking: list[asyncio.Task[Joined]] = []

    def give_up(name: str) -> None:
        calls.append(name)
        if name == "before read":
            asking[0].cancel()

    world.on_call = give_up
    asking += [
        asyncio.create_task(come_back(engine, Position("e1", offset))) for offset in (4, 4, 5, 6)
    ]
    await asyncio.wait(asking)
    assert asking[0].cancelled()
    assert [len(task.result().publications) for task in asking[1:]] == [5, 4, 3]
    assert calls == ["before read", "read"]
    await engine.close()


async def test_all_give_up() -> None:
    """The read ends, nothing is left, and the next one is served."""
    world = World(Random(1))
    world.publish(9)
    engine = world.engine()
    await Reader(engine).join(channel())
    asking = [asyncio.create_task(come_back(engine, Position("e1", 4))) for _ in range(5)]
    await asyncio.sleep(0)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    assert len((await come_back(engine, Position("e1", 7))).publications) == 2
    await engine.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failed_read_reaches_all_who_waited() -> None:
    """Those who came during the read too; each with an error of its own."""
    world = World(Random(2))
    world.publish(9)
    engine = world.engine()
    await Reader(engine).join(channel())
    world.failing.add("read")
    asking: list[asyncio.Task[Joined]] = []

    def crowd(name: str) -> None:
        asking.extend(asyncio.create_task(come_back(engine, Position("e1", 4))) for _ in range(3))

    world.on_call = crowd
    asking.append(asyncio.create_task(come_back(engine, Position("e1", 4))))
    await asyncio.wait(asking)
    world.on_call = lambda name: None
    await asyncio.wait(asking)
    errors = [task.exception() for task in asking]
    assert len(errors) > 3
    assert {type(error) for error in errors} == {StoreUnavailable}
    assert len({id(error) for error in errors}) == len(errors)
    world.failing.clear()
    assert len((await come_back(engine, Position("e1", 4))).publications) == 5
    await engine.close()


async def test_a_failed_read_leaves_nothing_behind() -> None:
    """What was noted for a read that failed is not kept: nobody would end it."""
    world = World()
    world.publish(9)
    recovery = Recovery(world, check_store=lambda: None)  # type: ignore[arg-type]  # stands in
    room = room_of(world)
    world.failing.add("read")
    with pytest.raises(StoreUnavailable):
        await recovery.recover(room, CursorPosition(Position("e1", 3)))
    room.on_publication(publication(10))
    assert room.tail.size_bytes == 0
    await recovery.close()


async def test_what_is_told_during_the_read_needs_no_second_one() -> None:
    """The room is ahead of what was read; nobody waits longer, and nobody misses anything."""
    world = World(Random(5))
    world.publish(9)
    engine = world.engine()
    await Reader(engine).join(channel())
    readers = [Reader(engine) for _ in range(10)]
    for offset, reader in enumerate(readers[:9], 1):
        reader.position, reader.id = Position("e1", offset), f"id-e1-{offset}"
    calls: list[str] = []

    def go_on(name: str) -> None:
        calls.append(name)
        world.publish(2)
        world.pump()

    world.on_call = go_on
    await asyncio.gather(*(reader.join(channel()) for reader in readers))
    assert calls == ["before read", "read"]
    assert {reader.position for reader in readers} == {Position("e1", 13)}
    assert [reader.seen for reader in readers[:9]] == list(range(12, 3, -1))
    await engine.close()


async def test_a_position_of_another_epoch_is_no_reason_to_read_far() -> None:
    """Its offset says nothing about this log."""
    world = World()
    world.publish(2_000)
    engine = world.engine()
    await Reader(engine).join(channel())
    calls = counting(world)
    assert (await come_back(engine, Position("e0", 1))).gap is Gap.EPOCH
    assert calls["read"] == 1
    await engine.close()


async def test_those_further_back_share_a_second_read() -> None:
    """The first read reached as far as the first one stood; the next reaches for all others."""
    world = World(Random(1))
    world.publish(900)
    engine = world.engine()
    await Reader(engine).join(channel())
    asking: list[asyncio.Task[Joined]] = []

    calls: Counter[str] = Counter()
    came = asyncio.Event()

    def crowd(name: str) -> None:
        calls.update([name])
        if name == "before read" and len(asking) == 1:
            came.set()
            asking.extend(
                asyncio.create_task(come_back(engine, Position("e1", offset)))
                for offset in range(600, 800)
            )

    world.on_call = crowd
    asking.append(asyncio.create_task(come_back(engine, Position("e1", 890))))
    await came.wait()
    found = await asyncio.gather(*asking)
    assert [len(joined.publications) for joined in found] == [10, *range(300, 100, -1)]
    assert calls["read"] == 2
    # The second one read a margin for those who come next.
    assert len((await come_back(engine, Position("e1", 500))).publications) == 400
    assert calls["read"] == 2
    await engine.close()


async def test_a_gap_is_told_after_a_read_of_its_own() -> None:
    """What is known of an older moment says what was, not that it is so no more."""
    world = World()
    world.publish(9)
    engine = world.engine()
    await Reader(engine).join(channel())
    await come_back(engine, Position("e1", 2))
    calls = counting(world)
    assert len((await come_back(engine, Position("e1", 3))).publications) == 6
    assert not calls
    for since, gap in [(Position("e0", 3), Gap.EPOCH), (Position("e1", 11), Gap.FORKED)]:
        assert (await come_back(engine, since)).gap is gap
    assert calls["read"] == 2
    # Another node was told already that history began anew, and the reader comes from there.
    world.begin_anew()
    world.publish(4)
    joined = await come_back(engine, Position("e2", 1))
    assert (joined.gap, len(joined.publications)) == (None, 3)
    await engine.close()


async def test_a_gap_during_the_read_has_it_read_again() -> None:
    """What was read before the room began anew is not told after it."""
    world = World(Random(4))
    world.publish(9)
    engine = world.engine()
    await Reader(engine, stays=True).join(channel())
    calls: list[str] = []

    def begin_anew(name: str) -> None:
        calls.append(name)
        if calls == ["before read", "read"]:
            world.begin_anew()
            world.publish(3)
            world.pump()

    world.on_call = begin_anew
    found = await asyncio.gather(*(come_back(engine, Position("e1", 5)) for _ in range(10)))
    assert {(joined.gap, joined.position) for joined in found} == {(Gap.EPOCH, Position("e2", 3))}
    assert calls == ["before read", "read"] * 2
    await engine.close()


async def test_whoever_is_too_far_behind_reads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into the memory of a room comes from the log."""
    monkeypatch.setattr(tail_module, "MAX_TAIL_BYTES", 4_000)
    world = World()
    world.publish(200)
    engine = world.engine()
    await Reader(engine).join(channel())
    calls = counting(world)
    found = await asyncio.gather(
        *(come_back(engine, Position("e1", offset)) for offset in (2, 198, 197))
    )
    assert [len(joined.publications) for joined in found] == [198, 2, 3]
    assert (calls["read"], calls["recover"]) == (1, 1)
    await engine.close()


def room_of(world: World, name: str = "chat") -> Room:
    """Return a room that stands at the top."""
    room = Room(channel(name), at_once(), Traffic())
    room.position, room.id = world.top, world.top_id
    return room


async def test_what_was_read_is_forgotten_soon() -> None:
    """Nobody keeps a log in memory that is not asked for; the next one reads again."""
    world = World()
    world.publish(9)
    recovery = Recovery(world, check_store=lambda: None, keep_s=0)  # type: ignore[arg-type]  # stands in
    room = room_of(world)
    since = CursorPosition(Position("e1", 3))
    calls = counting(world)
    assert len((await recovery.recover(room, since)).publications) == 6
    for _ in range(1_000):  # turns, not seconds: the timer is due at once
        if not room.tail.size_bytes:
            break
        await asyncio.sleep(0)
    assert not room.tail.holds(room.position, room.id)
    assert len((await recovery.recover(room, since)).publications) == 6
    assert calls["read"] == 2
    await recovery.close()


async def test_all_rooms_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest tail goes when those of all rooms are too large; reading again renews one."""
    monkeypatch.setattr(recovery_module, "MAX_KEPT_BYTES", 10_000)
    world = World()
    world.publish(9)
    recovery = Recovery(world, check_store=lambda: None)  # type: ignore[arg-type]  # stands in
    rooms = [room_of(world, f"chat:{number}") for number in range(5)]
    for room in (*rooms, rooms[0]):
        await recovery.recover(room, CursorPosition(Position("e1", 3)))
        assert sum(room.tail.size_bytes for room in rooms) <= 10_000
    kept = [room.tail.size_bytes > 0 for room in rooms]
    assert kept == [True, False, False, True, True]
    await recovery.close()
    assert not any(room.tail.size_bytes for room in rooms)


@pytest.mark.parametrize("turns", range(6))
async def test_closing_while_somebody_waits(turns: int) -> None:
    """Whoever waits is told, the read is over when close returns, and nobody is served any more."""
    world = World(Random(turns))
    world.publish(9)
    recovery = Recovery(world, check_store=lambda: None)  # type: ignore[arg-type]  # stands in
    room = room_of(world)
    since = CursorPosition(Position("e1", 3))
    asking = [asyncio.create_task(recovery.recover(room, since)) for _ in range(3)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await recovery.close()
    assert asyncio.all_tasks() == {asyncio.current_task(), *asking} - {
        task for task in asking if task.done()
    }
    for outcome in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(outcome, StoreUnavailable | Recovered)
    with pytest.raises(StoreUnavailable):
        await recovery.recover(room, since)


async def test_a_store_that_is_away_is_not_asked() -> None:
    """What is in memory is told; for the rest there is an error at once."""
    world = World()
    world.publish(9)
    away = False

    def check() -> None:
        if away:
            raise StoreUnavailable("Redis is away")

    recovery = Recovery(world, check_store=check)  # type: ignore[arg-type]  # stands in
    room = room_of(world)
    await recovery.recover(room, CursorPosition(Position("e1", 3)))
    away = True
    calls = counting(world)
    assert len((await recovery.recover(room, CursorPosition(Position("e1", 7)))).publications) == 2
    with pytest.raises(StoreUnavailable):
        await recovery.recover(room, CursorPosition(Position("e0", 7)))
    assert not calls
    await recovery.close()
