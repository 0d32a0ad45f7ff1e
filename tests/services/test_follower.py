"""Following a channel, on a log and a store that do exactly what a test tells them.

Every publication of the world here names its parent, so that a sink can tell whether what
it was told is one unbroken history, whatever happened to messages, log and epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from channels.errors import StoreError, StoreRefused, StoreUnavailable, UsageError
from channels.position import Position
from channels.publication import Publication, publication_prefix
from services.event_log import EventLog, Gap
from services.follower import Follower, FollowerSettings
from services.store.keys import Keys
from services.store.port import Listener, Reply

from .support import RecordingSink, body, make_channel

CHANNEL = make_channel()
KEYS = Keys("fw")
_PREFIX = publication_prefix(CHANNEL.name)
_CUT = None  # among the messages on their way: the connection was cut here


class World:
    """One channel on a Redis: its log, its meta, and the messages on their way."""

    def __init__(self) -> None:
        self.epoch = "e0"
        self.epochs = 0
        self.count = 0
        #: offset -> (id, body)
        self.log: dict[int, tuple[str, bytes]] = {}
        self.offset = 0
        self.id = ""
        #: offset -> the id of what was published there last.
        self.ids: dict[int, str] = {}
        #: id -> the id of the publication before it.
        self.parents: dict[str, str] = {}
        self.on_their_way: deque[bytes | None] = deque()
        self.heard: list[bytes] = []

    def publish(self, *, lost: bool = False) -> None:
        """Append and announce."""
        self.count += 1
        id_ = f"n{self.count}"
        previous = self.id
        self.parents[id_] = previous
        self.offset += 1
        self.id = self.ids[self.offset] = id_
        self.log[self.offset] = (id_, body(self.count))
        if not lost:
            publication = Publication.from_log(
                CHANNEL.name, self.epoch, self.offset, id_, body(self.count)
            )
            self.on_their_way.append(
                b"%b %d %b %b  %b"
                % (
                    self.epoch.encode(),
                    self.offset,
                    id_.encode(),
                    previous.encode(),
                    publication.wire,
                )
            )

    def begin_anew(self) -> None:
        """Lose everything."""
        self.epochs += 1
        self.epoch = f"e{self.epochs}"
        self.log.clear()
        self.ids.clear()
        self.offset, self.id = 0, ""

    def rewind(self, count: int) -> None:
        """Fail over to a replica that lacks the last ``count`` publications."""
        self.offset = max(self.offset - count, 0)
        self.log = {offset: entry for offset, entry in self.log.items() if offset <= self.offset}
        # Its meta hash names the top, also where the log has been trimmed.
        self.id = self.ids.get(self.offset, "")
        self.on_their_way.clear()
        self.on_their_way.append(_CUT)


class ScriptedStore:
    """A store whose calls are carried out, answered or failed when a test says so."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.listeners: dict[str, Listener] = {}
        self.calls: deque[tuple[str, tuple, asyncio.Future[Reply]]] = deque()
        self.done: deque[tuple[Reply, asyncio.Future[Reply]]] = deque()
        #: Carry out and answer each call at once.
        self.prompt = False

    async def listen(self, channel: str, listener: Listener) -> None:
        """Take a listener."""
        if channel in self.listeners:
            raise UsageError("a second listener")
        self.listeners[channel] = listener

    async def unlisten(self, channel: str) -> None:
        """Forget it."""
        self.listeners.pop(channel, None)

    async def run(self, script, keys, args, *, timeout_s=None) -> Reply:
        """Call a script."""
        return await self._call(script.name, tuple(args))

    async def pipeline(self, commands, *, timeout_s=None) -> Reply:
        """Call for tops."""
        return await self._call("tops", (len(commands),))

    async def _call(self, name: str, args: tuple) -> Reply:
        if self.prompt:
            return self._carry_out(name, args)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.calls.append((name, args, future))
        return await future

    def carry_out(self) -> None:
        """Carry out the oldest call; its answer is on its way."""
        name, args, future = self.calls.popleft()
        self.done.append((self._carry_out(name, args), future))

    def answer(self) -> None:
        """Deliver the oldest answer."""
        reply, future = self.done.popleft()
        if not future.done():
            future.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Fail the oldest call that was not carried out."""
        _, _, future = self.calls.popleft()
        if not future.done():
            future.set_exception(error)

    def _carry_out(self, name: str, args: tuple) -> Reply:
        world = self.world
        if name == "fork":
            if world.epoch == args[0]:
                world.epochs += 1
                world.epoch = f"e{world.epochs}"
            return world.epoch.encode()
        if name == "tops":
            meta: Reply = [world.epoch.encode(), b"%d" % world.offset, world.id.encode(), b"1"]
            return [meta] * args[0]
        assert name == "read"
        entries: list[Reply] = []
        if args[4]:
            wanted = sorted(offset for offset in world.log if offset >= int(args[2]))
            entries = [
                [
                    b"%d-0" % offset,
                    [b"i", world.log[offset][0].encode(), b"b", world.log[offset][1]],
                ]
                for offset in wanted[: args[4]]
            ]
        return [world.epoch.encode(), world.offset, world.id.encode(), entries, 0, b""]

    def hear(self) -> None:
        """Deliver the oldest message."""
        message = self.world.on_their_way.popleft()
        for listener in list(self.listeners.values()):
            if message is None:
                listener.on_interrupted()
            else:
                self.world.heard.append(message)
                listener.on_message(message)


class LineageSink(RecordingSink):
    """Checks that each publication is the child of the one before."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.id: str | None = None

    def on_publication(self, publication: Publication) -> None:
        """Take a publication."""
        super().on_publication(publication)
        parent = self.world.parents[publication.id]
        if self.id is not None and parent != self.id:
            self.faults.append(f"{publication} is the child of {parent}, not of {self.id}")
        self.id = publication.id

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:
        """Learn of a gap."""
        super().on_gap(gap, top, top_id)
        self.id = top_id


class _ManualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still until a test moves it."""

    now = 0.0

    def time(self) -> float:
        return self.now


class FollowerMachine(RuleBasedStateMachine):
    """Whatever happens between a log and a sink, the sink is told the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = _ManualLoop()
        self.world = World()
        self.store = ScriptedStore(self.world)
        self.follower: Follower
        self.sinks: list[LineageSink] = []
        self.tasks: list[asyncio.Task] = []
        self.errors: list[dict] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))

    def turn(self, do: Callable[[], None] = lambda: None) -> None:
        """Call ``do`` on the loop and let everything run that can."""

        async def run() -> None:
            do()
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(run())

    def tell(self, message: bytes) -> None:
        """Give a message to whoever listens."""
        for listener in self.store.listeners.values():
            self.turn(lambda listener=listener: listener.on_message(message))

    @initialize(held=st.sampled_from([700, 1_000_000]), grace_s=st.sampled_from([0.0, 1.0]))
    def begin(self, held, grace_s) -> None:
        """Follow, on a log that has a past."""
        options = FollowerSettings(max_held_bytes=held, grace_s=grace_s)
        log = EventLog(self.store, KEYS)
        self.follower = Follower(self.store, log, KEYS, options)
        for _ in range(3):
            self.world.publish(lost=True)
        self.start(promptly=True)

    @property
    def sink(self) -> LineageSink:
        """The sink of now."""
        return self.sinks[-1]

    def start(self, *, promptly: bool) -> None:
        """Begin to follow with a new sink."""
        self.store.prompt = promptly
        sink = LineageSink(self.world)
        self.sinks.append(sink)
        self.starting = self.loop.create_task(self._start(sink))
        self.turn()
        self.store.prompt = False

    async def _start(self, sink: LineageSink) -> None:
        try:
            position, id_ = await self.follower.start(CHANNEL, sink)
        except (UsageError, StoreError):
            assert sink.ended
        else:
            if not sink.publications:
                sink.position, sink.id = position, id_

    @rule(promptly=st.booleans(), really=st.sampled_from([False, False, True]))
    def stop_and_start_again(self, promptly, really) -> None:
        """Leave at any point; nothing is told to the old sink from then on."""
        if not really:  # else most sinks would not live long enough to see anything
            return
        stopping = self.loop.create_task(self.follower.stop(CHANNEL))
        self.turn()
        assert stopping.done()
        self.sink.ended = True
        assert not self.store.listeners
        self.start(promptly=promptly)

    @rule(times=st.integers(1, 6))
    def live(self, times) -> None:
        """Let everything go well for a while."""
        for _ in range(times):
            self.world.publish()
        self.work()
        self.hear_everything()
        self.work()

    @rule(lost=st.integers(1, 2), then=st.integers(1, 3))
    def lose_some(self, lost, then) -> None:
        """Lose messages and hear the ones after them."""
        for _ in range(lost):
            self.world.publish(lost=True)
        for _ in range(then):
            self.world.publish()
        self.hear_everything()

    @rule()
    def work(self) -> None:
        """Let all commands be carried out and answered."""
        while self.store.calls or self.store.done:
            if self.store.calls:
                self.store.carry_out()
            self.turn(self.store.answer)

    @rule()
    def hear_everything(self) -> None:
        """Deliver all messages."""
        self.hear(len(self.world.on_their_way))

    @rule(times=st.integers(1, 4))
    def publish(self, times) -> None:
        """Append and announce."""
        for _ in range(times):
            self.world.publish()

    @rule()
    def publish_unheard(self) -> None:
        """Append; the message is lost."""
        self.world.publish(lost=True)

    @rule(times=st.integers(1, 3))
    def hear_some(self, times) -> None:
        """Deliver messages."""
        self.hear(times)

    def hear(self, times: int) -> None:
        """Deliver messages, in one go."""

        def hear() -> None:
            for _ in range(min(times, len(self.world.on_their_way))):
                self.store.hear()

        self.turn(hear)

    @precondition(lambda self: any(self.world.on_their_way))
    @rule(data=st.data())
    def lose(self, data) -> None:
        """Lose a message."""
        way = self.world.on_their_way
        at = data.draw(st.integers(0, len(way) - 1))
        if way[at] is not _CUT:
            del way[at]

    @precondition(lambda self: any(self.world.heard))
    @rule(data=st.data())
    def hear_again(self, data) -> None:
        """Deliver an old message a second time."""
        message = data.draw(st.sampled_from(self.world.heard[-5:]))
        self.tell(message)

    @precondition(lambda self: len(self.world.on_their_way) > 1)
    @rule()
    def swap(self) -> None:
        """Let a message overtake the one before."""
        way = self.world.on_their_way
        if way[0] is not _CUT and way[1] is not _CUT:
            way[0], way[1] = way[1], way[0]

    @rule(
        garbage=st.sampled_from(
            [b"", b"x", b"1 2 3 4 5", b"e0 x n1 n0 " + _PREFIX, b"e0 1 n1 \xff " + _PREFIX, b"e0 1"]
        )
    )
    def hear_garbage(self, garbage) -> None:
        """Deliver what nobody of ours wrote."""
        self.tell(garbage)

    @rule(kind=st.sampled_from(["cut", "cut", "trim all", "trim", "anew"]))
    def suffer(self, kind) -> None:
        """Lose the connection and what was on its way, or the oldest entries, or everything."""
        world = self.world
        if kind == "cut":
            world.on_their_way.clear()
            world.on_their_way.append(_CUT)
        elif kind == "anew":
            world.begin_anew()
        else:
            keep = 0 if kind == "trim all" else 2
            world.log = {k: v for k, v in world.log.items() if k > world.offset - keep}

    @rule(count=st.integers(1, 4), then=st.integers(0, 6))
    def fail_over(self, count, then) -> None:
        """Rewind within the epoch, and give the lost offsets to others at once."""
        self.world.rewind(count)
        for _ in range(then):
            self.world.publish()

    @precondition(lambda self: self.store.calls)
    @rule()
    def carry_out(self) -> None:
        """Let Redis carry a command out."""
        self.store.carry_out()

    @precondition(lambda self: self.store.done)
    @rule()
    def answer(self) -> None:
        """Let an answer arrive."""
        self.store.answer()
        self.turn()

    @precondition(lambda self: self.store.calls)
    @rule(refused=st.booleans())
    def fail(self, refused) -> None:
        """Fail a command."""
        error = StoreRefused("LOADING") if refused else StoreUnavailable("away")
        if self.starting.done():  # failing starts have tests of their own
            self.store.fail(error)
        self.turn()

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0]))
    def wait(self, seconds) -> None:
        """Let time pass."""
        self.loop.now += seconds
        self.turn()

    @rule()
    def compare(self) -> None:
        """Begin a comparison."""
        self.tasks.append(self.loop.create_task(self._compare()))
        self.turn()

    async def _compare(self) -> None:
        with contextlib.suppress(StoreRefused, StoreUnavailable):
            await self.follower.compare()

    @invariant()
    def the_truth_was_told(self) -> None:
        """No silent hole, no duplicate, no reordering, nothing after the end."""
        for sink in self.sinks:
            assert not sink.faults
        assert not self.errors

    def teardown(self) -> None:
        """In the end, when faults end, the sink stands where the log stands."""
        try:
            if self.sinks:
                self._quieten()
                self.the_truth_was_told()
                assert self.sink.position == Position(self.world.epoch, self.world.offset)
        finally:
            if self.sinks:
                self.loop.run_until_complete(self.follower.close())
            for task in self.tasks:
                task.cancel()
            self.turn()
            assert not asyncio.all_tasks(self.loop), "something was left running"
            self.loop.close()

    def _quieten(self) -> None:
        self.world.publish(lost=True)
        for _ in range(12):
            while self.store.calls or self.store.done or self.world.on_their_way:
                if self.store.calls:
                    self.store.carry_out()
                if self.store.done:
                    self.store.answer()
                self.turn(self.store.hear if self.world.on_their_way else lambda: None)
            self.loop.now += 2
            self.turn()
            self.compare()


TestFollowerMachine = FollowerMachine.TestCase
TestFollowerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# -- by hand --------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    """A world with three publications."""
    world = World()
    for _ in range(3):
        world.publish(lost=True)
    return world


@pytest.fixture
def scripted(world: World) -> ScriptedStore:
    """A store that does everything at once."""
    store = ScriptedStore(world)
    store.prompt = True
    return store


@pytest.fixture
def follower(scripted: ScriptedStore) -> Follower:
    """A follower on it."""
    return Follower(scripted, EventLog(scripted, KEYS), KEYS, FollowerSettings(grace_s=1.0))


async def _turn() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


async def test_following_begins_at_the_top(world, scripted, follower):
    """What was there before is not told; what comes is."""
    sink = LineageSink(world)
    position, id_ = await follower.start(CHANNEL, sink)
    assert (position, id_) == (Position("e0", 3), "n3")
    world.publish()
    scripted.hear()
    assert sink.ids == ["n4"]


async def test_a_channel_is_followed_once(world, scripted, follower):
    """A second start is a mistake, and does not disturb the first."""
    sink = LineageSink(world)
    await follower.start(CHANNEL, sink)
    with pytest.raises(UsageError, match="followed already"):
        await follower.start(CHANNEL, LineageSink(world))
    world.publish()
    scripted.hear()
    assert sink.ids == ["n4"]
    await follower.stop(CHANNEL)
    await follower.stop(CHANNEL)  # nothing is left to stop, and that is no mistake
    assert not scripted.listeners


async def test_a_listener_of_somebody_else_stays(scripted, follower):
    """A start that is refused because somebody listens already does not end that listening."""
    pubsub = KEYS.pubsub(CHANNEL)
    other = RecordingSink()
    scripted.listeners[pubsub] = cast(Listener, other)
    with pytest.raises(UsageError, match="second listener"):
        await follower.start(CHANNEL, RecordingSink())
    assert scripted.listeners == {pubsub: other}


async def test_an_interruption_during_the_start_is_made_good_after_it(world, scripted, follower):
    """The log is read once more, after the position is known, and nothing is told twice."""
    scripted.prompt = False
    sink = LineageSink(world)
    starting = asyncio.create_task(follower.start(CHANNEL, sink))
    await _turn()
    scripted.carry_out()
    world.publish(lost=True)
    scripted.listeners[KEYS.pubsub(CHANNEL)].on_interrupted()
    await _turn()
    assert len(scripted.calls) == 0, "a repair began beside the start"
    scripted.prompt = True
    scripted.answer()
    assert await starting == (Position("e0", 3), "n3")
    await _turn()
    assert sink.ids == ["n4"]
    assert not sink.faults


@pytest.mark.parametrize("point", ["listening", "reading", "answered"])
async def test_a_start_can_be_cancelled_at_any_point(world, scripted, follower, point):
    """Nothing is left: no listener, no task, no trace that the channel was followed."""
    scripted.prompt = False
    starting = asyncio.create_task(follower.start(CHANNEL, LineageSink(world)))
    if point != "listening":
        await _turn()
    if point == "answered":
        scripted.carry_out()
        scripted.answer()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not scripted.listeners
    assert asyncio.all_tasks() == {asyncio.current_task()}
    scripted.prompt = True
    await follower.start(CHANNEL, LineageSink(world))


async def test_a_start_that_fails_leaves_nothing(world, scripted, follower):
    """An unreadable log is an error of the start, and the channel can be started later."""
    scripted.prompt = False
    starting = asyncio.create_task(follower.start(CHANNEL, LineageSink(world)))
    await _turn()
    scripted.fail(StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        await starting
    assert not scripted.listeners
    scripted.prompt = True
    await follower.start(CHANNEL, LineageSink(world))


async def test_stopping_during_the_start_ends_it(world, scripted, follower):
    """The start fails, and its sink is told nothing."""
    scripted.prompt = False
    sink = LineageSink(world)
    starting = asyncio.create_task(follower.start(CHANNEL, sink))
    await _turn()
    await follower.stop(CHANNEL)
    scripted.carry_out()
    scripted.answer()
    with pytest.raises(UsageError, match="stopped"):
        await starting
    assert not scripted.listeners
    assert not sink.publications


async def test_stopping_ends_a_repair(world, scripted, follower):
    """A repair that waits for the log ends, and its answer is told to nobody."""
    sink = LineageSink(world)
    await follower.start(CHANNEL, sink)
    scripted.prompt = False
    world.publish(lost=True)
    world.publish()
    scripted.hear()
    await _turn()
    assert len(scripted.calls) == 1
    scripted.carry_out()
    scripted.answer()  # it is on its way to the repair when the stop comes
    await follower.stop(CHANNEL)
    sink.ended = True
    await _turn()
    assert not sink.publications
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_waiting_for_the_end_of_a_repair_can_be_cancelled(world, scripted, follower):
    """Whoever cancels a stop gets the cancellation, and the repair ends all the same."""
    await follower.start(CHANNEL, LineageSink(world))
    scripted.prompt = False
    scripted.listeners[KEYS.pubsub(CHANNEL)].on_interrupted()
    await _turn()
    stopping = asyncio.create_task(follower.stop(CHANNEL))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await _turn()
    assert not scripted.listeners
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_late_messages_are_no_trouble(world, scripted, follower):
    """Messages of what a read brought come in after it: no second read, nothing twice."""
    sink = LineageSink(world)
    await follower.start(CHANNEL, sink)
    for _ in range(5):
        world.publish()
    world.on_their_way.popleft()
    scripted.hear()  # 5 without 4: the log is read and brings 4 to 8
    await _turn()
    assert sink.ids == ["n4", "n5", "n6", "n7", "n8"]
    while world.on_their_way:
        scripted.hear()
    await _turn()
    world.publish()
    scripted.hear()
    assert sink.ids[-1] == "n9"
    assert (follower.stats.repairs, follower.stats.late) == (1, 3)
    assert not sink.faults


async def test_an_offset_that_goes_back_is_a_fork(world, scripted, follower):
    """Another publication at a known offset: a new epoch begins, and the gap is told once."""
    sink = LineageSink(world)
    await follower.start(CHANNEL, sink)
    world.publish()
    scripted.hear()
    world.rewind(2)
    world.on_their_way.clear()  # a replica that took over without a cut, which cannot be
    world.publish()
    scripted.hear()
    await _turn()
    assert world.epoch != "e0"
    assert [gap for gap, _ in sink.gaps] == [Gap.EPOCH]
    assert sink.position == Position(world.epoch, 3)
    world.publish()
    scripted.hear()
    assert sink.ids == ["n4", "n6"]
    assert not sink.faults


async def test_a_message_of_another_history_does_not_continue_this_one(world, scripted, follower):
    """The old server still speaks when its successor was read: epoch and offset fit, and lie."""
    sink = LineageSink(world)
    await follower.start(CHANNEL, sink)
    for _ in range(3):
        world.publish()
    old = list(world.on_their_way)
    world.rewind(2)  # 5 and 6 are lost; another 5 takes their place
    world.publish(lost=True)
    world.on_their_way.clear()
    listener = scripted.listeners[KEYS.pubsub(CHANNEL)]
    listener.on_message(old[1])
    listener.on_message(old[2])
    await _turn()
    assert sink.ids == ["n4", "n7"]
    assert not sink.faults


async def test_what_is_held_is_bounded(world, scripted):
    """A slow read and a flood: memory stays small and everything is told all the same."""
    options = FollowerSettings(max_held_bytes=20_000)
    follower = Follower(scripted, EventLog(scripted, KEYS), KEYS, options)
    sink = LineageSink(world)
    await follower.start(CHANNEL, sink)
    scripted.prompt = False
    scripted.listeners[KEYS.pubsub(CHANNEL)].on_interrupted()
    await _turn()
    (followed,) = follower._followed.values()
    longest = 0
    for _ in range(1000):
        world.publish()
        scripted.hear()
        longest = max(longest, len(followed.held or ()))
    assert longest < 60
    scripted.prompt = True
    scripted.carry_out()
    scripted.answer()
    await _turn()
    assert sink.ids == [f"n{n}" for n in range(4, 1004)]
    assert not sink.faults


async def test_a_sink_that_fails_does_not_end_the_channel(world, scripted, follower, caplog):
    """Its fault is logged, it misses what it failed on, and it is told what comes after."""

    class FailingSink(LineageSink):
        def on_publication(self, publication: Publication) -> None:
            super().on_publication(publication)
            if publication.id == "n5":
                raise ZeroDivisionError

    sink = FailingSink(world)
    await follower.start(CHANNEL, sink)
    for _ in range(3):
        world.publish(lost=True)
    scripted.listeners[KEYS.pubsub(CHANNEL)].on_interrupted()
    await sink.wait_for(3)
    assert sink.ids == ["n4", "n5", "n6"]
    assert "a sink failed" in caplog.text


async def test_a_refused_log_is_read_again(world, scripted, follower, caplog):
    """A log that cannot be read at present is said so, and read when it can be."""
    sink = LineageSink(world)
    await follower.start(CHANNEL, sink)
    scripted.prompt = False
    world.publish(lost=True)
    scripted.listeners[KEYS.pubsub(CHANNEL)].on_interrupted()
    await _turn()
    scripted.fail(StoreRefused("WRONGTYPE"))
    scripted.prompt = True
    await sink.wait_for(1)
    assert sink.ids == ["n4"]
    assert "WRONGTYPE" in caplog.text


async def test_comparing_a_busy_channel_repairs_nothing(world, scripted):
    """A channel that is behind only because messages are on their way is left alone."""
    options = FollowerSettings(grace_s=0.0)
    follower = Follower(scripted, EventLog(scripted, KEYS), KEYS, options)
    sink = LineageSink(world)
    await follower.start(CHANNEL, sink)
    for _ in range(50):
        world.publish()
        comparing = asyncio.create_task(follower.compare())
        await asyncio.sleep(0)  # the tops are read: the log is ahead
        scripted.hear()
        await comparing
    assert follower.stats.repairs == 0
    assert len(sink.publications) == 50


async def test_closing_ends_everything(world, scripted, follower):
    """Listeners and repairs are gone, and no sink is told anything more."""
    sinks = []
    for n in range(5):
        sinks.append(LineageSink(world))
        await follower.start(make_channel(f"test:{n}"), sinks[-1])
    scripted.prompt = False
    for listener in list(scripted.listeners.values()):
        listener.on_interrupted()
    await _turn()
    await follower.close()
    assert not scripted.listeners
    assert asyncio.all_tasks() == {asyncio.current_task()}
