"""The state behind a channel on ``/events``: first and after each gap, then its changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from channels.cursor import encode_cursor_part
from channels.declaration import History
from channels.errors import Disconnects, StoreUnavailable
from channels.identity import Identity
from channels.position import Position
from hub.settings import ChannelSettings
from services.event_log import Gap
from tests.hub.event_source import Event, EventSource
from tests.hub.serving import Served, open_settings, served, strict_settings, token
from tests.servers import ValkeyServer
from tests.tally import Replay, Tally, catalogue, write

NAME = "tally:w1"
CHANNEL = catalogue().find(NAME)
CHANNELS = (
    ChannelSettings(
        pattern="tally:{workspace}",
        root="workspace",
        subscribe="member",
        history=History(size=100_000, ttl_s=600),
    ),
)
JS = Path(__file__).parents[2] / "js"


@pytest.fixture(params=["direct", "asgi"])
async def hub(
    request: pytest.FixtureRequest, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    """A hub that knows the counters, over both ways that events can go."""
    if request.param == "asgi":
        monkeypatch.setattr("hub.transports.sse._lender", lambda _scope: None)
    async with served(open_settings(valkey.url, channels=CHANNELS)) as at:
        yield at


@pytest.fixture
def tally(hub: Served) -> Tally:
    """The counters of that hub."""
    return Tally(hub.hub.services.context)


@pytest.fixture
async def client(hub: Served) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of it."""
    async with hub.client() as client:
        yield client


@asynccontextmanager
async def feed(
    client: httpx.AsyncClient, *channels: str, last_id: str = "", **query: object
) -> AsyncIterator[EventSource]:
    """Open a feed that wants the state."""
    headers = {"Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    params = [*(("channel", name) for name in channels), ("snapshot", "1"), *query.items()]
    async with client.stream("GET", "/events", params=params, headers=headers) as response:
        yield EventSource(response, last_id)


def told(event: Event) -> tuple[str, str, Any, int]:
    """Return what a snapshot says: kind, channel, state and offset."""
    data = event.json
    return event.type, data["channel"], data["snapshot"], data["position"]["offset"]


async def test_a_feed_begins_with_the_state(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """One event a channel that has a state, with a cursor; then what comes after it."""
    await tally.add(CHANNEL, "a", 3)
    async with feed(client, NAME, "plain:a") as source:
        first = await source.next()
        assert told(first) == ("snapshot", NAME, {"a": 3}, 1)
        assert first.id != ""
        await tally.add(CHANNEL, "a", 1)
        await hub.hub.services.events.publish("plain:a", 1)
        second, third = await source.take(2)
        assert (second.offset, third.offset) == (2, 1)


async def test_who_comes_back_gets_what_it_missed(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """With the cursor of the state the events are enough, and the state is not read again."""
    await tally.add(CHANNEL, "a", 3)
    async with feed(client, NAME) as source:
        cursor = (await source.next()).id
    await tally.add(CHANNEL, "a", 1)
    async with feed(client, NAME, last_id=cursor) as source:
        assert (await source.next()).offset == 2
    assert tally.reads == 1


async def test_who_was_cut_off_before_the_state_gets_it(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """A cursor that does not mention the channel is no gap: nothing of it was ever seen."""
    await tally.add(CHANNEL, "a", 3)
    async with feed(client, NAME, "plain:a") as source:
        await source.next()
    top = (await hub.hub.services.events.log.read(CHANNEL, limit=0)).top
    other = encode_cursor_part("plain:a", top.epoch, 0, "").decode()
    async with feed(client, "plain:a", NAME, last_id=other) as source:
        gap, state = await source.take(2)
        assert (gap.type, gap.json["channel"]) == ("gap", "plain:a")
        assert told(state) == ("snapshot", NAME, {"a": 3}, 1)


async def test_a_channel_can_begin_anew(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """Though the cursor in the address mentions it; what the browser remembers counts more."""
    await tally.add(CHANNEL, "a", 3)
    async with feed(client, NAME) as source:
        cursor = (await source.next()).id
    await tally.add(CHANNEL, "a", 1)
    async with feed(client, NAME, last_event_id=cursor, anew=NAME) as source:
        assert told(await source.next()) == ("snapshot", NAME, {"a": 4}, 2)
    async with feed(client, NAME, last_id=cursor, last_event_id=cursor, anew=NAME) as source:
        assert (await source.next()).offset == 2


@pytest.mark.parametrize("epoch", ["", "other"])
async def test_a_gap_is_followed_by_the_state(
    hub: Served, tally: Tally, client: httpx.AsyncClient, epoch: str
) -> None:
    """The gap moves no cursor; the state that makes the reader whole does."""
    for _ in range(5):
        await tally.add(CHANNEL, "a", 1)
    await hub.hub.services.events.remove_history(NAME)
    top = (await hub.hub.services.events.log.read(CHANNEL, limit=0)).top
    cursor = encode_cursor_part(NAME, epoch or top.epoch, 2, "").decode()
    async with feed(client, NAME, last_id=cursor) as source:
        gap, state = await source.take(2)
        assert (gap.type, gap.json["snapshot"], gap.id) == ("gap", True, cursor)
        assert told(state) == ("snapshot", NAME, {"a": 5}, 5)
        await tally.add(CHANNEL, "a", 1)
        live = await source.next()
        assert live.offset == 6
    await tally.add(CHANNEL, "a", 1)
    async with feed(client, NAME, last_id=live.id) as source:
        assert (await source.next()).offset == 7
    assert tally.reads == 1


async def test_a_gap_in_the_middle_is_followed_by_the_state(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """What comes live waits for the state that it follows, whatever happens meanwhile."""
    async with feed(client, NAME) as source:
        state = await source.next()
        room = hub.hub.engine.rooms[NAME]

        async def add() -> None:
            await tally.add(CHANNEL, "a", 1)

        tally.before = tally.after = add
        room.on_gap(Gap.TRIMMED, room.position, room.id)
        gap, second, live = await source.take(3)
        assert (gap.type, gap.id) == ("gap", state.id)
        assert told(second) == ("snapshot", NAME, {"a": 1}, 1)
        assert live.offset == 2


async def test_history_that_begins_anew_brings_a_new_state(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """Redis forgets everything: a gap, the state of the new history, its changes."""
    await tally.add(CHANNEL, "a", 3)
    async with feed(client, NAME) as source:
        assert told(await source.next())[2:] == ({"a": 3}, 1)
        await hub.hub.services.store.execute("FLUSHALL")
        await tally.add(CHANNEL, "b", 1)
        gap, state = await source.take(2)
        assert (gap.type, gap.json["reason"]) == ("gap", "epoch")
        assert told(state) == ("snapshot", NAME, {"b": 1}, 1)


async def test_a_state_that_cannot_be_read_in_the_middle_ends_the_feed(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """The reader comes back from before the gap, and is made whole then."""
    for _ in range(3):
        await tally.add(CHANNEL, "a", 1)
    async with feed(client, NAME) as source:
        state = await source.next()
        room = hub.hub.engine.rooms[NAME]

        async def fail() -> None:
            raise StoreUnavailable("Redis is away")

        tally.before = fail
        await tally.add(CHANNEL, "a", 1)
        assert (await source.next()).offset == 4
        room.on_gap(Gap.TRIMMED, room.position, room.id)
        gap, close = await source.rest()
        assert (gap.type, close.type, close.json["code"]) == ("gap", "close", 3010)
    assert source.last_id != state.id  # but of before the gap
    tally.before = tally.after
    async with feed(client, NAME, last_id=source.last_id) as source:
        await tally.add(CHANNEL, "a", 1)
        assert (await source.next()).offset == 5


async def test_recent_counts_for_channels_without_a_state(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """Those with one begin with it."""
    await tally.add(CHANNEL, "a", 3)
    await hub.hub.services.events.publish("plain:a", 1)
    async with feed(client, NAME, "plain:a", recent=5) as source:
        state, past = await source.take(2)
        assert told(state) == ("snapshot", NAME, {"a": 3}, 1)
        assert (past.json["channel"], past.offset) == ("plain:a", 1)


async def test_without_asking_there_is_no_state(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """Neither where it is not mentioned nor where it is 0; anything else is refused."""
    for query in ("", "&snapshot=0"):
        async with client.stream("GET", f"/events?channel={NAME}{query}") as response:
            source = EventSource(response)
            await tally.add(CHANNEL, "a", 1)
            assert (await source.next()).type == "message"
    refused = await client.get("/events", params={"channel": NAME, "snapshot": "yes"})
    assert (refused.status_code, refused.json()["code"]) == (400, 107)
    assert tally.reads == 0


async def test_a_state_that_cannot_be_read_is_told(
    hub: Served, tally: Tally, client: httpx.AsyncClient
) -> None:
    """What will pass is told in a stream, what will not as a status; nobody stays behind."""

    async def away() -> None:
        raise StoreUnavailable("Redis is away")

    tally.before = away
    async with feed(client, NAME) as source:
        [close] = await source.rest()
        assert (close.type, close.json["code"]) == ("close", 100)
    tally.before = tally.after
    tally.padding = 5_000_000
    refused = await client.get("/events", params={"channel": NAME, "snapshot": "1"})
    assert (refused.status_code, refused.json()["code"]) == (413, 106)
    async with asyncio.timeout(5):
        await hub.hub.registry.wait_empty()
    assert [len(room) for room in hub.hub.engine.rooms.values() if len(room)] == []


async def test_all_states_of_a_feed_are_bounded_together(
    hub: Served, tally: Tally, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many channels one feed follows."""
    monkeypatch.setattr("hub.feed._MAX_SNAPSHOTS_BYTES", 250_000)
    tally.padding = 100_000
    names = [("channel", f"tally:w{number}") for number in range(3)]
    refused = await client.get("/events", params=[*names, ("snapshot", "1")])
    assert (refused.status_code, refused.json()["code"]) == (413, 106)
    async with feed(client, "tally:w1", "tally:w2") as source:
        assert {event.type for event in await source.take(2)} == {"snapshot"}


async def test_a_reader_that_stopped_is_not_given_one_state_after_the_other(
    hub: Served, tally: Tally
) -> None:
    """What waits for it is bounded: at the next gap it is let go."""
    tally.padding = 2_000_000
    reading = hub.hub.new_feed([CHANNEL], Identity())
    await reading.open(None, snapshot=True)
    room = hub.hub.engine.rooms[NAME]
    assert len(reading.outbox) > 2_000_000
    ended = asyncio.Event()
    reading.outbox.on_ready = ended.set
    room.on_gap(Gap.TRIMMED, room.position, room.id)
    async with asyncio.timeout(5):
        await ended.wait()
    assert reading.closing == Disconnects.SLOW
    assert len(reading.outbox) < 1_000
    reading.close()
    assert tally.reads == 1


async def test_a_feed_that_ends_while_it_is_mended_leaves_nothing(
    hub: Served, tally: Tally
) -> None:
    """Its task is gone, and so is it from the room."""
    reading = hub.hub.new_feed([CHANNEL], Identity())
    await reading.open(None, snapshot=True)
    room = hub.hub.engine.rooms[NAME]
    began = asyncio.Event()

    async def wait() -> None:
        began.set()
        await asyncio.Event().wait()

    tally.before = wait
    room.on_gap(Gap.TRIMMED, room.position, room.id)
    await began.wait()
    reading.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(room) == 0
    assert not [task for task in asyncio.all_tasks() if "mend" in task.get_name()]


async def test_who_may_not_subscribe_sees_no_state(valkey: ValkeyServer) -> None:
    """The state is behind the same rule as the channel."""
    async with (
        served(strict_settings(valkey.url, channels=CHANNELS)) as hub,
        hub.client() as client,
    ):
        tally = Tally(hub.hub.services.context)
        for workspaces, status in ((["w2"], 403), (["w1"], 200)):
            headers = {
                "Authorization": f"Bearer {token(workspaces=workspaces)}",
                "Accept": "text/event-stream",
            }
            params = {"channel": NAME, "snapshot": "1"}
            async with client.stream("GET", "/events", params=params, headers=headers) as response:
                assert response.status_code == status
                if status == 200:
                    assert told(await EventSource(response).next())[2] == {}
        assert tally.reads == 1


# -- the race -------------------------------------------------------------------------------


class _Plain:
    """An EventSource by hand that is cut and comes back with its cursor, or anew."""

    def __init__(self, client: httpx.AsyncClient, seed: int) -> None:
        self.client = client
        self.random = Random(seed)
        self.replay = Replay()
        self.done = False
        self.cursor = ""

    async def run(self) -> None:
        """Read, again and again."""
        while True:
            stay_s = self.random.uniform(0, 0.15) if not self.done else 3600
            with contextlib.suppress(TimeoutError, httpx.HTTPError, StopAsyncIteration):
                async with (
                    asyncio.timeout(stay_s),
                    feed(self.client, NAME, last_id=self.cursor) as source,
                ):
                    while True:
                        self._take(await source.next())
            if self.random.random() < 0.2:
                self.cursor = ""

    def _take(self, event: Event) -> None:
        self.cursor = event.id
        if event.type == "snapshot":
            self.replay.begin(event.json["position"], event.json["snapshot"])
        elif event.type == "message":
            self.replay.change(event.offset, event.json["pub"]["data"])


@asynccontextmanager
async def _plain(hub: Served) -> AsyncIterator[Replay]:
    async with hub.client() as client:
        reader = _Plain(client, 1)
        task = asyncio.create_task(reader.run())
        try:
            yield reader.replay
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


@asynccontextmanager
async def _js(hub: Served) -> AsyncIterator[Replay]:
    """fanwire.js in Node."""
    node = shutil.which("node")
    assert node is not None, "Node is needed to test the browser module"
    options = json.dumps({"channels": [NAME], "snapshot": True})
    process = await asyncio.create_subprocess_exec(
        node,
        str(JS / "feed.mjs"),
        hub.url,
        options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    replay = Replay()
    lines = process.stdout

    async def read() -> None:
        while line := await lines.readline():
            happened = json.loads(line)
            if happened["kind"] == "snapshot":
                replay.begin(happened["position"], happened["snapshot"])
            elif happened["kind"] == "publication":
                replay.change(happened["offset"], happened["data"])
            assert happened["kind"] != "error", happened

    task = asyncio.create_task(read())
    try:
        yield replay
    finally:
        process.stdin.close()
        await process.wait()
        await task


async def _disturb(hub: Served, random: Random) -> None:
    """Cut the hub's subscriptions, and have rooms lose something, again and again."""
    while True:
        await asyncio.sleep(random.uniform(0.05, 0.25))
        room = hub.hub.engine.rooms.get(NAME)
        if random.random() < 0.5:
            await hub.hub.services.store.execute("CLIENT", "KILL", "TYPE", "pubsub")
        elif room is not None and room.position.epoch:
            room.on_gap(Gap.TRIMMED, room.position, room.id)


_READERS: dict[str, Callable[[Served], contextlib.AbstractAsyncContextManager[Replay]]] = {
    "plain": _plain,
    "fanwire.js": _js,
}


@pytest.mark.parametrize("kind", _READERS)
async def test_what_readers_believe_was_true(hub: Served, tally: Tally, kind: str) -> None:
    """A thousand changes a second, cuts and losses: nothing is missed, nothing comes twice."""
    async with _READERS[kind](hub) as replay:
        await replay.until_begun()
        disturbing = asyncio.create_task(_disturb(hub, Random(3)))
        await asyncio.gather(
            *(write(tally, CHANNEL, seed=i, count=400, every_s=0.005) for i in range(5))
        )
        disturbing.cancel()
        await asyncio.wait([disturbing])
        truth = await tally.truth(CHANNEL)
        top: Position = (await hub.hub.services.events.log.read(CHANNEL, limit=0)).top
        await replay.until(top)
        replay.check(truth)
        assert replay.snapshots > 3
