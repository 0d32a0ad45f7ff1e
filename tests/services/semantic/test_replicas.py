"""Processes that hold vectors stay in step: two contexts on one server are two processes."""

from __future__ import annotations

import asyncio
import threading

import pytest

from channels.errors import OutcomeUnknown
from services.semantic.settings import SemanticSettings
from services.shared_follower import SharedFollower
from services.store.tcp import TcpStore

from ..conftest import QUICK
from ..test_session_commands import APPEND, added, counted
from .support import bag, make_cache, make_context

ASKED = "How do I export the report of my team?"
LIKE = "How do I export a report of the team?"
WIDE = SemanticSettings(hit=0.3, uncertain=0.5, resync_s=3600.0)


@pytest.fixture
async def two(valkey):
    """Two contexts that follow, each with a store of its own."""
    async with TcpStore(valkey.url, QUICK) as one, TcpStore(valkey.url, QUICK) as other:
        contexts = []
        for store in (one, other):
            context = make_context(store)
            context.semantic.use(SharedFollower(store, context.log, context.keys))
            contexts.append(context)
        yield contexts
        for context in contexts:
            await context.semantic.close()
            await context.semantic.follower.close()


async def until(check):
    """Wait until ``check()`` holds."""
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - told by the server, through no object of ours
            await asyncio.sleep(0.001)


async def test_what_one_process_stores_another_finds(two):
    """Through the event, with no listing after the first one."""
    here, there = (make_cache(context, settings=WIDE) for context in two)
    assert not await there.lookup(LIKE)
    await here.store(ASKED, "So.")
    replica = two[1].semantic.of("w1")
    (held,) = replica._partitions.values()
    await until(lambda: held.version == 1)
    assert (await there.lookup(LIKE)).source == "semantic"
    assert two[1].semantic.stats.resyncs == 1
    await here.invalidate(everything=True)
    assert not await there.lookup(LIKE)
    await until(lambda: held.version == 2)
    assert not await there.lookup(LIKE)
    assert replica.size() == 0


async def test_removed_entries_leave_the_other_process(two):
    """Evictions and removals are told with the ids."""
    here, there = (make_cache(context, settings=WIDE) for context in two)
    await here.store(ASKED, "So.")
    await here.store("Explain the blue elephant", "Big.")
    assert await there.lookup(LIKE)
    replica = two[1].semantic.of("w1")
    assert replica.size() == 2
    await here.remove(ASKED)
    await until(lambda: replica.size() == 1)
    assert not await there.lookup(LIKE)


async def test_two_processes_store_the_same_prompt_at_once(two):
    """There is one entry, and both give the one answer that stayed."""
    here, there = (make_cache(context, settings=WIDE) for context in two)
    await asyncio.gather(*(one.store(ASKED, n) for n in range(10) for one in (here, there)))
    assert (await here.size())[0] == 1
    await here.synced()
    await there.synced()
    assert (await here.lookup(LIKE)).response == (await there.lookup(LIKE)).response


async def test_a_process_that_comes_up_loads_what_is_there(two):
    """In batches, more than one of them."""
    here, there = (make_cache(context, settings=WIDE) for context in two)
    await asyncio.gather(*(here.store(f"Explain word{n} please", n) for n in range(450)))
    await there.synced()
    assert two[1].semantic.of("w1").size() == 450
    assert two[1].semantic.stats.loaded == 450


async def test_without_a_follower_versions_tell(any_store):
    """A process that hears nothing lists anew once it is behind for too long."""
    quick = SemanticSettings(hit=0.3, uncertain=0.5, resync_s=0.0)
    here, there = (make_cache(make_context(any_store), settings=quick) for _ in range(2))
    assert not await there.lookup(LIKE)
    await here.store(ASKED, "So.")
    assert (await there.lookup(LIKE)).source == "semantic"
    await here.invalidate(everything=True)
    assert not await there.lookup(LIKE)


async def test_all_data_lost_is_no_answer_from_memory(two, valkey):
    """Vectors in memory find nothing in Redis; what is stored then is found."""
    here, _ = (make_cache(context, settings=WIDE) for context in two)
    await here.store(ASKED, "So.")
    assert await here.lookup(LIKE)
    valkey.empty()
    assert not await here.lookup(LIKE)
    await here.store(ASKED, "Anew.")
    assert (await here.lookup(LIKE)).response == "Anew."


async def test_partitions_that_are_not_used_make_room(two):
    """Bounds of the process hold; what went is loaded again when it is asked for."""
    settings = SemanticSettings(hit=0.3, uncertain=0.5, max_partitions=2)
    cache = make_cache(two[0], settings=settings)
    for model in ("a", "b", "c", "d"):
        await cache.store(ASKED, model, model=model)
        assert (await cache.lookup(LIKE, model=model)).response == model
    assert two[0].semantic.of("w1").partitions <= 2
    assert (await cache.lookup(LIKE, model="a")).response == "a"
    for workspace in ("w2", "w3", "w4"):
        other = make_cache(two[0], workspace, settings=settings)
        await other.store(ASKED, workspace)
        assert (await other.lookup(LIKE)).response == workspace
    replicas = two[0].semantic._replicas.values()
    assert sum(one.partitions for one in replicas) <= 2


async def test_an_unknown_outcome_is_repeated_and_changes_nothing_more(two, monkeypatch):
    """The reply was lost: the entry is there once, an invalidated one does not come back."""
    context = two[0]
    cache, run, lost = make_cache(context, settings=WIDE), context.store.run, []

    async def lose(script, *args, **kwargs):
        reply = await run(script, *args, **kwargs)
        if script.name == "semantic_store" and not lost:
            lost.append(script)
            await make_cache(two[1], settings=WIDE).invalidate(everything=True)
            raise OutcomeUnknown("the reply was lost")
        return reply

    monkeypatch.setattr(context.store, "run", lose, raising=False) if hasattr(
        context.store, "__dict__"
    ) else monkeypatch.setattr(type(context.store), "run", staticmethod(lose))
    stored = await cache.store(ASKED, "old")
    assert lost
    assert stored.reason == "outdated"
    assert (await cache.size()) == (0, 0)


async def test_a_store_while_others_look_up(two):
    """Whatever is read meanwhile is an answer that was stored, or none."""
    here, there = (make_cache(context, settings=WIDE) for context in two)
    seen = set()

    async def look():
        for _ in range(60):
            found = await there.lookup(LIKE)
            if found:
                seen.add(found.response)

    async def change():
        for n in range(60):
            await here.store(ASKED, n)
            if n % 10 == 9:
                await here.invalidate(tags=["none"])

    await asyncio.gather(look(), change())
    assert seen <= set(range(60))
    await there.synced()
    assert (await there.lookup(LIKE)).response == 59


async def test_what_each_call_costs(valkey, tcp_store):
    """Commands, for each of them is billed where Redis is a service."""
    context = make_context(tcp_store)
    cache = make_cache(context, settings=WIDE)
    await cache.store("Explain charlie", "c", ttl_s=600)
    await cache.store(ASKED, "So.")
    await cache.lookup(LIKE)
    found = await counted(tcp_store, lambda: cache.lookup(ASKED))
    assert found == {"hmget": 1}
    found = await counted(tcp_store, lambda: cache.lookup(LIKE))
    assert found == {"hmget": 2}
    found = await counted(tcp_store, lambda: cache.lookup("Explain delta"))
    assert found == {"hmget": 1} or found == {"hmget": 2}
    miss = await cache.lookup("Some words nobody said")
    found = await counted(
        tcp_store, lambda: cache.store("Some words nobody said", "x", mark=miss.mark)
    )
    own = {"evalsha": 1, "hmget": 1, "hget": 1, "hset": 2, "zadd": 3}
    found.pop("pexpire", None)  # once a second for the log
    assert found == added(APPEND, own)


async def test_an_embedding_in_a_thread_leaves_the_loop_alone(two):
    """A slow embedding holds up nobody."""
    gate = threading.Event()

    def slow(texts):
        gate.wait(10)
        return bag(texts)

    asking = asyncio.create_task(make_cache(two[0], embed=slow).lookup(ASKED))
    await make_cache(two[0]).store("Explain the loop", "x")
    gate.set()
    assert not await asking


async def test_entries_that_made_room_leave_the_other_process(two):
    """The event of the one that is kept names those that went for it."""
    small = SemanticSettings(hit=0.3, uncertain=0.5, resync_s=3600.0, max_entries=1)
    here, there = (make_cache(context, settings=small) for context in two)
    await here.store(ASKED, "So.")
    assert await there.lookup(LIKE)
    replica = two[1].semantic.of("w1")
    (held,) = replica._partitions.values()
    stored = await here.store("Explain the blue elephant", "Big.")
    assert len(stored.removed) == 1
    await until(lambda: held.version == 2)
    assert replica.size() == 0
    assert len(held.missing) == 1
