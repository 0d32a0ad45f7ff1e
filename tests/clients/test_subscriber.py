"""The subscriber before a hub on a real socket: order, resumption, gaps, endings, back-pressure."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from channels import Position, encode_event, events
from channels.errors import (
    BadRequest,
    HubOutcomeUnknown,
    HubUnavailable,
    LimitExceeded,
    NotAvailable,
    PermissionDenied,
    TokenExpired,
    Unauthorized,
    UnknownChannel,
    UsageError,
)
from clients import Backoff, Delivery, Gap, Subscriber, Subscription

from .fake_hub import FakeHub


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    """A fake hub that listens; afterwards no task of the subscriber is left."""
    before = asyncio.all_tasks()
    async with FakeHub() as fake:
        yield fake
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert left <= {asyncio.current_task()}


def subscriber(hub: FakeHub, **options: Any) -> Subscriber:
    """Return a subscriber that does not dawdle between connections."""
    options.setdefault("backoff", Backoff(0.01, 0.05))
    return Subscriber(hub.url, **options)


async def take(subscription: Subscription[Any], count: int) -> list[Any]:
    """Return the next items: the data of deliveries, and gaps as they are."""
    items = []
    for _ in range(count):
        item = await anext(subscription)
        items.append(item.data if isinstance(item, Delivery) else item)
    return items


async def test_yields_what_is_published(hub: FakeHub) -> None:
    """Each delivery knows its channel, its position and its data."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.publish("log:x", {"n": 1}, {"n": 2})
        first, second = await anext(log), await anext(log)
    assert isinstance(first, Delivery)
    assert (first.channel, first.position, first.data) == ("log:x", Position("e", 1), {"n": 1})
    assert isinstance(second, Delivery)
    assert second.position == Position("e", 2)
    assert second.event is None


async def test_typed_events_on_declared_channels(hub: FakeHub) -> None:
    """The event is decoded into its class, also where its data is carried verbatim."""
    created = events.NotificationCreated(
        data=events.NotificationCreatedData(user="u1", notification="n1", title="Hello")
    )
    run = events.RunEvent(data=msgspec.Raw(b'{"type":"RUN_STARTED"}'))
    async with (
        subscriber(hub) as fanwire,
        fanwire.subscribe("notifications:u1", "run:w1:r1") as stream,
    ):
        await hub.publish("notifications:u1", msgspec.json.decode(encode_event(created)))
        await hub.publish("run:w1:r1", msgspec.json.decode(encode_event(run)))
        await hub.publish("notifications:u1", {"type": "notification.from.the.future"})
        first, second, third = [await anext(stream) for _ in range(3)]
    assert isinstance(first, Delivery)
    assert first.event == created
    assert isinstance(second, Delivery)
    assert isinstance(second.event, events.RunEvent)
    assert isinstance(third, Delivery)
    assert third.event is None
    assert third.data == {"type": "notification.from.the.future"}


async def test_what_was_superseded_is_told_and_is_no_loss(hub: FakeHub) -> None:
    """The next delivery counts it, the connection stays, and the position goes on from there."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.publish("log:x", 1)
        hub.supersede("log:x", 2, 3)
        await hub.publish("log:x", 4, 5)
        deliveries = [await anext(log) for _ in range(3)]
        seen = [
            (one.position.offset, one.skipped) for one in deliveries if isinstance(one, Delivery)
        ]
        assert seen == [(1, 0), (4, 2), (5, 0)]
        hub.supersede("log:x", 6)
        await hub.cut(3008, "slow consumer")
        assert await take(log, 1) == [6]  # what was not told is recovered
        (page, _) = await fanwire.history("log:x", limit=-1)
        assert [(one.data, one.skipped) for one in page] == [(n, 0) for n in range(1, 7)]


async def test_async_for_without_a_block(hub: FakeHub) -> None:
    """Iterating is enough; the channel is followed from the first item on."""
    async with subscriber(hub) as fanwire:
        log = fanwire.subscribe("log:x", since=Position("e", 0))
        await hub.publish("log:x", "old")
        async for delivery in log:
            assert delivery.position == Position("e", 1)
            break


async def test_goes_on_after_a_position(hub: FakeHub) -> None:
    """A position from an earlier run brings exactly what came after it."""
    await hub.publish("log:x", 1, 2, 3)
    async with (
        subscriber(hub) as fanwire,
        fanwire.subscribe("log:x", since=Position("e", 1)) as log,
    ):
        await hub.publish("log:x", 4)
        assert await take(log, 3) == [2, 3, 4]


@pytest.mark.parametrize("code", [0, 3001, 3008, 3010, 3012, 1001])
async def test_resumes_without_loss(hub: FakeHub, code: int) -> None:
    """Whatever ended the connection, what was published meanwhile arrives once, in order."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        for round_ in range(5):
            await hub.publish("log:x", f"{round_}a")
            await hub.cut(code, "test")
            await hub.publish("log:x", f"{round_}b", f"{round_}c")
        expected = [f"{round_}{letter}" for round_ in range(5) for letter in "abc"]
        assert await take(log, 15) == expected


async def test_resumes_after_the_hub_was_restarted(hub: FakeHub) -> None:
    """Connections are refused for a while; the iterator only waits."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.publish("log:x", 1)
        await hub.shut()
        await hub.publish("log:x", *range(2, 1001))
        await hub.listen(hub.port)
        assert await take(log, 1000) == list(range(1, 1001))


async def test_a_disconnect_push_is_a_close(hub: FakeHub) -> None:
    """Transports without close codes tell the code in a message."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.push({"disconnect": {"code": 3001, "reason": "shutdown"}})
        await hub.until(lambda: len(hub.tokens) == 2)
        await hub.publish("log:x", 1)
        assert await take(log, 1) == [1]


async def test_a_gap_is_told_where_it_is(hub: FakeHub) -> None:
    """History was lost while nobody was connected: the gap comes before what follows it."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.publish("log:x", 1, 2)
        assert await take(log, 2) == [1, 2]
        await hub.shut()
        hub.forget("log:x")
        await hub.publish("log:x", "new")
        await hub.listen(hub.port)
        assert await take(log, 1) == [Gap("log:x", Position("e", 2), Position("e'", 1))]
        await hub.publish("log:x", "newer")
        assert await take(log, 1) == ["newer"]


async def test_a_position_that_was_trimmed_is_a_gap(hub: FakeHub) -> None:
    """Coming back too late is told as well."""
    await hub.publish("log:x", 1, 2, 3)
    hub.trimmed["log:x"] = 2
    async with (
        subscriber(hub) as fanwire,
        fanwire.subscribe("log:x", since=Position("e", 1)) as log,
    ):
        assert await take(log, 1) == [Gap("log:x", Position("e", 1), Position("e", 3))]


async def test_a_reconnect_without_history_is_a_gap(hub: FakeHub) -> None:
    """Where nothing can be recovered, nobody may believe that nothing was missed."""
    hub.keeps_history = False
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.publish("log:x", 1)
        assert await take(log, 1) == [1]
        await hub.cut()
        assert await take(log, 1) == [Gap("log:x", None, Position("", 0))]


async def test_an_unsubscribe_from_2500_up_is_undone(hub: FakeHub) -> None:
    """The hub doubts its own continuity; the subscriber recovers from its position."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.publish("log:x", 1)
        before = len(hub.commands)
        await hub.push({"channel": "log:x", "unsubscribe": {"code": 2500, "reason": "doubt"}})
        await hub.until(lambda: any("subscribe" in each for each in hub.commands[before:]))
        await hub.publish("log:x", 2)
        assert await take(log, 2) == [1, 2]
        assert len(hub.tokens) == 1


async def test_a_final_unsubscribe_ends_the_iterator(hub: FakeHub) -> None:
    """What was delivered before still comes, then the error."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x", "log:y") as log:
        await hub.publish("log:x", 1)
        await hub.push({"channel": "log:x", "unsubscribe": {"code": 2000, "reason": "banned"}})
        assert await take(log, 1) == [1]
        with pytest.raises(PermissionDenied, match="banned"):
            await anext(log)
        await hub.until(lambda: any("unsubscribe" in each for each in hub.commands))


async def test_a_hole_in_the_offsets_is_recovered(hub: FakeHub) -> None:
    """A push that skips an offset is not believed: the log is asked."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.publish("log:x", 1)
        hub.logs["log:x"] += [2, 3]
        await hub.push({"channel": "log:x", "pub": {"offset": 3, "data": 3}})
        assert await take(log, 3) == [1, 2, 3]


async def test_a_repeated_publication_is_dropped(hub: FakeHub) -> None:
    """An offset that was handed out is not handed out again."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.publish("log:x", 1)
        await hub.push({"channel": "log:x", "pub": {"offset": 1, "data": 1}})
        await hub.publish("log:x", 2)
        assert await take(log, 2) == [1, 2]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (3500, Unauthorized),
        (3501, BadRequest),
        (3504, LimitExceeded),
        (3507, PermissionDenied),
        (3508, NotAvailable),
        (3005, TokenExpired),
        (1009, LimitExceeded),
    ],
)
async def test_a_final_disconnect_is_raised(hub: FakeHub, code: int, kind: type[Exception]) -> None:
    """No reconnect would help, so the iterator says why, and so does every later use."""
    async with subscriber(hub) as fanwire:
        async with fanwire.subscribe("log:x") as log:
            await hub.cut(code, "because")
            with pytest.raises(kind, match="because"):
                await anext(log)
        with pytest.raises(kind):
            await fanwire.subscribe("log:y").__aenter__()


@pytest.mark.parametrize(("code", "kind"), [(102, UnknownChannel), (103, PermissionDenied)])
async def test_a_refused_channel_is_raised(hub: FakeHub, code: int, kind: type[Exception]) -> None:
    """The other channels of the connection live on."""
    hub.subscribe_errors["log:x"] = [{"code": code, "message": "not for you"}] * 2
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:y") as log:
        with pytest.raises(kind, match="not for you"):
            await fanwire.subscribe("log:x").__aenter__()
        with pytest.raises(kind, match="not for you"):
            await anext(fanwire.subscribe("log:x"))
        await hub.publish("log:y", 1)
        assert await take(log, 1) == [1]


async def test_a_temporary_refusal_is_tried_again(hub: FakeHub) -> None:
    """A hub whose store is away answers 100; the subscription waits until it is back."""
    busy = {"code": 100, "message": "internal", "temporary": True}
    hub.subscribe_errors["log:x"] = [busy, busy]
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.publish("log:x", 1)
        assert await take(log, 1) == [1]


async def test_a_refused_connection_is_raised_at_the_door(hub: FakeHub) -> None:
    """Entering fails with the reason."""
    hub.connect_errors = [{"code": 101, "message": "who are you"}]
    with pytest.raises(Unauthorized, match="who are you"):
        await subscriber(hub).__aenter__()


async def test_an_expired_token_is_replaced(hub: FakeHub) -> None:
    """``get_token`` is asked at the start, and again when the hub says that time is up."""
    numbers = itertools.count(1)

    async def get_token() -> str:
        return f"token{next(numbers)}"

    async with (
        subscriber(hub, get_token=get_token) as fanwire,
        fanwire.subscribe("log:x") as log,
    ):
        await hub.cut(3005, "expired")
        await hub.publish("log:x", 1)
        assert await take(log, 1) == [1]
        hub.connect_errors = [{"code": 109, "message": "token expired"}]
        await hub.cut(3001, "shutdown")
        await hub.publish("log:x", 2)
        assert await take(log, 1) == [2]
    assert hub.tokens == ["token1", "token2", "token2", "token3"]


async def test_an_expired_token_without_another_ends_it(hub: FakeHub) -> None:
    """Nobody can give a new one, so the iterator says so."""
    hub.connect_errors = [{"code": 109, "message": "token expired"}]
    with pytest.raises(TokenExpired):
        await subscriber(hub, token="old").__aenter__()


async def test_what_get_token_raises_is_raised(hub: FakeHub) -> None:
    """The application's own error is not swallowed."""

    async def get_token() -> str:
        raise LookupError("no session")

    with pytest.raises(LookupError, match="no session"):
        await subscriber(hub, get_token=get_token).__aenter__()


async def test_nobody_listens(hub: FakeHub) -> None:
    """The error says where nobody was and what came last."""
    await hub.shut()
    with pytest.raises(HubUnavailable, match=r"no connection to ws://127.*last: "):
        await subscriber(hub, open_timeout_s=0.2).__aenter__()


async def test_a_slow_consumer_holds_the_socket_not_the_memory(hub: FakeHub) -> None:
    """With a buffer of four, four publications are kept however many come; none is lost."""
    async with subscriber(hub, buffer=4) as fanwire, fanwire.subscribe("log:x") as log:
        feeding = asyncio.create_task(feed(hub))
        assert await take(log, 10) == list(range(10))
        assert len(log._inbox) <= 4
        await hub.cut()
        assert await take(log, 1990) == list(range(10, 2000))
        await feeding


async def test_leaving_with_a_full_buffer(hub: FakeHub) -> None:
    """Nobody has to read to the end in order to go."""
    async with subscriber(hub, buffer=2) as fanwire:
        async with fanwire.subscribe("log:x") as log:
            await hub.publish("log:x", *range(50))
            assert await take(log, 1) == [0]
        async with fanwire.subscribe("log:y") as other:
            await hub.publish("log:y", 1)
            assert await take(other, 1) == [1]
            await hub.publish("log:y", *range(50))
            assert await take(other, 1) == [0]


async def feed(hub: FakeHub) -> None:
    """Publish two thousand values in small frames."""
    for start in range(0, 2000, 20):
        await hub.publish("log:x", *range(start, start + 20))


async def test_answers_pings(hub: FakeHub) -> None:
    """An empty object from the hub is answered with one."""
    async with subscriber(hub):
        for socket in hub.sockets:
            await hub.send(socket, "{}")
        await hub.until(lambda: {} in hub.commands)


async def test_a_silent_hub_is_left(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a ping in time the connection counts as dead, and another is opened."""
    monkeypatch.setattr("clients.conversation._PING_GRACE_S", -0.9)
    hub.ping_s = 1
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        await hub.until(lambda: len(hub.tokens) >= 3)
        hub.ping_s = 60
        await hub.cut()
        await hub.publish("log:x", 1)
        assert await take(log, 1) == [1]


async def test_garbage_from_the_hub_is_a_reconnect(hub: FakeHub) -> None:
    """What is no reply of the protocol ends the connection, not the iterator."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        for text in ("not json", "[1]", '{"push":{"pub":{}}}', "\x00"):
            connections = len(hub.tokens)
            for socket in list(hub.sockets):
                await hub.send(socket, text)
            await hub.until(lambda seen=connections: len(hub.tokens) > seen)
        await hub.publish("log:x", 1)
        assert await take(log, 1) == [1]


async def test_leaving_a_channel_and_coming_back(hub: FakeHub) -> None:
    """The end of the block leaves the channel; it can be followed again."""
    async with subscriber(hub) as fanwire:
        for number in range(3):
            async with fanwire.subscribe("log:x") as log:
                await hub.publish("log:x", number)
                assert await take(log, 1) == [number]
            with pytest.raises(StopAsyncIteration):
                await anext(log)


async def test_the_same_channel_twice_is_a_mistake(hub: FakeHub) -> None:
    """The protocol has one subscription a channel and connection; the first stays."""
    async with subscriber(hub) as fanwire, fanwire.subscribe("log:x") as log:
        with pytest.raises(UsageError, match="followed already"):
            await fanwire.subscribe("log:y", "log:x").__aenter__()
        await hub.publish("log:x", 1)
        assert await take(log, 1) == [1]
        async with fanwire.subscribe("log:y"):
            pass


async def test_closing_ends_the_iterators(hub: FakeHub) -> None:
    """An iterator that outlives its subscriber ends quietly, after what it holds."""
    async with subscriber(hub) as fanwire:
        log = await fanwire.subscribe("log:x").__aenter__()
        waiting = asyncio.create_task(anext(fanwire.subscribe("log:y"), None))
        await hub.until(lambda: "log:y" in str(hub.commands))
    assert await anext(log, None) is None
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_history_over_the_socket(hub: FakeHub) -> None:
    """The log and its top, as deliveries."""
    await hub.publish("log:x", 1, 2)
    async with subscriber(hub) as fanwire:
        found, top = await fanwire.history("log:x")
        assert [delivery.data for delivery in found] == [1, 2]
        assert top == Position("e", 2)
        hub.logs["log:x"] = [object]
        with pytest.raises(HubOutcomeUnknown):
            await fanwire.history("log:x", timeout_s=0.1)


async def test_mistakes_are_told_at_once() -> None:
    """Addresses, uses outside the block and contradictory positions."""
    with pytest.raises(UsageError, match="http://host:port"):
        Subscriber("redis://127.0.0.1")
    fanwire = Subscriber("https://hub.example/fan/")
    assert fanwire._url == "wss://hub.example/fan/connection/websocket"
    with pytest.raises(UsageError, match="async with"):
        await fanwire.subscribe("log:x").__aenter__()
    with pytest.raises(UsageError, match="at least one"):
        fanwire.subscribe()
    with pytest.raises(UsageError, match="mapping"):
        fanwire.subscribe("log:x", "log:y", since=Position("e", 1))
