"""The driver: carries out what the state machine decides, with rooms and a log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from channels.errors import Disconnects
from channels.identity import ANONYMOUS, Identity
from hub.access import Access
from hub.connection import ConnectionSettings
from hub.driver import Driver
from hub.engine import Engine
from hub.frame_queue import entry_text

from .harness import OPEN, World

QUIET = ConnectionSettings()


class Desk:
    """A driver on a world that does as it is told, and what it wrote."""

    def __init__(
        self,
        *,
        settings: ConnectionSettings = QUIET,
        outbox_bytes: int = 100_000,
        authenticate: Callable[[str], Identity] = lambda token: ANONYMOUS,
        world: World | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.world = world or World()
        self.engine = engine or self.world.engine(linger_s=0)
        self.driver = Driver(
            engine=self.engine,
            events=self.world,  # type: ignore[arg-type]  # stands in for Events
            access=Access(OPEN, insecure=True),
            authenticate=authenticate,
            settings=settings,
            outbox_bytes=outbox_bytes,
            version="test 1",
        )
        #: Set while something waits, or the connection is to be closed.
        self.ready = asyncio.Event()
        self.driver.outbox.on_ready = self.ready.set
        self.dropped = asyncio.Event()
        self.driver.on_drop = self.dropped.set

    async def send(self, *commands: object) -> None:
        """Feed in a frame, and wait until all is done."""
        task = self.driver.receive("\n".join(json.dumps(command) for command in commands))
        if task is not None:
            await asyncio.wait([task])

    async def connect(self, *channels: str) -> None:
        """Connect and subscribe."""
        subscribes = [{"id": 2, "subscribe": {"channel": channel}} for channel in channels]
        await self.send({"id": 1, "connect": {}}, *subscribes)
        self.written()

    def written(self) -> list[Any]:
        """Take what waits."""
        messages: list[Any] = []
        self.ready.clear()
        while entries := self.driver.outbox.take():
            messages += [json.loads(entry_text(entry)) for entry in entries]
        return messages

    async def closing(self) -> int:
        """Wait until the connection is to be closed; return the code."""
        async with asyncio.timeout(5):
            while self.driver.closing is None:
                await self.ready.wait()
                self.written()
        return self.driver.closing.code

    def members(self, channel: str = "chat") -> int:
        """Return how many are in the room."""
        return len(self.engine.rooms.get(channel, ()))

    async def leave(self) -> None:
        """End it, and see that nothing is left."""
        self.driver.gone()
        assert self.members() == 0
        await self.engine.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_commands_are_done_in_order() -> None:
    """Each waits for the answer of the one before it."""
    desk = Desk()
    await desk.send(
        {"id": 1, "connect": {}},
        {"id": 2, "subscribe": {"channel": "chat"}},
        {"id": 3, "publish": {"channel": "chat", "data": {"x": 1}}},
        {"id": 4, "history": {"channel": "chat", "limit": 5}},
        {"id": 5, "unsubscribe": {"channel": "chat"}},
    )
    written = desk.written()
    assert [message["id"] for message in written] == [1, 2, 3, 4, 5]
    [stored] = written[3]["history"]["publications"]
    assert (stored["offset"], stored["data"]) == (1, {"x": 1})
    await desk.leave()


async def test_what_comes_live_comes_after_the_reply() -> None:
    """Publications that arrive while the log is read follow the reply to the subscribe."""
    desk = Desk()
    other = Desk(world=desk.world, engine=desk.engine)
    await other.connect("chat")
    desk.world.publish(3)
    desk.world.pump()

    def publish(name: str) -> None:
        if name == "read":
            desk.world.publish(2)
            desk.world.pump()

    desk.world.on_call = publish
    since = {"channel": "chat", "recover": True, "epoch": "e1", "offset": 1}
    await desk.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": since})
    connected, subscribed, *live = desk.written()
    assert connected["id"] == 1
    inside = [pub["offset"] for pub in subscribed["subscribe"]["publications"]]
    assert inside + [push["push"]["pub"]["offset"] for push in live] == [2, 3, 4, 5]
    other.driver.gone()
    await desk.leave()


@pytest.mark.parametrize("name", ["start", "append", "read"])
async def test_a_failure_of_redis_is_answered(name: str) -> None:
    """The command gets a temporary error, and the next one is taken."""
    desk = Desk()
    await desk.connect()
    desk.world.failing.add(name)
    method = {"start": "subscribe", "append": "publish", "read": "history"}[name]
    await desk.send(
        {"id": 2, method: {"channel": "chat", "data": 1}},
        {"id": 3, "unsubscribe": {"channel": "other"}},
    )
    failed, answered = desk.written()
    assert (failed["error"]["code"], failed["error"]["temporary"]) == (100, True)
    assert answered["id"] == 3
    await desk.leave()


async def test_a_slow_reader_is_dropped_and_leaves_its_rooms() -> None:
    """Nothing that waited is kept, and the transport is told."""
    desk = Desk(outbox_bytes=500)
    await desk.connect("chat", "other")
    desk.world.publish(50)
    desk.world.pump()
    assert desk.driver.closing == Disconnects.SLOW
    assert desk.dropped.is_set()
    assert len(desk.driver.outbox) == 0
    assert (desk.members("chat"), desk.members("other")) == (0, 0)
    await desk.leave()


async def test_a_drop_half_way_through_leaves_every_room() -> None:
    """Replies that do not fit end the connection; no room keeps it."""
    desk = Desk(outbox_bytes=400)
    await desk.connect("a", "b")
    assert desk.members("a") == desk.members("b") == 1
    # The replies to these are too much, and the last leave comes after the drop.
    filler = [{"id": id, "unsubscribe": {"channel": "none"}} for id in range(10, 30)]
    await desk.send({"id": 3, "unsubscribe": {"channel": "a"}}, *filler, {"id": 31, "ping": {}})
    assert desk.driver.closing == Disconnects.SLOW
    assert desk.written() == [], "the replies after the drop would have fitted"
    assert desk.members("a") == desk.members("b") == 0
    await desk.leave()


async def test_a_drop_by_a_reply_leaves_what_is_forbidden_after_it() -> None:
    """A leave that stands behind the reply that did not fit is carried out all the same."""
    desk = Desk(outbox_bytes=400)
    await desk.connect("a", "b")
    connection = desk.driver._connection
    effects = connection.lost("a")
    desk.driver.outbox._limit = 0
    desk.driver._carry_out([*reversed(effects)])
    assert desk.driver.closing == Disconnects.SLOW
    assert desk.members("a") == desk.members("b") == 0
    await desk.leave()


async def test_nothing_is_queued_after_the_end() -> None:
    """A publication that still comes would only delay the goodbye."""
    desk = Desk()
    await desk.connect("chat")
    room = desk.engine.rooms["chat"]
    desk.driver.end(Disconnects.SHUTDOWN)
    assert desk.members() == 0
    room.enter(desk.driver).release(room.position)
    desk.world.publish(1)
    desk.world.pump()
    assert desk.written() == []
    room.leave(desk.driver)
    await desk.leave()


async def test_an_end_comes_after_what_is_queued() -> None:
    """The writer finds the publications first, then the code."""
    desk = Desk()
    await desk.connect("chat")
    desk.world.publish(3)
    desk.world.pump()
    desk.driver.end(Disconnects.SHUTDOWN)
    assert [message["push"]["pub"]["offset"] for message in desk.written()] == [1, 2, 3]
    assert desk.driver.closing == Disconnects.SHUTDOWN
    assert not desk.dropped.is_set()
    await desk.leave()


async def test_an_end_that_is_not_read_is_given_up() -> None:
    """After the time for goodbyes the transport is told, and nothing waits any more."""
    desk = Desk(settings=ConnectionSettings(goodbye_timeout_s=0.05))
    await desk.connect("chat")
    desk.world.publish(3)
    desk.world.pump()
    desk.driver.end(Disconnects.SHUTDOWN)
    async with asyncio.timeout(5):
        await desk.dropped.wait()
    assert len(desk.driver.outbox) == 0
    await desk.leave()


async def test_a_mistake_of_who_does_not_read_is_given_up_too() -> None:
    """The time for goodbyes runs when the client's own frame ended the connection."""
    desk = Desk(settings=ConnectionSettings(goodbye_timeout_s=0.05))
    await desk.connect("chat")
    await desk.send({"id": 2, "connect": {}})
    assert desk.driver.closing == Disconnects.BAD_REQUEST
    async with asyncio.timeout(5):
        await desk.dropped.wait()
    await desk.leave()


async def test_who_does_not_answer_a_ping_is_dropped() -> None:
    """There is no goodbye to wait for."""
    desk = Desk(settings=ConnectionSettings(ping_interval_s=0.02, pong_timeout_s=0.02))
    await desk.connect("chat")
    assert await desk.closing() == 3012
    assert desk.dropped.is_set()
    assert desk.members() == 0
    await desk.leave()


async def test_who_never_connects_is_stale() -> None:
    """The clock runs from the beginning."""
    desk = Desk(settings=ConnectionSettings(connect_timeout_s=0.02))
    assert await desk.closing() == 3502
    await desk.leave()


async def test_a_slow_redis_is_not_the_clients_fault() -> None:
    """While the hub waits for Redis it does not read pongs, and does not miss them."""
    desk = Desk(settings=ConnectionSettings(ping_interval_s=0.02, pong_timeout_s=0.02))
    await desk.connect()
    answer = asyncio.Event()

    async def slow(*args: object, **kwargs: object) -> None:
        await answer.wait()

    desk.world.append = slow  # type: ignore[method-assign, assignment]
    publishing = asyncio.create_task(
        desk.send({"id": 3, "publish": {"channel": "chat", "data": 1}}, {})
    )
    async with asyncio.timeout(5):
        while {} not in desk.written():
            await desk.ready.wait()
    await asyncio.sleep(0.1)  # several times the time for a pong
    assert desk.driver.closing is None
    answer.set()
    await publishing
    assert desk.driver.closing is None
    await desk.leave()


async def test_a_deadline_may_be_due_already() -> None:
    """Messages that come in the very moment of a ping are nothing special."""
    desk = Desk(settings=ConnectionSettings(ping_interval_s=0.0, pong_timeout_s=5.0))
    await desk.connect()
    for number in (3, 4, 5):
        assert desk.driver.receive(b'{"id":%d,"presence":{"channel":"chat"}}' % number) is None
    assert desk.driver.closing is None
    await desk.leave()


@pytest.mark.parametrize("turns", range(8))
async def test_going_while_a_join_is_under_way(turns: int) -> None:
    """Whenever the client goes, no room keeps it."""
    desk = Desk()
    joining = asyncio.create_task(
        desk.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "chat"}})
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    desk.driver.gone()
    await joining
    assert desk.members() == 0
    assert len(desk.driver.outbox) == 0
    await desk.leave()


async def test_who_does_not_read_is_not_given_more() -> None:
    """The next question waits until the answer to the last one is on its way."""
    desk = Desk(outbox_bytes=100)
    desk.world.publish(20)
    await desk.connect()
    history = {"channel": "chat", "limit": 20}
    asking = asyncio.create_task(desk.send(*({"id": id, "history": history} for id in range(2, 7))))
    seen = []
    async with asyncio.timeout(5):
        while len(seen) < 5:
            await desk.ready.wait()
            for _ in range(10):
                await asyncio.sleep(0)
            messages = desk.written()
            assert len(messages) <= 1
            seen += [message["id"] for message in messages]
    assert seen == [2, 3, 4, 5, 6]
    await asking
    await desk.leave()


async def test_going_ends_the_wait_for_a_reader() -> None:
    """A driver that waits for its client to read stops when the client is gone."""
    desk = Desk(outbox_bytes=200)
    desk.world.publish(20)
    await desk.connect()
    asking = asyncio.create_task(
        desk.send(
            {"id": 2, "history": {"channel": "chat", "limit": 20}},
            {"id": 3, "publish": {"channel": "chat", "data": 1}},
        )
    )
    await desk.ready.wait()
    desk.driver.gone()
    async with asyncio.timeout(5):
        await asking
    assert desk.written() == []
    assert len(desk.world.entries) == 20, "published for somebody who is gone"
    await desk.leave()


async def test_the_user_is_known_after_the_connect() -> None:
    """The registry counts users by it."""
    desk = Desk(authenticate=lambda token: Identity(user=token))
    assert desk.driver.user == ""
    await desk.send({"id": 1, "connect": {"token": "ada"}})
    assert desk.driver.user == "ada"
    await desk.leave()
