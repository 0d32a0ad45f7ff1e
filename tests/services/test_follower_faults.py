"""Following on a real server that loses messages, connections, processes and history.

``FANWIRE_TEST_KILLS`` says how often subscribers are killed (200 unless told otherwise).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from channels.errors import StoreError, StoreUnavailable
from channels.position import Position
from services.event_log import EventLog, Gap
from services.follower import Follower, FollowerSettings
from services.store.keys import Keys
from services.store.tcp import TcpStore

from .conftest import QUICK
from .support import RecordingSink, append, body, make_channel

CHANNEL = make_channel()
KILLS = int(os.environ.get("FANWIRE_TEST_KILLS", "200"))


@asynccontextmanager
async def following(url: str, keys: Keys, **options) -> AsyncIterator[tuple[Follower, EventLog]]:
    """A follower on a store of its own; when it ends, no repair may be left."""
    async with TcpStore(url, QUICK) as store:
        log = EventLog(store, keys)
        follower = Follower(store, log, keys, FollowerSettings(**options))
        try:
            yield follower, log
        finally:
            await follower.close()
    repairs = [task for task in asyncio.all_tasks() if task.get_name().startswith("fanwire")]
    assert not repairs


async def publish_surely(log: EventLog, number: int, channel=CHANNEL) -> None:
    """Publish through any outage: the key makes the repetition harmless."""
    while True:
        try:
            await log.append(channel, body(number), id=f"n{number}", idempotency_key=f"n{number}")
        except StoreError:
            await asyncio.sleep(0.01)  # the outage is what is tested; nothing tells its end
        else:
            return


async def test_killed_subscribers_lose_nothing(valkey, log, keys):
    """Subscribers killed by the hundred under traffic: 0 lost, 0 duplicated, 0 gaps."""
    channel = make_channel(size=100_000)
    kills = 0
    options = {"compare_every_s": 0.1, "grace_s": 0.1}
    async with following(valkey.url, keys, **options) as (follower, _):
        sink = RecordingSink()
        await follower.start(channel, sink)
        watch = asyncio.create_task(follower.run())
        published = 0

        async def publish() -> None:
            nonlocal published
            while kills < KILLS:
                published += 1
                await append(log, channel, published)

        async def kill() -> None:
            nonlocal kills
            with valkey.client() as client:
                while kills < KILLS:
                    kills += client.client_kill_filter(_type="pubsub")
                    await asyncio.sleep(0)

        async with asyncio.timeout(110):
            await asyncio.gather(publish(), kill())
            await append(log, channel, published + 1)
            # What is lost at the end is lost silently: only the comparison finds it.
            await sink.wait_for(published + 1)
        watch.cancel()
        assert sink.numbers == list(range(1, published + 2))
        assert not sink.faults
        assert not sink.gaps
        assert kills >= KILLS


async def test_a_killed_server_loses_nothing(valkey_server, keys):
    """kill -9 and restart on the append-only file under traffic: 0 lost, 0 duplicated."""
    server = valkey_server()
    async with following(server.url, keys) as (follower, log):
        sink = RecordingSink()
        await follower.start(CHANNEL, sink)
        crashes = asyncio.Event()
        published = 0

        async def publish() -> None:
            nonlocal published
            while not crashes.is_set():
                published += 1
                await publish_surely(log, published)

        publishing = asyncio.create_task(publish())
        for _ in range(4):
            await sink.wait_for(len(sink.publications) + 20)
            await asyncio.to_thread(server.crash)
        crashes.set()
        await publishing
        await sink.wait_for(published)
        assert sink.numbers == list(range(1, published + 1))
        assert not sink.faults
        assert not sink.gaps


async def test_two_processes_follow_the_same(valkey, log, keys):
    """A follower in another process is told the same, in the same order."""
    script = """
import asyncio, sys
from services.event_log import EventLog
from services.follower import Follower
from services.store.keys import Keys
from services.store.tcp import TcpStore
from tests.services.support import RecordingSink, make_channel

async def main():
    async with TcpStore(sys.argv[1]) as store:
        keys = Keys("fw")
        follower = Follower(store, EventLog(store, keys), keys)
        sink = RecordingSink()
        await follower.start(make_channel(), sink)
        print("ready", flush=True)
        await sink.wait_for(300)
        await follower.close()
        print(*sink.numbers, *sink.faults)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, valkey.url),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    async with following(valkey.url, keys) as (follower, _):
        sink = RecordingSink()
        await follower.start(CHANNEL, sink)
        await asyncio.gather(*(append(log, CHANNEL, n) for n in range(1, 301)))
        await sink.wait_for(300)
        output, _ = await process.communicate()
        assert [int(number) for number in output.split()] == sink.numbers
        assert not sink.faults


async def _rewind(store: TcpStore, keys: Keys, log: EventLog, count: int) -> None:
    """Take the last ``count`` publications back, as a failover to a lagging replica does."""
    top = (await log.read(CHANNEL, limit=0)).top
    kept = top.offset - count
    page = await log.read(CHANNEL, since=Position(top.epoch, kept - 1), limit=1)
    await store.execute("COPY", keys.log(CHANNEL), "{test:one}:kept")
    entries = await store.execute("XRANGE", "{test:one}:kept", "-", f"{kept}-0")
    await store.execute("DEL", keys.log(CHANNEL), "{test:one}:kept")
    for entry_id, fields in entries:
        await store.execute("XADD", keys.log(CHANNEL), entry_id, *fields)
    await store.execute("HSET", keys.log_meta(CHANNEL), "o", kept, "i", page.publications[0].id)


@pytest.mark.parametrize("found_by", ["the next message", "the comparison"])
async def test_a_rewind_is_a_fork_that_every_node_is_told_of_once(
    valkey, store, log, keys, found_by
):
    """The epoch stays and offsets come again: a new epoch begins, one gap a node."""
    async with (
        following(valkey.url, keys, grace_s=0.01) as (one, _),
        following(valkey.url, keys, grace_s=0.01) as (two, _),
    ):
        sinks = [RecordingSink(), RecordingSink()]
        for follower, sink in zip((one, two), sinks, strict=True):
            await follower.start(CHANNEL, sink)
        top = await append(log, CHANNEL, *range(1, 11))
        for sink in sinks:
            await sink.wait_for(10)
        await _rewind(store, keys, log, 3)
        if found_by == "the next message":
            await append(log, CHANNEL, 11)
        else:
            await one.compare()
            await sinks[0].wait_for(gaps=1)
            await two.compare()
        for sink in sinks:
            await sink.wait_for(gaps=1)
        after = await append(log, CHANNEL, 12)
        for sink in sinks:
            await sink.wait_for_id("n12")
            assert [gap for gap, _ in sink.gaps] == [Gap.EPOCH]
            assert not sink.faults
        assert after.position.epoch != top.position.epoch
        # The official clients come back with the old epoch and are told, too.
        assert (await log.recover(CHANNEL, top.position)).gap is Gap.EPOCH
        for follower in (one, two):
            await follower.compare()
        assert [len(sink.gaps) for sink in sinks] == [1, 1]


async def test_a_message_lost_at_the_tail_is_found_by_comparison(valkey, store, log, keys):
    """Nothing comes after it that would show the hole; the comparison reads it."""
    async with following(valkey.url, keys, grace_s=0.0) as (follower, _):
        sink = RecordingSink()
        await follower.start(CHANNEL, sink)
        await append(log, CHANNEL, 1)
        await sink.wait_for(1)
        await store.execute("XADD", keys.log(CHANNEL), "2-0", "i", "n2", "b", body(2))
        await store.execute("HSET", keys.log_meta(CHANNEL), "o", 2, "i", "n2")
        await follower.compare()
        await sink.wait_for(2)
        assert sink.numbers == [1, 2]
        assert (follower.stats.repairs, follower.stats.backfilled) == (1, 1)


async def test_the_watch_compares_by_itself(valkey, store, log, keys):
    """``run`` does it every so often, and survives a server that is away."""
    async with following(valkey.url, keys, compare_every_s=0.01, grace_s=0.0) as (follower, _):
        sink = RecordingSink()
        await follower.start(CHANNEL, sink)
        watch = asyncio.create_task(follower.run())
        await append(log, CHANNEL, 1)
        await store.execute("XADD", keys.log(CHANNEL), "2-0", "i", "n2", "b", body(2))
        await store.execute("HSET", keys.log_meta(CHANNEL), "o", 2, "i", "n2")
        await sink.wait_for(2)
        watch.cancel()
        await asyncio.wait({watch})
        assert watch.cancelled()


async def test_a_lost_history_is_told(valkey, store, log, keys):
    """FLUSHALL under a follower: the comparison, or the next message, tells of a new epoch."""
    async with following(valkey.url, keys) as (follower, _):
        sink = RecordingSink()
        await follower.start(CHANNEL, sink)
        await append(log, CHANNEL, 1, 2)
        await sink.wait_for(2)
        await store.execute("FLUSHALL")
        await follower.compare()
        await sink.wait_for(gaps=1)
        await store.execute("FLUSHALL")
        await append(log, CHANNEL, 3)
        await sink.wait_for(gaps=2)
        await append(log, CHANNEL, 4)
        await sink.wait_for_id("n4")
        assert [gap for gap, _ in sink.gaps] == [Gap.EPOCH, Gap.EPOCH]
        assert not sink.faults


async def test_a_busy_healthy_channel_needs_no_repair(valkey, log, keys):
    """Thousands of publications, comparisons all the while, joins in the middle: 0 repairs."""
    async with following(valkey.url, keys, grace_s=0.5) as (follower, _):
        sink = RecordingSink()
        await follower.start(CHANNEL, sink)
        publishing = True

        async def compare() -> int:
            times = 0
            while publishing:
                await follower.compare()
                times += 1
            return times

        async def join() -> None:
            for _ in range(20):
                await follower.stop(other)
                await follower.start(other, RecordingSink())

        other = make_channel("test:other")
        comparing = asyncio.create_task(compare())
        tasks = [append(log, CHANNEL, *range(1, 60)) for _ in range(32)]
        tasks += [append(log, other, *range(1, 60)) for _ in range(32)]
        await asyncio.gather(join(), *tasks)
        publishing = False
        await comparing
        await sink.wait_for(59 * 32)
        assert follower.stats.repairs == 0
        assert not sink.faults


async def test_starting_without_a_server_fails_and_leaves_nothing(keys, valkey_server):
    """The error is that of the store; later, with a server, the same channel can be started."""
    server = valkey_server()
    server.stop()
    before = asyncio.all_tasks()
    store = TcpStore(server.url, QUICK)
    await store.open(wait=False)
    store._timeout_s = 0.2
    follower = Follower(store, EventLog(store, keys), keys)
    with pytest.raises(StoreUnavailable):
        await follower.start(CHANNEL, RecordingSink())
    store._timeout_s = 5.0
    server.start()
    sink = RecordingSink()
    await follower.start(CHANNEL, sink)
    await append(EventLog(store, keys), CHANNEL, 1)
    await sink.wait_for(1)
    await follower.close()
    await store.close()
    assert asyncio.all_tasks() <= before


async def test_starts_cancelled_at_every_moment_leave_no_subscription(valkey, keys, log):
    """Whenever a start is cancelled, the server counts no subscriber afterwards."""
    pubsub = keys.pubsub(CHANNEL)
    async with following(valkey.url, keys) as (follower, _):
        finished = 0
        for turns in range(120):
            starting = asyncio.create_task(follower.start(CHANNEL, RecordingSink()))
            for _ in range(turns % 40):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait({starting})
            if not starting.cancelled():
                finished += 1
                await follower.stop(CHANNEL)
        # A last one in the same connection stands behind all of them.
        await follower.start(CHANNEL, RecordingSink())
        with valkey.client() as client:
            assert client.pubsub_numsub(pubsub) == [(pubsub.encode(), 1)]
            await follower.stop(CHANNEL)
            await follower.start(make_channel("test:two"), RecordingSink())
            assert client.pubsub_numsub(pubsub) == [(pubsub.encode(), 0)]


async def test_a_stopped_sink_is_told_nothing_more(valkey, keys, log):
    """Stopped at random moments under traffic and repairs."""
    async with following(valkey.url, keys) as (follower, _):
        publishing = True

        async def publish() -> None:
            while publishing:
                await append(log, CHANNEL, 1)

        publishers = [asyncio.create_task(publish()) for _ in range(8)]
        for turns in range(60):
            sink = RecordingSink()
            await follower.start(CHANNEL, sink)
            if turns % 3 == 0:
                (followed,) = follower._followed.values()
                followed.on_interrupted()
            for _ in range(turns):
                await asyncio.sleep(0)
            await follower.stop(CHANNEL)
            sink.ended = True
            await asyncio.sleep(0)
            assert not sink.faults
        publishing = False
        await asyncio.gather(*publishers)
