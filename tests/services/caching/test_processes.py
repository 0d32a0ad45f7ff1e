"""Several processes and one key: one load, and nothing older than its invalidation."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.seed_cache import SeedCache

from .cache_support import commands, opened, until

ROOT = Path(__file__).parents[3]
#: Changes of the source while others read it.
CHANGES = 300


@asynccontextmanager
async def worker(*arguments: object):
    """Start a process of ``cache_worker``; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.caching.cache_worker", *map(str, arguments)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def heard(process) -> dict:
    """Return the next line that a process says."""
    text = await process.stdout.readline()
    assert text, "the process ended without a word"
    return json.loads(text)


def go(process) -> None:
    """Send a line."""
    process.stdin.write(b"go\n")


async def stampede(valkey, store, processes: int, callers: int, kind: str = "ours"):
    """Return what processes say that ask for one key at once, and the commands it took."""
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(worker("stampede", valkey.url, callers, kind))
            for _ in range(processes)
        ]
        for process in workers:
            await heard(process)
        await store.execute("SET", "loads", 0)
        said = []

        async def all_at_once() -> None:
            for process in workers:
                go(process)
            said.extend([await heard(process) for process in workers])

        return said, await commands(store, all_at_once)


async def test_a_thousand_misses_in_each_of_four_processes_are_one_load(store, valkey):
    """Everybody gets the value of the one load."""
    said, _ = await stampede(valkey, store, 4, 1_000)
    assert said == [{"values": [1], "answers": 1_000}] * 4
    assert await store.execute("GET", "loads") == b"1"


async def test_a_stampede_is_twenty_commands_at_most(store, valkey):
    """Two hundred callers in each of two processes; what scripts call is counted, too."""
    said, counted = await stampede(valkey, store, 2, 200)
    assert [found["values"] for found in said] == [[1], [1]]
    loads = counted.pop("incrby")  # the source's own
    assert loads == 1
    assert sum(counted.values()) <= 20, counted


async def test_the_seed_loads_for_everybody(store, valkey):
    """What it is measured against: the same calls on the code of the document."""
    said, counted = await stampede(valkey, store, 2, 100, "seed")
    assert counted["incrby"] > 100
    assert sum(len(found["values"]) for found in said) > 100


async def contest(valkey, mode: str, broken: str = "", *, by_tag: bool = False) -> dict:
    """Change a source again and again while three processes read it; return what they say."""
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(opened(valkey.url))
        store = services.store
        cache = services.for_workspace("w1").cache
        arguments = ("readers", valkey.url, mode, 8, *([broken] if broken else []))
        workers = [await stack.enter_async_context(worker(*arguments)) for _ in range(3)]
        for process in workers:
            await heard(process)
        for process in workers:
            go(process)
        seed = None
        if mode == "seed":
            client = await stack.enter_async_context(_client(valkey.url))
            seed = SeedCache(client)
        for value in range(1, CHANGES + 1):
            await store.execute("SET", "source", value)
            version = 0
            if seed is not None:
                await seed.invalidate("k")
            elif by_tag:
                version = await cache.invalidate(keys=[f"mark:{value}"], tags=["t"])
            else:
                version = await cache.invalidate(keys=["k", f"mark:{value}"])
            await store.execute("SET", "done", f"{value} {version}")
            # Most of the time something is cached, and loads are under way.
            await asyncio.sleep((value % 4) * 0.003)
        for process in workers:
            go(process)
        said = [await heard(process) for process in workers]
    return {
        "old": sum(found["old"] for found in said),
        "reads": sum(found["reads"] for found in said),
        "refused": sum(found["stats"]["refused"] for found in said),
        "local": sum(found["stats"]["local_hits"] for found in said),
    }


@asynccontextmanager
async def _client(url: str):
    import redis.asyncio as redis_py  # noqa: PLC0415 - only the baseline needs it

    async with redis_py.Redis.from_url(url) as client:
        yield client


@pytest.mark.parametrize("by_tag", [False, True], ids=["by key", "by tag"])
@pytest.mark.parametrize("mode", ["strict", "told", "heard"])
async def test_nothing_is_older_than_its_invalidation(valkey, mode, by_tag):
    """A read that begins after an invalidation returned is never answered with what was before.

    Without memory, and with it for who says what is known; from memory, never with what the
    process itself was told is out of date.
    """
    found = await contest(valkey, mode, by_tag=by_tag)
    assert found["old"] == 0, found
    assert found["reads"] > CHANGES
    assert found["refused"] > 0, "no load was under way when it was invalidated"
    if mode == "heard":
        assert found["local"] > 0


@pytest.mark.parametrize(
    ("mode", "broken", "by_tag"),
    [("strict", "lease", False), ("strict", "tags", True), ("heard", "late", False)],
)
async def test_without_a_guard_old_values_are_seen(valkey, mode, broken, by_tag):
    """The test above finds what it looks for."""
    assert (await contest(valkey, mode, broken, by_tag=by_tag))["old"] > 0


async def test_the_seed_shows_old_values(valkey):
    """A value that was read before an invalidation is written after it."""
    assert (await contest(valkey, "seed"))["old"] > 0


async def test_a_holder_that_is_killed_costs_its_lease(valkey):
    """Others wait for it no longer than that."""
    async with opened(valkey.url, lease_s=1.0) as services, worker("holder", valkey.url) as holder:
        cache = services.for_workspace("w1").cache
        assert await heard(holder) == {"loading": True}
        waiting = asyncio.create_task(cache.get_or_set("k", lambda: "mine"))
        await until(lambda: services.context.caches.stats.waits)
        holder.kill()
        await holder.wait()
        killed = time.monotonic()
        assert await waiting == "mine"
        assert time.monotonic() - killed < 3.0  # the lease is one second
        assert services.context.caches.stats.loads == 1
