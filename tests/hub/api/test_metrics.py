"""``/metrics``: values move with what the hub does, and only those may read who should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from websockets.asyncio.client import connect

from hub.settings import Settings
from tests.hub.event_source import listening
from tests.hub.serving import (
    API_KEY,
    Served,
    api,
    open_settings,
    served,
    strict_settings,
    token,
    wait_until_ready,
)
from tests.servers import ValkeyServer


class Scrape:
    """The samples of one answer, of the only worker."""

    def __init__(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        self._samples = [one for family in parse(answer.text) for one in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the value of one sample, its name without the ``fanwire_`` of all."""
        [value] = [
            sample.value
            for sample in self._samples
            if sample.name == f"fanwire_{name}" and sample.labels == {"worker": "0", **labels}
        ]
        return value


async def _scrape(client: httpx.AsyncClient, **headers: str) -> Scrape:
    return Scrape(await client.get("/metrics", headers=headers))


async def _subscribe(at: Served, channel: str) -> Any:
    """Return a connected, subscribed WebSocket; close it."""
    socket = await connect(f"{at.url.replace('http', 'ws')}/connection/websocket")
    for command in ('{"id":1,"connect":{}}', f'{{"id":2,"subscribe":{{"channel":"{channel}"}}}}'):
        await socket.send(command)
        assert "error" not in await socket.recv()
    return socket


async def test_values_move_as_publications_flow(valkey: ValkeyServer) -> None:
    """Every number of the way of an event is what two clients saw of it."""
    async with served(open_settings(valkey.url)) as at, at.client() as client:
        before = await _scrape(client)
        assert before("publications_total") == before("deliveries_total") == 0
        assert before("connections", transport="websocket") == 0
        async with listening(client, "a:b") as feed:
            socket = await _subscribe(at, "a:b")
            lines: list[str] = []
            for n in range(3):
                await api(at, "publish", channel="a:b", data={"n": n})
            while len(lines) < 3:
                lines += str(await socket.recv()).splitlines()
            await feed.take(3)
            during = await _scrape(client)
            await socket.close()
        assert during("publications_total") == 3
        assert during("deliveries_total") == 6
        assert during("delivered_bytes_total") == 2 * sum(len(line.encode()) for line in lines)
        assert 1 <= during("write_lag_seconds_count") <= 3
        assert during("write_lag_seconds_bucket", le="+Inf") == during("write_lag_seconds_count")
        assert 0 < during("write_lag_seconds_sum") < 1
        for transport in ("websocket", "sse"):
            assert during("connections", transport=transport) == 1
        assert (during("rooms"), during("subscriptions")) == (1, 2)
        assert during("store_ready") == during("worker_up") == 1
        assert during("build_info", version=at.hub.version) == 1
        assert during("process_cpu_seconds_total") > before("process_cpu_seconds_total")
        assert during("process_resident_memory_bytes") > 10_000_000
        assert during("process_open_fds") >= before("process_open_fds") + 2
        async with asyncio.timeout(10):
            await at.hub.registry.wait_empty()
        after = await _scrape(client)
        for transport in ("websocket", "sse"):
            assert after("connections", transport=transport) == 0
            assert after("connections_accepted_total", transport=transport) == 1


async def test_it_answers_while_redis_is_away(valkey_server: Callable[[], ValkeyServer]) -> None:
    """That is when somebody looks."""
    redis = await asyncio.to_thread(valkey_server)
    async with served(open_settings(redis.url)) as at, at.client() as client:
        assert (await _scrape(client))("store_ready") == 1
        await asyncio.to_thread(redis.stop)
        await wait_until_ready(at.hub, ready=False)
        assert (await _scrape(client))("store_ready") == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": "another"}, 401),
        ({"Authorization": "Bearer another"}, 401),
        ({"Authorization": f"Basic {API_KEY}"}, 401),
        ({"Authorization": f"Bearer {token()}"}, 401),  # whoever may connect may not look
        ({"X-API-Key": API_KEY}, 200),
        ({"Authorization": f"Bearer {API_KEY}"}, 200),
        ({"Authorization": f"ApiKey {API_KEY}"}, 200),
    ],
)
async def test_the_api_key_opens_it(
    valkey: ValkeyServer, headers: Mapping[str, str], status: int
) -> None:
    """In the header of the server API, or as Prometheus can be told to send it."""
    async with served(strict_settings(valkey.url)) as at, at.client() as client:
        answer = await client.get("/metrics", headers=headers)
        assert answer.status_code == status
        assert ("fanwire_" in answer.text) == (status == 200)


async def test_a_setting_opens_it(valkey: ValkeyServer) -> None:
    """``metrics_public`` needs no key; without it and without a key the answer says so."""
    async with (
        served(strict_settings(valkey.url, metrics_public=True)) as at,
        at.client() as client,
    ):
        assert (await _scrape(client))("worker_up") == 1
    async with served(Settings(redis_url=valkey.url, port=0)) as at, at.client() as client:
        answer = await client.get("/metrics", headers={"X-API-Key": ""})
        assert answer.status_code == 401
        assert "set api_key, or metrics_public" in answer.json()["detail"]


async def test_openmetrics_is_told_to_whom_asks_for_it(valkey: ValkeyServer) -> None:
    """As Prometheus does; nothing is kept by caches."""
    async with served(open_settings(valkey.url)) as at, at.client() as client:
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        answer = await client.get("/metrics", headers={"Accept": accept})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.headers["cache-control"] == "no-store"
        assert "fanwire_deliveries" in {family.name for family in parse_openmetrics(answer.text)}
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
