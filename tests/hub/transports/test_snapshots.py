"""The state behind a channel over WebSockets: what is told, to whom, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channels.errors import NotAvailable, PermissionDenied
from channels.identity import Identity
from channels.position import Position
from clients import Subscriber
from hub.connection import ConnectionSettings
from tests.servers import ValkeyServer
from tests.tally import Replay, Tally, catalogue

from .server import HubServer, Peer, serve
from .test_snapshot_races import our_reader
from .test_websocket import commands, raw_socket

NAME = "tally:w1"
CHANNEL = catalogue().find(NAME)


@pytest.fixture(params=["direct", "asgi"])
async def hub(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[HubServer]:
    """A hub, over both ways a WebSocket can go."""
    async with serve(valkey.url, catalogue=catalogue(), direct=request.param == "direct") as hub:
        yield hub


@pytest.fixture
def tally(hub: HubServer) -> Tally:
    """The counters of that hub."""
    return Tally(hub.services.context)


def wanted(wish: object = True, **since: Any) -> dict[str, Any]:
    """Return the fields of a subscribe command that asks for the state."""
    return {"data": {"snapshot": wish}, **since}


# -- one client -----------------------------------------------------------------------------


async def test_a_subscription_begins_with_the_state(hub: HubServer, tally: Tally) -> None:
    """The reply has it with its position, and what comes afterwards comes after it."""
    await tally.add(CHANNEL, "a", 3)
    await tally.add(CHANNEL, "b", 4)
    peer = await Peer.connect(hub.url)
    result = await peer.subscribe(NAME, **wanted())
    at = {"epoch": result["epoch"], "offset": 2}
    assert result["data"] == {"snapshot": {"a": 3, "b": 4}, "position": at}
    assert (result["offset"], "publications" in result) == (2, False)
    await tally.add(CHANNEL, "a", 1)
    assert await peer.offsets(1) == [3]
    await peer.close()


async def test_nobody_is_given_what_it_did_not_ask_for(hub: HubServer, tally: Tally) -> None:
    """Neither without data nor with data that means nothing to the hub."""
    peer = await Peer.connect(hub.url)
    for data in ({}, {"snapshot": False}, {"other": 1}, [1], "snapshot", 7, None):
        assert "data" not in await peer.subscribe(NAME, data=data)
        await peer.ask({"id": 3, "unsubscribe": {"channel": NAME}})
    assert tally.reads == 0
    await peer.close()


async def test_a_wish_that_makes_no_sense_is_refused(hub: HubServer, tally: Tally) -> None:
    """The client is told what can be asked, and goes on."""
    peer = await Peer.connect(hub.url)
    command = {"id": 2, "subscribe": {"channel": NAME, **wanted("yes")}}
    error = (await peer.ask(command))["error"]
    assert error["code"] == 107
    assert '"gap"' in error["message"]
    assert (await peer.subscribe(NAME, **wanted()))["data"]["snapshot"] == {}
    await peer.close()


async def test_a_channel_without_a_state_says_so(hub: HubServer, tally: Tally) -> None:
    """Error 108, and the client is not in."""
    peer = await Peer.connect(hub.url)
    command = {"id": 2, "subscribe": {"channel": "chat", **wanted()}}
    assert (await peer.ask(command))["error"]["code"] == 108
    await hub.until(lambda: not hub.engine.rooms)
    await peer.subscribe("chat")
    await peer.close()


async def test_who_recovers_gets_both(hub: HubServer, tally: Tally) -> None:
    """What it missed and the state after it; with "gap" only what it missed."""
    await tally.add(CHANNEL, "a", 1)
    peer = await Peer.connect(hub.url)
    epoch = (await peer.subscribe(NAME))["epoch"]
    await peer.ask({"id": 3, "unsubscribe": {"channel": NAME}})
    for _ in range(3):
        await tally.add(CHANNEL, "a", 1)
    back = {"recover": True, "epoch": epoch, "offset": 1}
    result = await peer.subscribe(NAME, **wanted(), **back)
    assert result["recovered"]
    assert [pub["offset"] for pub in result["publications"]] == [2, 3, 4]
    assert result["data"] == {"snapshot": {"a": 4}, "position": {"epoch": epoch, "offset": 4}}
    await peer.ask({"id": 3, "unsubscribe": {"channel": NAME}})
    result = await peer.subscribe(NAME, **wanted("gap"), **back)
    assert result["recovered"]
    assert len(result["publications"]) == 3
    assert "data" not in result
    await peer.close()


@pytest.mark.parametrize("wish", [True, "gap"])
async def test_after_a_gap_the_state_alone_makes_whole(
    hub: HubServer, tally: Tally, wish: object
) -> None:
    """History was trimmed, or began anew: recovered is false and the state is there."""
    for _ in range(5):
        await tally.add(CHANNEL, "a", 1)
    await hub.services.events.remove_history(NAME)
    peer = await Peer.connect(hub.url)
    top = (await hub.services.events.log.read(CHANNEL, limit=0)).top
    for since in (Position(top.epoch, 2), Position("other", 5)):
        result = await peer.subscribe(
            NAME, **wanted(wish), recover=True, epoch=since.epoch, offset=since.offset
        )
        assert not result.get("recovered", False)
        assert result["was_recovering"]
        assert result["data"]["snapshot"] == {"a": 5}
        assert (result["epoch"], result["offset"]) == (top.epoch, 5)
        await peer.ask({"id": 3, "unsubscribe": {"channel": NAME}})
    await tally.add(CHANNEL, "a", 1)
    await peer.close()


async def test_what_changes_during_the_read_comes_after_it(hub: HubServer, tally: Tally) -> None:
    """Changes before the script are in the state, those after it are told; each once."""
    peer = await Peer.connect(hub.url)

    async def add() -> None:
        await tally.add(CHANNEL, "a", 1)

    tally.before = tally.after = add
    result = await peer.subscribe(NAME, **wanted())
    assert result["data"]["snapshot"] == {"a": 1}
    assert result["offset"] == 1
    assert await peer.offsets(1) == [2]
    await peer.close()


async def test_a_state_too_large_for_a_reply_is_refused(hub: HubServer, tally: Tally) -> None:
    """Error 106; the largest that is allowed fits in a message of 1 MiB with a recovery."""
    limit = ConnectionSettings().snapshot_bytes
    for _ in range(50):
        await tally.add(CHANNEL, "a", 1)
    tally.padding = limit
    peer = await Peer.connect(hub.url)
    error = (await peer.ask({"id": 2, "subscribe": {"channel": NAME, **wanted()}}))["error"]
    assert error["code"] == 106
    tally.padding = limit - 100
    result = await peer.subscribe(NAME, **wanted(), recover=True, offset=0)
    assert len(result["data"]["snapshot"]["padding"]) == limit - 100
    assert len(result["publications"]) == 50
    assert limit + ConnectionSettings().reply_bytes + 2 * 64 * 1024 <= 1024 * 1024
    await peer.ask({"id": 3, "unsubscribe": {"channel": NAME}})
    tally.padding = 4 * limit
    more = {"data": {"snapshot": True, "snapshot_bytes": 5 * limit}}
    assert len((await peer.subscribe(NAME, **more))["data"]["snapshot"]["padding"]) == 4 * limit
    async with our_reader(hub) as replay:
        await replay.until_begun()
    await peer.close()


async def test_who_may_not_subscribe_sees_no_state(valkey: ValkeyServer) -> None:
    """The state is behind the same rule as the channel, and is not even read."""

    def authenticate(token: str) -> Identity:
        return Identity(user=token, workspaces=frozenset({"w1" if token == "ann" else "w2"}))

    async with serve(
        valkey.url, catalogue=catalogue(), authenticate=authenticate, insecure=False
    ) as hub:
        tally = Tally(hub.services.context)
        eve = await Peer.connect(hub.url, "eve")
        error = (await eve.ask({"id": 2, "subscribe": {"channel": NAME, **wanted()}}))["error"]
        assert (error["code"], tally.reads) == (103, 0)
        ann = await Peer.connect(hub.url, "ann")
        assert (await ann.subscribe(NAME, **wanted()))["data"]["snapshot"] == {}
        await eve.close()
        await ann.close()


# -- what goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "code", "temporary"),
    [(PermissionDenied("not yours"), 103, False), (ValueError("a bug"), 100, True)],
)
async def test_a_state_that_cannot_be_read(
    hub: HubServer, tally: Tally, raised: Exception, code: int, temporary: bool
) -> None:
    """The client is told, is not in, and can try again over the same connection."""

    async def fail() -> None:
        raise raised

    tally.before = fail
    peer = await Peer.connect(hub.url)
    error = (await peer.ask({"id": 2, "subscribe": {"channel": NAME, **wanted()}}))["error"]
    assert (error["code"], error.get("temporary", False)) == (code, temporary)
    assert "bug" not in error["message"]
    await hub.until(lambda: not hub.engine.rooms)
    tally.before = tally.after
    assert (await peer.subscribe(NAME, **wanted()))["data"]["snapshot"] == {}
    await peer.close()


async def test_a_slow_read_holds_up_nobody_else(hub: HubServer, tally: Tally) -> None:
    """Others subscribe to the same channel and hear of it while one waits for the state."""
    gate, began = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        await gate.wait()

    tally.before = wait
    slow, quick = await Peer.connect(hub.url), await Peer.connect(hub.url)
    subscribing = asyncio.create_task(slow.subscribe(NAME, **wanted()))
    await began.wait()
    await quick.subscribe(NAME)
    await tally.add(CHANNEL, "a", 1)
    assert await quick.offsets(1) == [1]
    gate.set()
    assert (await subscribing)["data"]["snapshot"] == {"a": 1}
    await tally.add(CHANNEL, "a", 1)
    assert await slow.offsets(1) == [2]
    await slow.close()
    await quick.close()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_more_than_can_be_held_during_the_read(
    hub: HubServer, tally: Tally, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """What the state has was not missed; of the rest the client is told, and comes back for it."""
    monkeypatch.setattr("hub.room.MAX_HELD_BYTES", 500)
    await tally.add(CHANNEL, "a", 1)
    steady = await Peer.connect(hub.url)
    await steady.subscribe(NAME)

    async def add() -> None:
        setattr(tally, when, nothing)
        for _ in range(20):
            await tally.add(CHANNEL, "a", 1)
        assert await steady.offsets(20) == list(range(2, 22))  # so the room was told

    nothing = tally.before
    setattr(tally, when, add)
    peer = await Peer.connect(hub.url)
    result = await peer.subscribe(NAME, **wanted())
    if when == "before":
        assert result["data"]["snapshot"] == {"a": 21}
        await tally.add(CHANNEL, "a", 1)
        assert await peer.offsets(1) == [22]
    else:
        assert result["data"]["snapshot"] == {"a": 1}
        assert (await peer.next())["push"]["unsubscribe"]["code"] == 2500
        back = {"recover": True, "epoch": result["epoch"], "offset": 1}
        assert len((await peer.subscribe(NAME, **back))["publications"]) == 20
    await steady.close()
    await peer.close()


async def test_who_leaves_during_the_read_leaves_nothing(valkey: ValkeyServer) -> None:
    """A connection that is cut while it waits for the state is gone from the room at once."""
    async with _hub_of(valkey) as hub:
        tally = Tally(hub.services.context)
        began = asyncio.Event()

        async def wait() -> None:
            began.set()
            await asyncio.Event().wait()

        tally.before = wait
        peer = await Peer.connect(hub.url)
        await peer.send({"id": 2, "subscribe": {"channel": NAME, **wanted()}})
        await began.wait()
        hub.cut()
        hub.mend()
        await hub.until(lambda: not hub.engine.rooms)
        await peer.close()


async def test_a_crowd_costs_a_few_reads(hub: HubServer, tally: Tally) -> None:
    """A hundred clients that come at once share what is read."""
    for _ in range(3):
        await tally.add(CHANNEL, "a", 1)
    peers = [await Peer.connect(hub.url) for _ in range(100)]
    results = await asyncio.gather(*(peer.subscribe(NAME, **wanted()) for peer in peers))
    assert [result["data"]["snapshot"] for result in results] == [{"a": 3}] * 100
    assert tally.reads <= 20
    await tally.add(CHANNEL, "a", 1)
    assert [await peer.offsets(1) for peer in peers] == [[4]] * 100
    await asyncio.gather(*(peer.close() for peer in peers))


async def test_asking_without_reading_costs_bounded_memory(hub: HubServer, tally: Tally) -> None:
    """A client that asks for the state again and again is not given more than it reads."""
    tally.padding = 500_000
    pairs = [
        (
            {"id": 2 * number, "subscribe": {"channel": NAME, **wanted()}},
            {"id": 2 * number + 1, "unsubscribe": {"channel": NAME}},
        )
        for number in range(1, 100)
    ]
    async with raw_socket(hub, receive_bytes=4_096) as greedy:
        asked = commands({"id": 1, "connect": {}}, *(each for pair in pairs for each in pair))
        await asyncio.get_running_loop().sock_sendall(greedy, asked)
        await hub.until(lambda: len(hub.drivers[-1].outbox) > 1 << 20)
        reads = tally.reads
        await asyncio.sleep(0.3)  # as long as several more would take
        assert tally.reads == reads < 20
        assert len(hub.drivers[-1].outbox) < (1 << 20) + 600_000


async def _counted(hub: HubServer, tally: Tally, replay: Replay) -> None:
    """Compare what a reader believes in the end with what is so."""
    truth = await tally.snapshot(CHANNEL)
    await replay.until(truth.position)
    replay.check(await tally.truth(CHANNEL))


def _hub_of(valkey: ValkeyServer) -> contextlib.AbstractAsyncContextManager[HubServer]:
    return serve(valkey.url, catalogue=catalogue())


async def test_history_that_begins_anew_during_the_read(valkey: ValkeyServer) -> None:
    """The server forgets everything between entering and reading: the new state is told."""
    async with _hub_of(valkey) as hub:
        tally = Tally(hub.services.context)
        for _ in range(3):
            await tally.add(CHANNEL, "a", 1)
        steady = await Peer.connect(hub.url)
        old = (await steady.subscribe(NAME))["epoch"]

        async def lose() -> None:
            tally.before = tally.after
            await hub.services.store.execute("FLUSHALL")

        tally.before = lose
        async with our_reader(hub) as replay:
            await replay.until_begun()
            assert (replay.counters, replay.offset) == ({}, 0)
            await tally.add(CHANNEL, "b", 7)
            await _counted(hub, tally, replay)
        assert replay.epoch != old
        # Everybody else in the room is told that history was lost.
        assert (await steady.next())["push"]["unsubscribe"]["code"] == 2500
        result = await steady.subscribe(NAME, **wanted(), recover=True, epoch=old, offset=3)
        assert result["data"]["snapshot"] == {"b": 7}
        await steady.close()


async def test_a_log_that_lost_its_end_is_noticed_by_its_state(valkey: ValkeyServer) -> None:
    """As after a failover: the state is older than the room, and everybody is told to look."""
    async with _hub_of(valkey) as hub:
        tally = Tally(hub.services.context)
        for _ in range(5):
            await tally.add(CHANNEL, "a", 1)
        steady, late = await Peer.connect(hub.url), await Peer.connect(hub.url)
        old = (await steady.subscribe(NAME))["epoch"]
        store, keys = hub.services.store, hub.services.keys
        [third] = (
            await hub.services.events.log.read(CHANNEL, since=Position(old, 2), limit=1)
        ).publications
        await store.execute("XDEL", keys.log(CHANNEL), "4-0", "5-0")
        await store.execute("HSET", keys.log_meta(CHANNEL), "o", 3, "i", third.id)
        assert (await late.subscribe(NAME, **wanted()))["offset"] == 3
        for peer, offset in ((steady, 5), (late, 3)):
            assert (await peer.next())["push"]["unsubscribe"]["code"] == 2500
            back = {"recover": True, "epoch": old, "offset": offset}
            result = await peer.subscribe(NAME, **wanted(), **back)
            assert not result.get("recovered", False)
            assert result["epoch"] != old
            assert result["data"]["position"] == {"epoch": result["epoch"], "offset": 3}
            await peer.close()


async def test_redis_restarts_between_entering_and_reading(
    valkey_server: Callable[[], ValkeyServer],
) -> None:
    """The client is told to try again, or waits; then it has the state, and goes on live."""
    server = valkey_server()
    async with _hub_of(server) as hub:
        tally = Tally(hub.services.context)
        await tally.add(CHANNEL, "a", 1)

        async def restart() -> None:
            tally.before = tally.after
            await asyncio.to_thread(server.crash)

        tally.before = restart
        async with our_reader(hub) as replay:
            await replay.until_begun()
            await tally.add(CHANNEL, "a", 1)
            await _counted(hub, tally, replay)


async def test_a_channel_without_a_state_ends_the_iterator(hub: HubServer) -> None:
    """Whoever wants a state from a channel that has none learns it."""
    async with Subscriber(hub.url) as subscriber:
        with pytest.raises(NotAvailable, match="has no snapshot"):
            async with subscriber.subscribe("chat", snapshot=True):
                pass
