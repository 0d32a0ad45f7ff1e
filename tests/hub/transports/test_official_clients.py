"""The official clients of the protocol, unchanged: what applications connect with."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    ConnectedContext,
    DisconnectedContext,
    PublicationContext,
    SubscribedContext,
    Subscription,
    SubscriptionEventHandler,
    SubscriptionState,
)

from channels.errors import TokenExpired
from channels.identity import Identity
from tests.servers import ValkeyServer

from .server import PATIENCE_S, HubServer, serve

JS = Path(__file__).parents[2] / "js"


@pytest.fixture
async def hub(valkey: ValkeyServer) -> AsyncIterator[HubServer]:
    """A hub with ordinary limits."""
    async with serve(valkey.url) as hub:
        yield hub


def free_port() -> int:
    """Return a port that was free a moment ago, to come back to after a restart."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# -- Python ---------------------------------------------------------------------------------


class Notes(ClientEventHandler, SubscriptionEventHandler):  # type: ignore[misc]  # untyped package
    """Keeps what a client is told."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.subscribed: list[SubscribedContext] = []
        self.codes: list[int] = []
        self.news = asyncio.Event()

    async def on_connected(self, ctx: ConnectedContext) -> None:
        """Note that it is there."""
        self.news.set()

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        """Note why it stopped for good."""
        self.codes.append(ctx.code)
        self.news.set()

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        """Note where the subscription stands."""
        self.subscribed.append(ctx)
        self.news.set()

    async def on_publication(self, ctx: PublicationContext) -> None:
        """Note a publication."""
        self.offsets.append(ctx.pub.offset)
        self.news.set()

    async def until_subscribed(self, times: int) -> SubscribedContext:
        """Return when the subscription stood so often."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.subscribed) < times:
                self.news.clear()
                await self.news.wait()
        return self.subscribed[times - 1]

    async def until_offset(self, offset: int) -> None:
        """Return when the publication at ``offset`` came."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.offsets or self.offsets[-1] < offset:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def python_client(url: str) -> AsyncIterator[tuple[Client, Subscription, Notes]]:
    """Yield a connected client that is subscribed to ``chat``."""
    notes = Notes()
    client = Client(url, events=notes, max_reconnect_delay=0.2)
    await client.connect()
    await client.ready()
    subscription = client.new_subscription("chat", events=notes, min_resubscribe_delay=0.05)
    await subscription.subscribe()
    await subscription.ready()
    try:
        yield client, subscription, notes
    finally:
        await client.disconnect()


async def test_python_does_everything(hub: HubServer) -> None:
    """Subscribe, publish, history, unsubscribe and subscribe again."""
    async with python_client(hub.url) as (_, subscription, notes):
        for i in range(20):
            await subscription.publish({"i": i})
        await notes.until_offset(20)
        assert notes.offsets == list(range(1, 21))
        history = await subscription.history(limit=3)
        assert [pub.offset for pub in history.publications] == [1, 2, 3]
        assert history.offset == 20
        with pytest.raises(CentrifugeError) as refused:
            await subscription.presence()
        assert refused.value.code == 108
        await subscription.unsubscribe()
        await hub.publish(5)
        await hub.until(lambda: not hub.engine.rooms)
        await subscription.subscribe()
        context = await notes.until_subscribed(2)
        # It stays where it was when it unsubscribed, so it is given what it missed.
        assert (context.was_recovering, context.recovered) == (True, True)
        await hub.publish(1)
        await notes.until_offset(26)
        assert notes.offsets == list(range(1, 27))


async def test_python_recovers_a_cut_of_a_thousand(hub: HubServer) -> None:
    """All of them arrive once, in order, though more than one reply can hold."""
    async with python_client(hub.url) as (_, _, notes):
        await hub.publish(5)
        await notes.until_offset(5)
        hub.cut()
        await hub.publish(1_000, size=1_024)
        hub.mend()
        await hub.publish(100)
        assert (await notes.until_subscribed(2)).recovered
        await notes.until_offset(1_105)
        assert notes.offsets == list(range(1, 1_106))


async def test_python_is_told_what_is_gone(hub: HubServer) -> None:
    """History that was trimmed meanwhile: recovered is false, and it goes on from the top."""
    async with python_client(hub.url) as (_, subscription, notes):
        await hub.publish(5)
        await notes.until_offset(5)
        hub.cut()
        await hub.publish(10)
        await hub.services.events.remove_history("chat")
        hub.mend()
        context = await notes.until_subscribed(2)
        assert (context.was_recovering, context.recovered) == (True, False)
        await hub.publish(1)
        await notes.until_offset(16)
        assert notes.offsets == [1, 2, 3, 4, 5, 16]
        assert subscription.state == SubscriptionState.SUBSCRIBED


async def test_python_comes_back_when_it_was_slow(hub: HubServer) -> None:
    """What a slow reader missed in its outbox is in the log."""
    async with python_client(hub.url) as (_, _, notes):
        await hub.publish(5)
        await notes.until_offset(5)
        driver = hub.drivers[0]
        driver.outbox._limit = -1  # it owes too much already
        driver.outbox.shut()  # and nothing goes past it
        await hub.publish(50)
        await notes.until_offset(55)
        assert driver.closing is not None
        assert driver.closing.code == 3008
        assert notes.offsets == list(range(1, 56))


async def test_python_survives_a_restart_of_the_hub(valkey: ValkeyServer) -> None:
    """3001 sends it back, and it goes on where it was."""
    port = free_port()
    async with serve(valkey.url, port=port) as first:
        connecting = python_client(first.url)
        _, _, notes = await connecting.__aenter__()
        await first.publish(5)
        await notes.until_offset(5)
    async with serve(valkey.url, port=port) as second:
        await second.publish(5)
        assert (await notes.until_subscribed(2)).recovered
        await second.publish(5)
        await notes.until_offset(15)
        assert notes.offsets == list(range(1, 16))
        await connecting.__aexit__(None, None, None)


# -- JavaScript -----------------------------------------------------------------------------


class JsClient:
    """The JavaScript client in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    async def do(self, name: str, **options: object) -> None:
        """Tell it to do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": name, **options}).encode() + b"\n")
        await self.process.stdin.drain()

    async def next(self, *names: str) -> dict[str, Any]:
        """Return the next event of these names; others are kept."""
        assert self.process.stdout is not None
        while True:
            async with asyncio.timeout(PATIENCE_S):
                line = await self.process.stdout.readline()
            assert line, f"node ended; it told {self.events[-5:]}"
            event: dict[str, Any] = json.loads(line)
            self.events.append(event)
            if event["event"] in names:
                return event

    async def offsets(self, until: int) -> list[int]:
        """Return the offsets of all publications so far, up to ``until``."""
        if until not in self._offsets():
            while (await self.next("publication"))["offset"] < until:
                pass
        return self._offsets()

    def _offsets(self) -> list[int]:
        return [event["offset"] for event in self.events if event["event"] == "publication"]


@asynccontextmanager
async def js_client(url: str, token: str = "") -> AsyncIterator[JsClient]:
    """Yield the client in Node, not connected yet."""
    node = shutil.which("node")
    assert node is not None, "Node is needed to test with the JavaScript client"
    process = await asyncio.create_subprocess_exec(
        node,
        # Before version 22, WebSocket is behind this; later it changes nothing.
        "--experimental-websocket",
        "--no-warnings",
        str(JS / "centrifuge.mjs"),
        url,
        token,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield JsClient(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def test_js_does_everything(hub: HubServer) -> None:
    """Subscribe, publish, history, errors, unsubscribe and subscribe again."""
    async with js_client(hub.url) as js:
        await js.do("subscribe", channel="chat")
        await js.do("connect")  # connect and subscribe go out in one frame
        subscribed = await js.next("subscribed")
        assert not subscribed["wasRecovering"]
        for i in range(10):
            await js.do("publish", channel="chat", data={"i": i})
        assert await js.offsets(10) == list(range(1, 11))
        await js.do("history", channel="chat", limit=3)
        history = await js.next("history")
        assert (history["offsets"], history["offset"]) == ([1, 2, 3], 10)
        stranger = {"offset": 1, "epoch": "other"}
        await js.do("history", channel="chat", limit=3, since=stranger)
        assert (await js.next("failed"))["code"] == 112
        await js.do("presence", channel="chat")
        assert (await js.next("failed"))["code"] == 108
        await js.do("unsubscribe", channel="chat")
        await js.next("unsubscribed")
        await hub.until(lambda: not hub.engine.rooms)
        await js.do("subscribe", channel="chat")
        await js.next("subscribed")
        await hub.publish(1)
        assert (await js.offsets(11))[-1] == 11
        await js.do("disconnect")
        await js.next("disconnected")
        await hub.until(lambda: not len(hub.registry))


async def test_js_recovers_a_cut_of_a_thousand(hub: HubServer) -> None:
    """All of them arrive once, in order, though more than one reply can hold."""
    async with js_client(hub.url) as js:
        await js.do("subscribe", channel="chat")
        await js.do("connect")
        await js.next("subscribed")
        await hub.publish(5)
        await js.offsets(5)
        hub.cut()
        await hub.publish(1_000, size=1_024)
        hub.mend()
        assert (await js.next("subscribed"))["recovered"]
        await hub.publish(100)
        assert await js.offsets(1_105) == list(range(1, 1_106))


async def test_js_is_told_what_is_gone(hub: HubServer) -> None:
    """History that was trimmed meanwhile: recovered is false, and it goes on from the top."""
    async with js_client(hub.url) as js:
        await js.do("subscribe", channel="chat")
        await js.do("connect")
        await js.next("subscribed")
        await hub.publish(5)
        await js.offsets(5)
        hub.cut()
        await hub.publish(10)
        await hub.services.events.remove_history("chat")
        hub.mend()
        subscribed = await js.next("subscribed")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)
        await hub.publish(1)
        assert await js.offsets(16) == [1, 2, 3, 4, 5, 16]


async def test_js_resubscribes_after_a_loss(hub: HubServer) -> None:
    """Code 2500 makes it ask from its position, over the same connection."""
    async with js_client(hub.url) as js:
        await js.do("subscribe", channel="chat")
        await js.do("connect")
        await js.next("subscribed")
        await hub.publish(5)
        await js.offsets(5)
        [driver] = hub.drivers
        driver._carry_out(driver._connection.lost("chat"))
        assert (await js.next("subscribed"))["recovered"]
        await hub.publish(5)
        assert await js.offsets(10) == list(range(1, 11))
        assert len(hub.drivers) == 1
        assert len(hub.engine.rooms["chat"]) == 1


async def test_js_survives_a_restart_of_the_hub(valkey: ValkeyServer) -> None:
    """3001 sends it back, and it goes on where it was."""
    port = free_port()
    async with js_client(f"ws://127.0.0.1:{port}/connection/websocket") as js:
        async with serve(valkey.url, port=port) as first:
            await js.do("subscribe", channel="chat")
            await js.do("connect")
            await js.next("subscribed")
            await first.publish(5)
            await js.offsets(5)
        assert (await js.next("connecting"))["code"] == 3001
        async with serve(valkey.url, port=port) as second:
            await second.publish(5)
            assert (await js.next("subscribed"))["recovered"]
            await second.publish(5)
            assert await js.offsets(15) == list(range(1, 16))


async def test_js_mends_an_expired_token(valkey: ValkeyServer) -> None:
    """It sends subscriptions together with an expired token, gets a new one and comes in."""

    def authenticate(token: str) -> Identity:
        if token != "fresh":
            raise TokenExpired("the token ended")
        return Identity(user="ada")

    async with serve(valkey.url, authenticate=authenticate) as hub, js_client(hub.url, "old") as js:
        await js.do("subscribe", channel="chat")
        await js.do("connect")
        await js.next("subscribed")
        told = [event["event"] for event in js.events]
        assert "getToken" in told
        assert "disconnected" not in told
