"""Redis away: what each policy says happens, within its deadline and not for each request anew."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import RateLimited
from services.limits.refusal import ReducedCapacity
from services.store.tcp import TcpStore, TcpStoreOptions

from ...faults import FaultProxy
from .support import make, policy, take

OPEN = policy("open", 3, 3600, deadline_ms=100)
CLOSED = policy("closed", 3, 3600, deadline_ms=100, fail="closed")
SLOTS = policy("slots", 2, 60, algorithm="slots", deadline_ms=100)


@pytest.fixture
async def proxied(valkey, tcp_store, unused_tcp_port):
    """A store behind a proxy, and the proxy; both are patient but for what checks say."""
    await tcp_store.execute("CONFIG", "SET", "port", unused_tcp_port)
    try:
        async with FaultProxy(unused_tcp_port) as proxy:
            options = TcpStoreOptions(backoff_s=(0.001, 0.05), silence_s=30, timeout_s=30)
            login = valkey.url.partition("://")[2].partition("@")[0]
            url = proxy.url.replace("://", f"://{login}@")
            async with TcpStore(url, options) as store:
                yield store, proxy
    finally:
        await tcp_store.execute("CONFIG", "SET", "port", 0)


async def test_a_killed_server(valkey_server):
    """Open policies allow what this process guards, closed ones nothing; then all is as before."""
    server = valkey_server()
    async with TcpStore(server.url, TcpStoreOptions(backoff_s=(0.001, 0.05))) as store:
        limiter, _ = make(store, OPEN, CLOSED, SLOTS)
        assert await take(limiter, 1, name="open", also=("closed",)) == 1
        server.stop()
        loop = asyncio.get_running_loop()
        started = loop.time()
        result = await limiter.check_limit("ann", "open")
        assert loop.time() - started < 1  # 0.1, and what a busy machine adds
        assert (bool(result), result.degraded, result.source) == (True, True, "local")
        # Guarded by the process: three an hour, also now.
        assert await take(limiter, 9, name="open") == 2
        denied = await limiter.check_limit("ann", "closed")
        assert (bool(denied), denied.degraded) == (False, True)
        with pytest.raises(ReducedCapacity) as told:
            await limiter.enforce_limit("ann", "open", also=("closed",))
        assert told.value.http_status == 503
        assert told.value.headers["Retry-After"] == "1"
        assert isinstance(told.value, RateLimited)
        lease = await limiter.acquire_slot("ann")
        assert lease
        assert lease.degraded
        assert (await limiter.get_remaining("ann", "open"))["remaining"] == 0
        server.start()
        async with asyncio.timeout(20):
            # The breaker asks again by itself, at times of its own.
            while (await limiter.check_limit("ann", "closed")).degraded:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not limiter.degraded


async def test_a_silent_server_costs_few_its_deadline(proxied):
    """After three deadlines the breaker answers; later one at a time finds out."""
    store, proxy = proxied
    limiter, _ = make(store, OPEN)
    await limiter.check_limit("bob", "open")
    proxy.blackhole = True
    for number in range(200):
        result = await limiter.check_limit(f"u{number}", "open")
        assert result.degraded
    assert limiter.stats.outages == 1
    assert limiter.stats.failures < 20
    assert limiter.stats.degraded == 200


async def test_a_lost_reply_is_not_asked_again(proxied):
    """It may have been counted: at worst one unit is missing, never one too many allowed."""
    store, proxy = proxied
    limiter, _ = make(store, OPEN)
    await limiter.check_limit("bob", "open")
    proxy.drop_replies = True
    assert (await limiter.check_limit("ann", "open")).degraded
    proxy.drop_replies = False
    proxy.cut()
    async with asyncio.timeout(20):
        while (await limiter.check_limit("bob", "open")).degraded:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    left = await limiter.get_remaining("ann", "open")
    assert left["remaining"] in (2, 3)
