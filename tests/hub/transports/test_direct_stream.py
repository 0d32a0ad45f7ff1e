"""A feed on a lent transport: what is written while it stands, and what is not any more."""

from __future__ import annotations

import asyncio

from channels.errors import Disconnects
from channels.identity import ANONYMOUS
from hub.feed import Feed
from hub.transports.direct_stream import DirectStream
from tests.hub.harness import World, channel


class _Transport:
    """Takes bytes until it is closed; then, as uvloop's does, it complains."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str) -> None:
        """Say that there is no socket."""

    def is_closing(self) -> bool:
        """Whether it complains."""
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        """Hold nothing anyway."""

    def write(self, data: bytes) -> None:
        """Take bytes."""
        if self.closed:
            raise RuntimeError("the handler is closed")
        self.written += data


class _Lender:
    """A server's connection."""

    def __init__(self) -> None:
        self.transport = _Transport()
        self.tasks: set[asyncio.Task[None]] = set()
        self.write_paused = False
        self.stream: DirectStream | None = None


async def _open_feed(world: World) -> Feed:
    feed = Feed(world.engine(), [channel()], ANONYMOUS, limit_bytes=100_000, heartbeat_s=60)
    await feed.open(None)
    feed.take()
    return feed


async def test_live_events_are_chunks_on_the_transport() -> None:
    """And what ends the feed is the last of them."""
    world, lender = World(), _Lender()
    feed = await _open_feed(world)
    with DirectStream(feed, lender, send_timeout_s=5) as stream:  # type: ignore[arg-type]  # as much of one as it needs
        await asyncio.sleep(0)
        world.publish(2)
        world.pump()
        assert lender.transport.written.count(b"\ndata: {") == 2
        feed.end(Disconnects.SHUTDOWN)
        async with asyncio.timeout(5):
            await stream.ended.wait()
    assert b"event: close" in lender.transport.written
    assert lender.stream is None
    feed.close()


async def test_nothing_is_written_after_the_connection_was_lost() -> None:
    """The task of the response hears of it a few turns later; live events come before that."""
    world, lender = World(), _Lender()
    feed = await _open_feed(world)
    with DirectStream(feed, lender, send_timeout_s=5) as stream:  # type: ignore[arg-type]  # as above
        await asyncio.sleep(0)
        feed.outbox.push(b"something that waits for its turn")
        lender.transport.closed = True
        stream.connection_lost()
        world.publish(2)
        world.pump()
        stream.resume_writing()  # uvicorn's flow control does so at the end
        for _ in range(3):
            await asyncio.sleep(0)
        assert lender.transport.written == b""
        assert lender.stream is None
    feed.close()
