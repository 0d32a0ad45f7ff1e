"""Caches for Python, measured by ``benchmarks.bench_cache``.

    python caches.py URL PACKAGE CASE TASKS OPERATIONS

Prints what ``bench_cache`` reads. A stampede begins with the first line that is read.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import redis
import redis.asyncio as redis_py
import uvloop
from aiocache import RedisCache, cached_stampede
from aiocache.serializers import JsonSerializer
from cashews import cache
from dogpile.cache import make_region
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.coder import JsonCoder
from fastapi_cache.decorator import cache as fastapi_cached

KEYS = 1000
VALUE = {"id": 7, "name": "ada", "tags": ["a", "b"], "text": "x" * 200}
LOAD_S = 0.2


def report(seconds: float, done: int, **more: object) -> None:
    """Tell the benchmark."""
    print(json.dumps({"seconds": seconds, "done": done, **more}), flush=True)


async def timed(get, tasks: int, count: int) -> float:
    """Call ``get(key)`` ``count`` times from ``tasks`` tasks."""

    async def work(task: int) -> None:
        for number in range(count // tasks):
            await get(f"k{(task * 31 + number * 7) % KEYS}")

    started = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(tasks)))
    return time.perf_counter() - started


class Cashews:
    """Its memory of the process is coherent by Redis' client-side caching."""

    async def open(self, url: str, tasks: int, *, memory: bool) -> None:
        """Connect."""
        self._cache = cache
        cache.setup(url, client_side=memory, max_connections=tasks + 4)
        await cache.init()
        self.get = cache.get

    async def put(self, key: str) -> None:
        """Write a value."""
        await self._cache.set(key, VALUE, expire=3600)

    def guarded(self, load):
        """Return a call that loads once for all."""

        @self._cache(ttl=3600, key="stampede", lock=True)
        async def call():
            return await load()

        return call


class Aiocache:
    """Redis only."""

    async def open(self, url: str, tasks: int, *, memory: bool) -> None:
        """Connect."""
        port = int(url.split(":")[2].split("/", maxsplit=1)[0])
        self._options = {
            "endpoint": "127.0.0.1",
            "port": port,
            "serializer": JsonSerializer(),
            "pool_max_size": tasks + 4,
        }
        self._cache = RedisCache(**self._options)
        self.get = self._cache.get

    async def put(self, key: str) -> None:
        """Write a value."""
        await self._cache.set(key, VALUE, ttl=3600)

    def guarded(self, load):
        """Return a call that loads once for all."""

        @cached_stampede(
            lease=2, cache=RedisCache, ttl=3600, key_builder=lambda f: "stampede", **self._options
        )
        async def call():
            return await load()

        return call


class FastapiCache:
    """Redis only."""

    async def open(self, url: str, tasks: int, *, memory: bool) -> None:
        """Connect."""
        self._redis = redis_py.Redis.from_url(url, max_connections=tasks + 4)
        self._backend = RedisBackend(self._redis)
        FastAPICache.init(self._backend)

        async def get(key: str):
            return JsonCoder.decode(await self._backend.get(key))

        self.get = get
        self._encode = JsonCoder.encode

    async def put(self, key: str) -> None:
        """Write a value."""
        await self._backend.set(key, self._encode(VALUE), 3600)

    def guarded(self, load):
        """Return a call that is cached; nothing is guarded here."""

        @fastapi_cached(expire=3600, key_builder=lambda *a, **k: "stampede")
        async def call():
            return await load()

        return call


class Dogpile:
    """Synchronous; a stampede comes from threads."""

    async def open(self, url: str, tasks: int, *, memory: bool) -> None:
        """Connect."""
        self.region = make_region().configure(
            "dogpile.cache.redis",
            expiration_time=3600,
            arguments={"url": url, "distributed_lock": True, "thread_local_lock": False},
        )

        async def get(key: str):
            return self.region.get(key)

        self.get = get

    async def put(self, key: str) -> None:
        """Write a value."""
        self.region.set(key, VALUE)


PACKAGES = {
    "cashews": Cashews,
    "aiocache": Aiocache,
    "fastapi-cache2": FastapiCache,
    "dogpile.cache": Dogpile,
}


async def main(url: str, package: str, case: str, tasks: int, count: int) -> None:
    """Do a case."""
    peer = PACKAGES[package]()
    memory = case == "memory" or (case == "stampede" and package == "cashews")
    await peer.open(url, tasks, memory=memory)
    client = redis_py.Redis.from_url(url)
    if case == "stampede":
        await stampede(peer, client, tasks)
    else:
        if case == "memory" and package != "cashews":
            return
        for number in range(KEYS):
            await peer.put(f"k{number}")
        for number in range(KEYS):
            await peer.get(f"k{number}")
        report(await timed(peer.get, tasks, count), count // tasks * tasks)
    await client.aclose()


async def stampede(peer, client, callers: int) -> None:
    """Ask for one value from many callers at once."""
    loop = asyncio.get_running_loop()
    print(json.dumps({"ready": True}), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    started = time.perf_counter()
    if isinstance(peer, Dogpile):
        blocking = redis.Redis.from_url(sys.argv[1])

        def load():
            blocking.incr("loads")
            time.sleep(LOAD_S)
            return VALUE

        with ThreadPoolExecutor(callers) as threads:
            for _ in range(callers):
                threads.submit(peer.region.get_or_create, "stampede", load)
    else:

        async def load():
            await client.incr("loads")
            await asyncio.sleep(LOAD_S)
            return VALUE

        call = peer.guarded(load)
        await asyncio.gather(*(call() for _ in range(callers)), return_exceptions=True)
    report(time.perf_counter() - started, callers)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])))
