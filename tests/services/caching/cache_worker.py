"""A process of its own that uses a cache, for tests that need several or kill one.

    python -m tests.services.caching.cache_worker stampede URL CALLERS
    python -m tests.services.caching.cache_worker readers URL MODE TASKS [BROKEN]
    python -m tests.services.caching.cache_worker holder URL

``stampede`` and ``readers`` say that they are ready and begin with the first line they read;
``readers`` end with the second one. ``MODE`` is ``strict`` (no memory), ``told`` (memory, and
the version of what is known to be invalidated), ``heard`` (memory, held against what this
process was told), or ``seed``. ``holder`` begins to load and never ends.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

import msgspec
import redis.asyncio as redis_py
import uvloop

from benchmarks.seed_cache import SeedCache
from channels.catalogue import WORKSPACE
from services.caching.envelope import Found
from services.caching.memory import Memory
from services.store.script import Script

from .cache_support import in_memory, opened


def say(report: dict[str, object]) -> None:
    """Tell the test, in one line."""
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


async def line() -> None:
    """Wait for a line."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def stampede(url: str, callers: int, kind: str) -> None:
    """Ask for one key from many tasks."""
    client = redis_py.Redis.from_url(url, max_connections=2 * callers)

    async def load() -> dict[str, int]:
        number = await client.incr("loads")
        await asyncio.sleep(0.2)
        return {"load": number}

    # Comparisons with the log are commands too, and would be counted.
    async with opened(url, compare_every_s=60.0) as services:
        cache = services.for_workspace("w1").cache
        await in_memory(cache)
        seed = SeedCache(client)
        # Connected, and scripts known.
        await cache.get_or_set(f"warm-{random.random()}", load)
        say({"ready": True})
        await line()
        if kind == "seed":
            found = await asyncio.gather(*(seed.get_or_set("k", load) for _ in range(callers)))
        else:
            found = await asyncio.gather(*(cache.get_or_set("k", load) for _ in range(callers)))
        say({"values": sorted({value["load"] for value in found}), "answers": len(found)})
    await client.aclose()


class Marks:
    """Notes which version of the source this process was told is out of date."""

    def __init__(self) -> None:
        self.floor = 0

    def on_publication(self, publication) -> None:
        """Note the mark of an invalidation."""
        for key in msgspec.json.decode(publication.data)["data"].get("keys", ()):
            if key.startswith("mark:"):
                self.floor = max(self.floor, int(key.removeprefix("mark:")))

    def on_gap(self, gap, top, top_id) -> None:
        """Nothing is claimed about what was missed."""


def break_it(how: str, cache) -> None:
    """Take one of the guards away."""
    store = cache._shared.cache_store
    if how == "lease":
        text = store._fill.text.replace("if not holds(found[1], ARGV[1]) then", "if false then")
        assert text != store._fill.text
        store._fill = Script("broken", text)
    elif how == "tags":
        text = store._fill.text.replace("kept = 0", "kept = 1")
        assert text != store._fill.text
        store._fill = Script("broken", text)
        Found.is_valid = lambda self, stamps: True
    elif how == "late":
        Memory._spoil = lambda self, key: None


async def readers(url: str, mode: str, tasks: int, broken: str = "") -> None:
    """Read until told to stop; print how often, and how often it was too old."""
    client = redis_py.Redis.from_url(url, max_connections=3 * tasks)
    chance = random.Random(mode)
    reads = old = 0

    async def load() -> dict[str, int]:
        value = int(await client.get("source") or 0)
        await asyncio.sleep(chance.choice((0, 0.001, 0.003)))
        return {"v": value}

    async with opened(url, lease_s=0.5) as services:
        cache = services.for_workspace("w1").cache
        await in_memory(cache)
        marks, seed = Marks(), SeedCache(client)
        channel = services.catalogue.find(WORKSPACE.name(workspace="w1"))
        await services.follower.tap(channel, marks)
        if broken:
            break_it(broken, cache)
        tags = ["t"]
        stopped = asyncio.Event()

        async def read() -> None:
            nonlocal reads, old
            while not stopped.is_set():
                await asyncio.sleep(chance.choice((0, 0.001, 0.002)))
                floor, version = map(int, (await client.get("done") or b"0 0").split())
                match mode:
                    case "strict":
                        value = await cache.get_or_set("k", load, tags=tags, local_ttl_s=0)
                    case "told":
                        value = await cache.get_or_set("k", load, tags=tags, at_least=version)
                    case "heard":
                        floor = marks.floor
                        value = await cache.get_or_set("k", load, tags=tags)
                    case _:
                        value = await seed.get_or_set("k", load)
                reads += 1
                old += value["v"] < floor

        say({"ready": True})
        await line()
        running = [asyncio.create_task(read()) for _ in range(tasks)]
        await line()
        stopped.set()
        await asyncio.gather(*running)
        stats = msgspec.to_builtins(services.context.caches.stats)
    say({"reads": reads, "old": old, "stats": stats})
    await client.aclose()


async def holder(url: str) -> None:
    """Begin to load and be killed."""
    async with opened(url, lease_s=1.0) as services:

        async def load() -> None:
            say({"loading": True})
            await asyncio.sleep(3600)

        await services.for_workspace("w1").cache.get_or_set("k", load, hard_timeout_s=600.0)


def main() -> None:
    """Do what the arguments say."""
    mode, url, *rest = sys.argv[1:]
    match mode:
        case "stampede":
            uvloop.run(stampede(url, int(rest[0]), rest[1]))
        case "readers":
            uvloop.run(readers(url, rest[0], int(rest[1]), *rest[2:]))
        case "holder":
            uvloop.run(holder(url))


if __name__ == "__main__":
    main()
