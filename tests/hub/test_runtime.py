"""The hub as a whole: starting without Redis, readiness, reports, the order of its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from channels.errors import UsageError
from hub.runtime import Hub
from hub.settings import Settings
from services.store.tcp import TcpStore
from tests.hub.event_source import listening
from tests.hub.serving import api, open_settings, served, wait_until_ready
from tests.servers import ValkeyServer


async def test_it_starts_without_redis_and_works_when_it_comes(
    valkey_server: Callable[[], ValkeyServer],
) -> None:
    """Readiness is red with a reason while Redis is away, and green when it is back."""
    redis = await asyncio.to_thread(valkey_server)
    await asyncio.to_thread(redis.stop)
    async with Hub(open_settings(redis.url)) as hub:
        assert len(hub.troubles) == 1
        await asyncio.to_thread(redis.start)
        await wait_until_ready(hub)
        assert hub.troubles == []
        await hub.services.events.publish("a:b", {"n": 1})
    assert hub.troubles == ["the node is shutting down"]


async def test_a_node_tells_how_it_is(valkey: ValkeyServer) -> None:
    """Reports count clients, subscriptions, publications and deliveries, and are an event."""
    async with (
        served(open_settings(valkey.url, node_report_s=0.05, node_name="one")) as at,
        at.client() as client,
        listening(client, "hub:nodes", "a:b") as source,
        listening(client, "a:b"),
    ):
        for n in range(3):
            await api(at, "publish", channel="a:b", data=n)
        report = None
        while not report or report["channels"].get("a:b", {}).get("publications") != 3:
            event = (await source.next()).json
            if event["channel"] == "hub:nodes":
                report = event["pub"]["data"]["data"]
        assert report["name"] == "one"
        assert (report["clients"], report["subscriptions"], report["rooms"]) == (2, 3, 2)
        assert report["channels"]["a:b"]["subscribers"] == 2
        assert report["deliveries"] >= 6


async def test_a_node_that_ends_is_not_listed(valkey: ValkeyServer) -> None:
    """Two nodes see each other; after one ended in order the other is alone."""
    settings = open_settings(valkey.url, node_report_s=0.05)
    async with served(settings) as one:
        async with served(settings) as two:
            await two.hub.reporter.tell()
            nodes = (await api(one, "info"))["result"]["nodes"]
            assert {node["uid"] for node in nodes} == {one.hub.node, two.hub.node}
        nodes = (await api(one, "info"))["result"]["nodes"]
        assert [node["uid"] for node in nodes] == [one.hub.node]


async def test_nothing_is_left_running(valkey: ValkeyServer) -> None:
    """After the end no task of ours is left."""
    before = asyncio.all_tasks()
    async with Hub(open_settings(valkey.url)) as hub:
        assert hub.troubles == []
    assert asyncio.all_tasks() == before


async def test_a_hub_needs_a_store() -> None:
    """Without an address the caller must bring a store: the hub starts no server by itself."""
    with pytest.raises(UsageError, match="redis_url"):
        Hub(Settings())
    assert Hub(Settings(), store=TcpStore("redis://localhost")).troubles != []
