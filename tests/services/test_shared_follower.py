"""One follow for a sink and for taps, through failures on either side."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import StoreError, UsageError
from services.event_log import EventLog
from services.shared_follower import SharedFollower
from services.store.tcp import TcpStore, TcpStoreOptions

from .support import RecordingSink, append, make_channel

CHANNEL = make_channel()
QUICK = TcpStoreOptions(backoff_s=(0.001, 0.05), timeout_s=0.5)


class Tap(RecordingSink):
    """Only listens: positions mean nothing to it."""

    def on_publication(self, publication):
        """Take a publication, whatever came before."""
        self.position = None
        super().on_publication(publication)


@pytest.fixture
async def follower(store, log, keys):
    """A follower of the shared server."""
    shared = SharedFollower(store, log, keys)
    yield shared
    await shared.close()


async def test_taps_come_and_go_beside_a_sink(follower, log):
    """The sink's history is unbroken; a tap hears what comes while it is there."""
    sink, early, late = RecordingSink(), Tap(), Tap()
    await follower.tap(CHANNEL, early)
    await append(log, CHANNEL, 1)
    await early.wait_for(1)
    position, _ = await follower.start(CHANNEL, sink)
    sink.position = position
    await follower.tap(CHANNEL, late)
    await follower.tap(CHANNEL, late)
    await append(log, CHANNEL, 2, 3)
    for one in (sink, early, late):
        await one.wait_for_id("n3")
    assert late.ids == sink.ids == ["n2", "n3"]
    await follower.untap(CHANNEL, early)
    early.ended = True
    await append(log, CHANNEL, 4)
    await sink.wait_for_id("n4")
    await follower.stop(CHANNEL)
    sink.ended = True
    await append(log, CHANNEL, 5)
    await late.wait_for_id("n5")
    await follower.untap(CHANNEL, late)
    await follower.untap(CHANNEL, late)
    assert not follower.follows(CHANNEL)
    assert not sink.faults + early.faults


async def test_there_is_one_sink(follower):
    """A second one is refused, whether there are taps or not; its place is free afterwards."""
    tap = Tap()
    await follower.start(CHANNEL, RecordingSink())
    for _ in range(2):
        with pytest.raises(UsageError):
            await follower.start(CHANNEL, RecordingSink())
        await follower.tap(CHANNEL, tap)
    await follower.stop(CHANNEL)
    await follower.start(CHANNEL, RecordingSink())


async def test_the_last_tap_leaves_the_sink_alone(follower, log):
    """Its follow goes on as if there had never been a tap."""
    sink, tap = RecordingSink(), Tap()
    await follower.start(CHANNEL, sink)
    await follower.tap(CHANNEL, tap)
    await follower.untap(CHANNEL, tap)
    assert not follower._junctions
    await append(log, CHANNEL, 1)
    await sink.wait_for_id("n1")
    assert not tap.publications


async def test_a_start_that_fails_has_taps_come_again(valkey_server, keys):
    """The server is away when a sink comes: neither it nor the tap is left half there."""
    server = valkey_server()
    async with TcpStore(server.url, QUICK) as store:
        log = EventLog(store, keys)
        follower, tap = SharedFollower(store, log, keys), Tap()
        await follower.tap(CHANNEL, tap)
        await asyncio.to_thread(server.stop)
        told = len(tap.gaps)
        with pytest.raises(StoreError):
            await follower.start(CHANNEL, RecordingSink())
        assert not follower.follows(CHANNEL)
        assert len(tap.gaps) > told
        with pytest.raises(StoreError):
            await follower.tap(CHANNEL, tap)
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(20):
            while True:
                try:
                    await follower.tap(CHANNEL, tap)
                except StoreError:
                    await asyncio.sleep(0.01)
                else:
                    break
        sink = RecordingSink()
        await follower.start(CHANNEL, sink)
        await append(log, CHANNEL, 1)
        await sink.wait_for_id("n1")
        await tap.wait_for_id("n1")
        await follower.close()


async def test_a_tap_that_came_during_a_failed_start_blocks_nobody(follower, monkeypatch):
    """The sink that failed is forgotten, the tap is told, and another sink may come."""
    tap, held = Tap(), asyncio.Event()

    async def fail(self, channel, listener):
        await held.wait()
        raise StoreError("no")

    with monkeypatch.context() as patch:
        patch.setattr(TcpStore, "listen", fail)
        starting = asyncio.create_task(follower.start(CHANNEL, RecordingSink()))
        await asyncio.sleep(0)
        await follower.tap(CHANNEL, tap)
        held.set()
        with pytest.raises(StoreError):
            await starting
    assert len(tap.gaps) == 1
    await follower.start(CHANNEL, RecordingSink())
    assert follower.follows(CHANNEL)
