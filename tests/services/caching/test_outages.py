"""The cache while Redis is away: memory answers, or the loader, and nobody waits long."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import StoreError

from .cache_support import Source, in_memory, opened, until


async def test_without_redis_memory_answers_and_then_the_loader(valkey_server):
    """However old it is; once Redis is back, everything is as before."""
    server = valkey_server()
    async with opened(server.url, timeout_s=0.1, local_ttl_s=0.05) as services:
        cache, stats = services.for_workspace("w1").cache, services.context.caches.stats
        await in_memory(cache)
        source = Source("kept")
        await cache.get_or_set("k", source)
        server.stop()
        await until(lambda: not services.store.ready)
        await asyncio.sleep(0.1)  # its time in memory is over
        source.value = "new"
        assert await cache.get_or_set("k", source) == "kept"
        assert await cache.get("k") == "kept"
        assert stats.outage == 2
        # What memory does not have is loaded, once for all who ask, and stays there.
        other = Source("loaded")
        other.gate.clear()
        waiting = [asyncio.create_task(cache.get_or_set("o", other)) for _ in range(50)]
        await other.begun.wait()
        other.gate.set()
        assert await asyncio.gather(*waiting) == ["loaded"] * 50
        assert other.loads == 1
        await until(lambda: services.context.caches.shared.cache_store.breaker.rests)
        # From now on nobody waits for the deadline of a dead server.
        errors = stats.store_errors
        for number in range(100):
            source_ = Source(number)
            assert await cache.get_or_set(f"n{number}", source_) == number
            assert await cache.get_or_set(f"n{number}", source_) == number
            assert source_.loads <= 2
        assert stats.store_errors <= errors + 2
        with pytest.raises(StoreError):
            await cache.invalidate(keys="k")
        server.start()
        await until(lambda: services.store.ready)
        await until(lambda: not services.context.caches.shared.cache_store.breaker.rests)
        await in_memory(cache)
        await cache.invalidate(keys="k")
        assert await cache.get_or_set("k", source) == "new"
        # What was loaded without Redis is not taken for what Redis confirmed.
        again = Source("now")
        assert await cache.get_or_set("o", again) == "now"


async def test_what_is_loaded_in_an_outage_is_refreshed(valkey_server):
    """Behind whoever asks, and not by everybody."""
    server = valkey_server()
    settings = {"timeout_s": 0.05, "outage_refresh_s": 0.05, "breaker_s": 30.0}
    async with opened(server.url, **settings) as services:
        cache = services.for_workspace("w1").cache
        await in_memory(cache)
        source = Source("old")
        await cache.get_or_set("k", source)
        server.stop()
        await until(lambda: not services.store.ready)
        for _ in range(3):
            await cache.get_or_set("dead", lambda: 1)
        source.value = "new"
        await asyncio.sleep(0.06)
        assert await asyncio.gather(*(cache.get_or_set("k", source) for _ in range(20))) == (
            ["old"] * 20
        )
        await until(lambda: source.loads == 2)
        await asyncio.sleep(0)
        assert await cache.get_or_set("k", source) == "new"
        assert source.loads == 2


async def test_a_server_that_is_killed_costs_a_moment(valkey_server):
    """Callers are answered all the time, and never with what was invalidated before."""
    server = valkey_server()
    async with opened(server.url, timeout_s=0.1) as services:
        cache = services.for_workspace("w1").cache
        await in_memory(cache)
        source = Source(0)
        for number in range(5):
            source.value = number
            while True:
                try:
                    await cache.invalidate(keys="k")
                    break
                except StoreError:
                    await asyncio.sleep(0.05)
            assert await cache.get_or_set("k", source) == number
            server.kill()
            for _ in range(50):
                assert await cache.get_or_set("k", source) == number
        server.wait_ready()


async def test_closing_ends_loads_and_waits(valkey):
    """Nobody hangs."""
    async with opened(valkey.url) as services:
        source = Source()
        source.gate.clear()
        waiting = asyncio.create_task(services.for_workspace("w1").cache.get_or_set("k", source))
        await source.begun.wait()
    with pytest.raises(Exception, match="closed"):
        await waiting
