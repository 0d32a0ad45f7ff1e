"""What ends by itself ends once, on some node, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from channels.errors import StoreRefused, StoreUnavailable
from services import sweeper as module
from services.clock import Clock
from services.store.keys import Keys
from services.store.port import Store
from services.store.script import Script
from services.sweeper import Sweeper

END = Script(
    "end",
    """
    local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
    if not due or tonumber(due) > tonumber(ARGV[2]) then return 0 end
    redis.call('ZREM', KEYS[1], ARGV[1])
    redis.call('RPUSH', KEYS[2], ARGV[1])
    return 1
    """,
)


@pytest.fixture
def store(any_store: Store) -> Store:
    """Of each kind: a service must not see a difference."""
    return any_store


class World:
    """Things that end, under roots, by a time that the test sets."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self.store = store
        self.keys = keys
        self.now_ms = 1_000_000
        self.clock = Clock(store, now=lambda: self.now_ms / 1000)
        self.told = asyncio.Event()
        self.fail: Callable[[], None] = lambda: None

    def sweeper(self, **options: float) -> Sweeper:
        """Return one of a node."""
        sweeper = Sweeper(self.store, self.keys, self.clock, **options)
        sweeper.handle("thing", self.end)
        return sweeper

    async def end(self, root: str, id: str) -> None:
        """End one, once."""
        self.fail()
        await self.store.run(
            END, [self.keys.due(root), f"{{{root}}}:ended"], [f"thing:{id}", self.now_ms]
        )
        self.told.set()

    async def begin(self, sweeper: Sweeper, root: str, id: str, at_ms: int) -> None:
        """Make a thing that ends at ``at_ms``."""
        await sweeper.register(root, at_ms)
        await self.write(root, id, at_ms)

    async def write(self, root: str, id: str, at_ms: int) -> None:
        """What the script of a service does."""
        await self.store.execute("ZADD", self.keys.due(root), at_ms, f"thing:{id}")

    async def ended(self, root: str = "w1") -> list[str]:
        """Return what ended, in order."""
        ended = await self.store.execute("LRANGE", f"{{{root}}}:ended", 0, -1)
        assert isinstance(ended, list)
        return [one.decode().removeprefix("thing:") for one in ended if isinstance(one, bytes)]

    async def waiting(self) -> int:
        """Return how many roots somebody must look at, or looks at."""
        counts = await self.store.pipeline(
            [("ZCARD", self.keys.due_roots()), ("ZCARD", self.keys.due_claimed())]
        )
        return sum(count for count in counts if isinstance(count, int))


@pytest.fixture
def world(store: Store, keys: Keys) -> World:
    """A world on a real server."""
    return World(store, keys)


async def test_what_is_due_ends_and_nothing_else(world: World) -> None:
    """In the order of its deadlines, each at its time."""
    sweeper = world.sweeper()
    for id_, at_ms in (("b", 20), ("a", 10), ("c", 5_000)):
        await world.begin(sweeper, "w1", id_, world.now_ms + at_ms)
    assert await sweeper.sweep() == world.now_ms + 10
    assert await world.ended() == []
    world.now_ms += 100
    await sweeper.sweep()
    assert await world.ended() == ["a", "b"]
    world.now_ms += 5_000
    await sweeper.sweep()
    assert await world.ended() == ["a", "b", "c"]


async def test_nothing_is_left_behind(world: World) -> None:
    """When all ended, no root is known any more, after a last look."""
    sweeper = world.sweeper()
    for root in ("w1", "w2", "w3"):
        await world.begin(sweeper, root, "a", world.now_ms)
    await sweeper.sweep()
    world.now_ms += 11_000
    await sweeper.sweep()
    assert await world.ended("w3") == ["a"]
    assert await world.waiting() == 0


async def test_a_deadline_that_moved_is_found_where_it_is(world: World) -> None:
    """Whoever extends registers nothing."""
    sweeper = world.sweeper()
    await world.begin(sweeper, "w1", "a", world.now_ms + 10)
    await world.write("w1", "a", world.now_ms + 60_000)
    world.now_ms += 100
    await sweeper.sweep()
    assert await world.ended() == []
    world.now_ms += 60_000
    await sweeper.sweep()
    assert await world.ended() == ["a"]


async def test_who_wrote_just_after_the_look_is_not_forgotten(world: World) -> None:
    """Registered before it, written after it: found by the second look."""
    sweeper = world.sweeper()
    await world.begin(sweeper, "w1", "a", world.now_ms)
    await sweeper.register("w1", world.now_ms + 5_000)  # and is slow to write
    await sweeper.sweep()
    await world.write("w1", "b", world.now_ms + 5_000)
    world.now_ms += 11_000
    await sweeper.sweep()
    assert await world.ended() == ["a", "b"]


async def test_a_node_that_dies_is_replaced(world: World) -> None:
    """What it had claimed is another's after ten seconds."""

    def die() -> None:
        raise StoreUnavailable("the node died here")

    first, second = world.sweeper(), world.sweeper()
    await world.begin(first, "w1", "a", world.now_ms)
    world.fail = die
    with pytest.raises(StoreUnavailable):
        await first.sweep()
    world.fail = lambda: None
    await second.sweep()
    assert await world.ended() == []  # it is still the first one's
    world.now_ms += 11_000
    await second.sweep()
    assert await world.ended() == ["a"]


async def test_many_nodes_end_each_thing_once(world: World) -> None:
    """They share the roots."""
    sweepers = [world.sweeper() for _ in range(8)]
    for number in range(200):
        await world.begin(sweepers[0], f"w{number}", "a", world.now_ms)
    await asyncio.gather(*(sweeper.sweep() for _ in range(4) for sweeper in sweepers))
    for number in range(200):
        assert await world.ended(f"w{number}") == ["a"]


async def test_one_that_cannot_be_ended_does_not_keep_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is logged, and tried again a minute later."""

    def break_() -> None:
        world.fail = lambda: None
        raise ZeroDivisionError

    sweeper = world.sweeper()
    await world.begin(sweeper, "w1", "a", world.now_ms)
    await world.begin(sweeper, "w1", "b", world.now_ms + 1)
    world.now_ms += 10
    world.fail = break_
    await sweeper.sweep()
    assert await world.ended() == ["b"]
    assert "could not end thing:a of w1" in caplog.text
    world.now_ms += 61_000
    await sweeper.sweep()
    assert await world.ended() == ["b", "a"]


async def test_what_nobody_knows_waits(world: World) -> None:
    """A newer version may have written it."""
    sweeper = world.sweeper()
    await sweeper.register("w1", world.now_ms)
    await world.store.execute("ZADD", world.keys.due("w1"), world.now_ms, "future:a")
    await sweeper.sweep()
    kept = await world.store.execute("ZSCORE", world.keys.due("w1"), "future:a")
    assert float(kept) == world.now_ms + 60_000  # type: ignore[arg-type]  # a number or bytes


async def test_more_than_a_look_takes(world: World) -> None:
    """Hundreds that end at once end, look by look."""
    sweeper = world.sweeper()
    await sweeper.register("w1", world.now_ms)
    for number in range(250):
        await world.write("w1", f"t{number:03}", world.now_ms)
    for _ in range(3):
        await sweeper.sweep()
    assert len(await world.ended()) == 250


async def test_it_runs_and_looks_at_once_when_something_is_registered(
    world: World, store: Store, keys: Keys
) -> None:
    """Also when it meant to look much later."""
    sweeper = Sweeper(store, keys, Clock(store), every_s=3_600)
    sweeper.handle("thing", world.end)
    world.now_ms = Clock(store).now_ms()
    running = asyncio.create_task(sweeper.run())
    await asyncio.sleep(0)
    await world.write("w1", "a", world.now_ms - 1)
    await sweeper.register("w1", world.now_ms - 1)
    async with asyncio.timeout(10):
        await world.told.wait()
    running.cancel()
    await asyncio.wait({running})
    assert await world.ended() == ["a"]


async def test_a_workspace_may_be_called_hub(world: World) -> None:
    """The keys of all nodes are no workspace's."""
    sweeper = world.sweeper()
    await world.begin(sweeper, "hub", "a", world.now_ms)
    await sweeper.sweep()
    assert await world.ended("hub") == ["a"]
    world.now_ms += 11_000
    await sweeper.sweep()
    assert await world.waiting() == 0


async def test_a_look_says_when_the_next_one_of_the_same_root_is(world: World) -> None:
    """Also when it ended something there, and when there is more than a look takes."""
    sweeper = world.sweeper()
    await world.begin(sweeper, "w1", "a", world.now_ms)
    await world.write("w1", "b", world.now_ms + 5_000)
    assert await sweeper.sweep() == world.now_ms + 5_000
    for number in range(150):
        await world.write("w1", f"t{number:03}", world.now_ms)
    await sweeper.register("w1", world.now_ms)
    assert await sweeper.sweep() == world.now_ms
    assert len(await world.ended()) == 101


@pytest.mark.parametrize("bad", ["a", "z"])
async def test_a_root_that_is_refused_keeps_no_other_from_ending(world: World, bad: str) -> None:
    """Whatever its name: it comes back as often as its claim runs out."""
    sweeper = world.sweeper()
    for root in ("m", bad):
        await sweeper.register(root, world.now_ms)
    await world.write("m", "x", world.now_ms)
    await world.store.execute("SET", world.keys.due(bad), "of another type")
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await sweeper.sweep()
        world.now_ms += 11_000
    assert await world.ended("m") == ["x"]
    await world.store.execute("DEL", world.keys.due(bad))
    await world.write(bad, "y", world.now_ms)
    await sweeper.sweep()
    assert await world.ended(bad) == ["y"]


async def test_an_end_that_is_refused_is_put_off(world: World) -> None:
    """Its neighbours end; where nothing can be written at all, nothing is put off either."""

    def refuse() -> None:
        world.fail = lambda: None
        raise StoreRefused("WRONGTYPE no such thing")

    sweeper = world.sweeper()
    await world.begin(sweeper, "w1", "a", world.now_ms - 1)
    await world.write("w1", "b", world.now_ms)
    world.fail = refuse
    assert await sweeper.sweep() == world.now_ms + 60_000
    assert await world.ended() == ["b"]


async def test_an_end_that_hangs_holds_up_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither another root, nor its own for long, nor what becomes due meanwhile."""
    monkeypatch.setattr(module, "_PATIENCE_S", 0.01)
    sweeper = world.sweeper(every_s=0.01)
    hung, let_go = asyncio.Event(), asyncio.Event()

    async def hang(_root: str, _id: str) -> None:
        hung.set()
        await let_go.wait()

    sweeper.handle("hanging", hang)
    await sweeper.register("w1", world.now_ms)
    await world.store.execute("ZADD", world.keys.due("w1"), world.now_ms, "hanging:a")
    world.clock.measured = True
    world.clock._ahead_ms, world.clock._ticks = 0.0, lambda: world.now_ms / 1000
    running = asyncio.create_task(sweeper.run())
    async with asyncio.timeout(20):
        await hung.wait()
        await world.begin(sweeper, "w2", "b", world.now_ms)
        await world.told.wait()
    assert await world.ended("w2") == ["b"]
    running.cancel()
    await asyncio.wait({running})
    assert not sweeper._sweeping

    monkeypatch.setattr(module, "_END_S", 0.01)
    world.now_ms += 11_000
    await world.write("w1", "c", world.now_ms)
    async with asyncio.timeout(20):
        await sweeper.sweep()
    assert await world.ended("w1") == ["c"]
    put_off = await world.store.execute("ZSCORE", world.keys.due("w1"), "hanging:a")
    assert float(put_off) == world.now_ms + 60_000  # type: ignore[arg-type]  # a number or bytes


async def test_what_its_handler_leaves_due_is_not_spun_around(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in a handler costs a look a minute."""

    async def leave(_root: str, _id: str) -> None:
        return

    sweeper = world.sweeper()
    sweeper.handle("stuck", leave)
    await sweeper.register("w1", world.now_ms)
    await world.store.execute("ZADD", world.keys.due("w1"), world.now_ms, "stuck:a")
    assert await sweeper.sweep() == world.now_ms + 60_000
    assert "is still due after its end" in caplog.text


async def test_nothing_ends_before_the_time_is_known(world: World, store: Store) -> None:
    """A machine whose clock is a day ahead ends nothing of today."""
    clock = Clock(store, now=lambda: time.time() + 86_400)
    now_ms = Clock(store).now_ms()
    sweeper = Sweeper(store, world.keys, clock)
    sweeper.handle("thing", world.end)
    world.now_ms = now_ms + 86_400_000
    await world.begin(sweeper, "w1", "early", now_ms + 3_600_000)
    await world.begin(sweeper, "w1", "due", now_ms - 1)
    running = asyncio.create_task(sweeper.run())
    async with asyncio.timeout(20):
        await world.told.wait()
    running.cancel()
    await asyncio.wait({running})
    await sweeper.sweep()
    assert await world.ended() == ["due"]
