"""Whether Redis is fit for work: told, not raised."""

from __future__ import annotations

from services.redis_health import verify_redis_connection
from services.store.tcp import TcpStore
from services.store.upstash import UpstashStore
from tests.rest_endpoint import Fault

from .conftest import QUICK, QUICK_REST


async def test_a_healthy_server(any_store, keys):
    """It answers, took a write, and says what it is; the key ends by itself."""
    health = await verify_redis_connection(any_store, keys)
    assert health.ok, health.trouble
    assert health.trouble == ""
    assert health.latency_ms is not None
    assert health.latency_ms > 0
    assert health.server.startswith(("Valkey ", "Redis "))
    (key,) = await any_store.execute("KEYS", "*")
    assert key.startswith(b"fw:{hub}:check:")
    assert 0 < await any_store.execute("PTTL", key) <= 10_000


async def test_nobody_there():
    """Its trouble says so."""
    store = TcpStore("redis://127.0.0.1:1/0", QUICK)
    await store.open(wait=False)
    health = await verify_redis_connection(store, timeout_s=0.05)
    await store.close()
    assert not health.ok
    assert "127.0.0.1" in health.trouble
    assert health.latency_ms is None


async def test_no_usable_answer(endpoint):
    """A page of HTML is no health."""
    async with UpstashStore(endpoint.url, endpoint.token, QUICK_REST) as store:
        endpoint.fail(Fault.HTML_200)
        health = await verify_redis_connection(store)
        assert not health.ok
        assert "expected JSON" in health.trouble


async def test_a_server_without_memory(valkey_server):
    """Answers, and takes no writes."""
    server = valkey_server()
    with server.client() as client:
        client.config_set("maxmemory", 1)
    async with TcpStore(server.url, QUICK) as store:
        health = await verify_redis_connection(store)
        assert not health.ok
        assert "takes no writes: OOM" in health.trouble
        with server.client() as client:
            client.config_set("maxmemory", 0)
        assert (await verify_redis_connection(store)).ok


async def test_an_evicting_server_is_a_warning(valkey_server):
    """It works, and may forget what it was given."""
    server = valkey_server()
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    async with TcpStore(server.url, QUICK) as store:
        health = await verify_redis_connection(store)
    assert health.ok
    assert [finding.setting for finding in health.findings] == ["maxmemory-policy"]
