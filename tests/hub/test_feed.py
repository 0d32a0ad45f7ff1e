"""A feed without a transport: what is written, how much may wait, when it ends."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable

import pytest

from channels.cursor import decode_cursor
from channels.errors import Disconnects
from channels.identity import Identity
from channels.position import Position
from hub.engine import Engine
from hub.feed import Feed
from hub.frame import Batch
from services.door import Services
from services.event_log import Gap
from tests.servers import ValkeyServer

LIMIT = 10_000
Open = Callable[..., Feed]


@pytest.fixture
async def services(valkey: ValkeyServer) -> AsyncIterator[Services]:
    """Services that know no undeclared channels yet."""
    async with Services.connect(valkey.url) as services:
        services.catalogue.open = True
        yield services


@pytest.fixture
async def engine(services: Services) -> AsyncIterator[Engine]:
    """An engine without lingering rooms."""
    engine = Engine(services.follower, services.events.log, linger_s=0)
    yield engine
    await engine.close()


@pytest.fixture
async def feed_of(services: Services, engine: Engine) -> AsyncIterator[Open]:
    """Return a function that makes feeds, not opened yet; they are closed in the end."""
    feeds: list[Feed] = []

    def make(*names: str, identity: Identity | None = None, heartbeat_s: float = 60) -> Feed:
        feed = Feed(
            engine,
            [services.catalogue.find(name) for name in names],
            identity or Identity(),
            limit_bytes=LIMIT,
            heartbeat_s=heartbeat_s,
        )
        feeds.append(feed)
        return feed

    yield make
    for feed in feeds:
        feed.close()


async def _chunk(feed: Feed) -> str:
    ready = asyncio.Event()
    feed.outbox.on_ready = ready.set
    if not feed.outbox:
        async with asyncio.timeout(5):
            await ready.wait()
    return feed.take().decode()


async def test_a_burst_leaves_in_one_chunk(services: Services, feed_of: Open) -> None:
    """What piled up while the transport was busy is one write, each event with its own id."""
    feed = feed_of("a:b", "c:d")
    await feed.open(None)
    feed.take()
    await services.events.log.append(services.catalogue.find("a:b"), b'"data":0}')
    for n in range(1, 50):
        await services.events.publish("a:b" if n % 2 else "c:d", n)
    await _until(feed, 50)
    chunk = feed.take().decode()
    assert not feed.outbox
    blocks = chunk.split("\n\n")[:-1]
    assert len(blocks) == 50
    ids = [re.match("id: (.*)\n", block) for block in blocks]
    assert len({found[1] for found in ids if found}) == 50
    cursor = decode_cursor(ids[-1][1] if ids[-1] else "", ["a:b", "c:d"])
    assert (cursor["a:b"].position.offset, cursor["c:d"].position.offset) == (26, 24)


async def _until(feed: Feed, count: int) -> None:
    """Return when ``count`` publications were delivered to the feed."""
    async with asyncio.timeout(5):
        while feed._engine.traffic.deliveries < count:  # noqa: ASYNC110 - nobody tells how many
            await asyncio.sleep(0)


async def test_feeds_of_one_channel_share_their_bytes(services: Services, feed_of: Open) -> None:
    """The chunk of a single-channel feed is made once, however many readers there are."""
    channel = services.catalogue.find("a:b")
    done = await services.events.log.append(channel, b'"data":1}')
    [publication] = (await services.events.history("a:b")).publications
    batch = Batch([publication])
    written: list[bytes] = []
    feeds = [feed_of("a:b"), feed_of("a:b"), feed_of("a:b", "c:d")]
    for feed in feeds:
        feed.outbox.open(written.append)
        feed.deliver(batch)
    assert written[0] is written[1]
    assert written[0] == written[2]
    size, _, rest = written[0].partition(b"\r\n")
    assert rest.startswith(b"id: ")
    assert rest.endswith(b'\ndata: {"channel":"a:b","pub":{"offset":1,"data":1}}\n\n\r\n')
    assert int(size, 16) == len(rest) - 2
    assert done.position.offset == 1


async def test_a_gap_in_between_says_how_far_the_reader_got(
    services: Services, feed_of: Open
) -> None:
    """Its cursor claims nothing of what waits behind it, and forgets nothing before it."""
    feed = feed_of("a:b", "c:d")
    await feed.open(None)
    feed.take()
    for name in ("a:b", "c:d", "a:b"):
        await services.events.publish(name, 1)
    await _until(feed, 3)
    feed.lose("c:d", Gap.EPOCH, Position("other", 9), "id9")
    await services.events.publish("a:b", 2)
    await _until(feed, 4)
    blocks = feed.take().decode().split("\n\n")[:-1]
    ids = [re.match("id: (.*)\n", block) for block in blocks]
    cursors = [decode_cursor(found[1] if found else "", ["a:b", "c:d"]) for found in ids]
    stands = [(each["a:b"].position.offset, each["c:d"].position.offset) for each in cursors]
    assert stands[0] in {(1, 0), (0, 1)}
    assert stands[2:] == [(2, 1), (2, 9), (3, 9)]


async def test_a_slow_reader_owes_a_bounded_sum(
    services: Services, engine: Engine, feed_of: Open
) -> None:
    """Over the limit what waits is dropped, the feed says 3008 and is in no room any more."""
    feed = feed_of("a:b")
    await feed.open(None)
    feed.take()
    channel = services.catalogue.find("a:b")
    while feed.closing is None:
        await services.events.publish("a:b", "x" * 3000)
        assert len(feed.outbox) <= LIMIT + 4_000
    assert feed.closing == Disconnects.SLOW
    assert feed not in engine.rooms.get(channel.name, ())
    assert re.fullmatch(
        r'retry: \d+\nevent: close\ndata: {"code":3008,"reason":"slow consumer"}\n\n',
        feed.take().decode(),
    )
    assert feed.take() == b""
    assert engine.traffic.drops == {"slow": 1}


async def test_what_was_asked_for_does_not_count(services: Services, feed_of: Open) -> None:
    """A reader may recover more than it may owe."""
    feed = feed_of("a:b")
    await feed.open(None)
    cursor = re.search("id: (.*)\n", feed.take().decode())
    assert cursor is not None
    feed.close()
    for _ in range(10):
        await services.events.publish("a:b", "x" * 3000)
    back = feed_of("a:b")
    await back.open(decode_cursor(cursor[1], ["a:b"]))
    await services.events.publish("a:b", "x" * 3000)
    assert (await _chunk(back)).count("data: ") >= 10
    assert back.closing is None


async def test_the_token_s_end_is_announced_and_kept(feed_of: Open) -> None:
    """Half-way through a short rest of life the reader is warned, then the feed ends."""
    feed = feed_of("a:b", identity=Identity(user="ann", expires_at=time.time() + 0.3))
    await feed.open(None)
    feed.take()
    assert (await _chunk(feed)).startswith('event: auth-expiring\ndata: {"expires_at":')
    assert '"code":3005' in await _chunk(feed)
    assert feed.closing == Disconnects.EXPIRED


async def test_an_idle_feed_beats(feed_of: Open) -> None:
    """A heartbeat comes while nothing else waits."""
    feed = feed_of("a:b", heartbeat_s=0.01)
    await feed.open(None)
    feed.take()
    assert await _chunk(feed) == ":\n\n"
    assert await _chunk(feed) == ":\n\n"


async def test_the_second_goodbye_is_silent(feed_of: Open) -> None:
    """Ending twice, or closing after the end, writes nothing more."""
    feed = feed_of("a:b")
    await feed.open(None)
    feed.take()
    feed.end(Disconnects.SHUTDOWN)
    feed.end(Disconnects.SLOW)
    assert feed.take().count(b"event: close") == 1
    assert feed.closing == Disconnects.SHUTDOWN
    feed.close()
    feed.deliver(Batch.__new__(Batch))
    assert feed.take() == b""
