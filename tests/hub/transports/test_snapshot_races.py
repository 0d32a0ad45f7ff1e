"""Clients that begin with the state, raced against writers that change it.

Writers add to counters, about a thousand times a second, while clients of every kind
subscribe, leave, are cut and come back. Whatever a client believed at any position must have
been true there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
from centrifuge import (
    Client,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
)
from websockets.exceptions import WebSocketException

from clients import Backoff, Delivery, Gap, Snapshot, Subscriber
from services.door import Services
from tests.servers import ValkeyServer
from tests.tally import Replay, Tally, catalogue, write

from .server import HubServer, Peer, serve
from .test_official_clients import js_client

NAME = "tally:w1"
CHANNEL = catalogue().find(NAME)
#: Additions of one race, by this many writers, each of which rests so long between two.
WRITERS, ADDITIONS, EVERY_S = 5, 400, 0.005


@pytest.fixture(params=["direct", "asgi"])
async def hub(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[HubServer]:
    """A hub, over both ways a WebSocket can go."""
    async with serve(valkey.url, catalogue=catalogue(), direct=request.param == "direct") as hub:
        yield hub


@pytest.fixture
def tally(hub: HubServer) -> Tally:
    """The counters of that hub."""
    return Tally(hub.services.context)


@contextlib.asynccontextmanager
async def our_reader(hub: HubServer) -> AsyncIterator[Replay]:
    """The Python subscriber; it comes back by itself."""
    replay = Replay()
    gaps: list[Gap] = []

    async def read() -> None:
        async with Subscriber(hub.url, backoff=Backoff(0.01, 0.05)) as subscriber:
            async for item in subscriber.subscribe(NAME, snapshot=True):
                match item:
                    case Snapshot(position=at, data=data):
                        replay.begin({"epoch": at.epoch, "offset": at.offset}, data)
                    case Delivery(position=at, data=data):
                        replay.change(at.offset, data)
                    case Gap():
                        gaps.append(item)

    task = asyncio.create_task(read())
    try:
        yield replay
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


class _Handler(SubscriptionEventHandler):  # type: ignore[misc]  # untyped package
    def __init__(self, replay: Replay) -> None:
        self.replay = replay

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self.replay.begin(ctx.data["position"], ctx.data["snapshot"])

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.replay.change(ctx.pub.offset, ctx.pub.data)


@contextlib.asynccontextmanager
async def _official_python_reader(hub: HubServer) -> AsyncIterator[Replay]:
    replay = Replay()
    client = Client(hub.url, max_reconnect_delay=0.1)
    subscription = client.new_subscription(
        NAME, events=_Handler(replay), data={"snapshot": True}, min_resubscribe_delay=0.05
    )
    await client.connect()
    await subscription.subscribe()
    try:
        yield replay
    finally:
        await client.disconnect()


@contextlib.asynccontextmanager
async def _official_js_reader(hub: HubServer) -> AsyncIterator[Replay]:
    replay = Replay()
    async with js_client(hub.url) as js:

        async def read() -> None:
            while True:
                event = await js.next("subscribed", "publication")
                if event["event"] == "subscribed":
                    replay.begin(event["data"]["position"], event["data"]["snapshot"])
                else:
                    replay.change(event["offset"], event["data"])

        await js.do("subscribe", channel=NAME, data={"snapshot": True})
        await js.do("connect")
        task = asyncio.create_task(read())
        try:
            yield replay
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


class _Restless:
    """A client by hand that leaves, comes back and reconnects all the time."""

    def __init__(self, hub: HubServer, seed: int) -> None:
        self.hub = hub
        self.random = Random(seed)
        self.replay = Replay()
        self.done = False

    async def run(self) -> None:
        """Connect again and again, each time from where it was or anew."""
        while True:
            with contextlib.suppress(OSError, WebSocketException, asyncio.IncompleteReadError):
                peer = await Peer.connect(self.hub.url)
                try:
                    while await self._stay(peer):
                        pass
                finally:
                    await peer.close()
            await asyncio.sleep(0.01)

    async def _stay(self, peer: Peer) -> bool:
        """Subscribe and read for a while; return whether to go on over this connection."""
        replay, random = self.replay, self.random
        since = {}
        if replay.counters is not None and random.random() < 0.7:
            since = {"recover": True, "epoch": replay.epoch, "offset": replay.offset}
        fields = {"data": {"snapshot": random.choice([True, "gap"])}, **since}
        answer = await peer.ask({"id": 2, "subscribe": {"channel": NAME, **fields}})
        if "error" in answer:  # the hub's subscriptions are cut just now
            assert answer["error"]["temporary"]
            await asyncio.sleep(0.01)
            return True
        result = answer["subscribe"]
        pubs = result.get("publications", [])
        if told := result.get("data"):
            missed = [pub["offset"] for pub in pubs]
            assert missed == list(range(replay.offset + 1, replay.offset + 1 + len(missed)))
            replay.begin(told["position"], told["snapshot"])
        else:
            assert result["recovered"]
        for pub in pubs:
            replay.change(pub["offset"], pub["data"])
        stay_s = random.uniform(0, 0.1) if not self.done else 3600
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(stay_s):
                while True:
                    push = (await peer.next())["push"]
                    if "unsubscribe" in push:
                        return True
                    replay.change(push["pub"]["offset"], push["pub"]["data"])
        if random.random() < 0.3:
            return False
        await peer.ask({"id": 3, "unsubscribe": {"channel": NAME}})
        return True


async def _disturb(hub: HubServer, random: Random) -> None:
    """Cut everybody, or only the hub's subscriptions, again and again."""
    while True:
        await asyncio.sleep(random.uniform(0.05, 0.25))
        if random.random() < 0.5:
            hub.cut()
            hub.mend()
        else:
            await hub.services.store.execute("CLIENT", "KILL", "TYPE", "pubsub")


async def _race(url: str, hub: HubServer, tally: Tally, readers: list[Replay]) -> None:
    """Have the writers write while everything is disturbed; wait for the readers, check them."""
    disturbing = asyncio.create_task(_disturb(hub, Random(7)))
    async with Services.connect(url, catalogue=catalogue()) as other:
        writers = [tally, Tally(other.context)]
        await asyncio.gather(
            *(
                write(writers[i % 2], CHANNEL, seed=i, count=ADDITIONS, every_s=EVERY_S)
                for i in range(WRITERS)
            )
        )
    disturbing.cancel()
    await asyncio.wait([disturbing])
    truth = await tally.truth(CHANNEL)
    top = (await hub.services.events.log.read(CHANNEL, limit=0)).top
    assert len(truth) == top.offset + 1
    for replay in readers:
        await replay.until(top)
        replay.check(truth)


@pytest.mark.parametrize("torn", [False, True])
async def test_a_torn_state_would_be_noticed(hub: HubServer, tally: Tally, torn: bool) -> None:
    """State and position that are not read in one script do not belong together for long."""
    tally.torn = torn
    replay = Replay()
    writing = [
        asyncio.create_task(write(tally, CHANNEL, seed=seed, count=200, every_s=0))
        for seed in range(WRITERS)
    ]
    while not all(task.done() for task in writing):
        snapshot = await tally.snapshot(CHANNEL)
        at = snapshot.position
        replay.begin({"epoch": at.epoch, "offset": at.offset}, json.loads(snapshot.data))
    truth = await tally.truth(CHANNEL)
    with pytest.raises(AssertionError) if torn else contextlib.nullcontext():
        replay.check(truth)


_READERS: dict[str, Callable[[HubServer], contextlib.AbstractAsyncContextManager[Replay]]] = {
    "ours": our_reader,
    "centrifuge-python": _official_python_reader,
    "centrifuge-js": _official_js_reader,
}


@pytest.mark.parametrize("kind", _READERS)
async def test_what_clients_believe_was_true(
    valkey: ValkeyServer, hub: HubServer, tally: Tally, kind: str
) -> None:
    """Cut and brought back at any moment, a client knows the state of every position it was at."""
    async with _READERS[kind](hub) as one, _READERS[kind](hub) as other:
        await _race(valkey.url, hub, tally, [one, other])
        assert one.snapshots >= 1


async def test_what_restless_clients_believe_was_true(
    valkey: ValkeyServer, hub: HubServer, tally: Tally
) -> None:
    """The same by hand: with and without positions, both wishes, over new and old connections."""
    clients = [_Restless(hub, seed) for seed in range(6)]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    await _race(valkey.url, hub, tally, [])
    for client in clients:
        client.done = True
    truth = await tally.truth(CHANNEL)
    top = (await hub.services.events.log.read(CHANNEL, limit=0)).top
    for client in clients:
        await client.replay.until(top)
        client.replay.check(truth)
    for task in tasks:
        task.cancel()
    done, _ = await asyncio.wait(tasks)
    for task in done:
        if not task.cancelled():
            task.result()
    assert sum(client.replay.snapshots for client in clients) > 30
