"""The inspector: a Redis that answers and takes no writes makes a node unready, until it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hub.inspector import Inspector
from services.store.keys import Keys
from services.store.tcp import TcpStore
from tests.hub.serving import open_settings, served
from tests.servers import ValkeyServer


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.005)


async def test_it_looks_again_until_all_is_well(
    valkey_server: Callable[[], ValkeyServer], caplog
) -> None:
    """Told once when it begins and once when it ends; then it asks no more."""
    server = await asyncio.to_thread(valkey_server)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        async with TcpStore(server.url) as store:
            inspector = Inspector(store, Keys(), again_s=(0.001, 0.002))
            inspector.on_state(True)
            running = asyncio.create_task(inspector.run())
            await _until(lambda: inspector.trouble)
            assert "OOM" in inspector.trouble
            looked = client.info("commandstats")["cmdstat_info"]["calls"]
            await _until(lambda: client.info("commandstats")["cmdstat_info"]["calls"] > looked + 9)
            assert caplog.text.count("takes no writes") == 1
            client.config_set("maxmemory", 0)
            await _until(lambda: not inspector.trouble)
            assert inspector.health is not None
            assert inspector.health.ok
            running.cancel()
            await asyncio.wait({running})


async def test_readiness_tells(valkey_server: Callable[[], ValkeyServer]) -> None:
    """A node on such a server asks for no new clients, and says why; it comes back by itself."""
    server = await asyncio.to_thread(valkey_server)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        async with served(open_settings(server.url)) as at, at.client() as http:
            await _until(lambda: at.hub.inspector.health)
            answer = await http.get("/health/ready")
            assert answer.status_code == 503
            assert "takes no writes" in answer.json()["reasons"][0]
            client.config_set("maxmemory", 0)
            await _until(lambda: not at.hub.troubles)
            answer = await http.get("/health/ready")
            assert (answer.status_code, answer.json()["reasons"]) == (200, [])
