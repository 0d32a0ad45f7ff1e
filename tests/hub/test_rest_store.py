"""A hub whose Redis is reached over REST: it publishes and reads, and says what it lacks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import websockets

from hub.runtime import Hub
from hub.settings import Settings, load_settings
from tests.hub.serving import api, open_settings, served, wait_until_ready
from tests.rest_endpoint import Fault, RestEndpointServer
from tests.servers import ValkeyServer


def rest_settings(endpoint: RestEndpointServer) -> Settings:
    """Return settings of an open hub on ``endpoint``."""
    return open_settings(endpoint.url, redis_token=endpoint.token)


async def test_publishing_and_history_work(endpoint: RestEndpointServer) -> None:
    """The node is ready, with a warning that names what is missing and what to do."""
    async with served(rest_settings(endpoint)) as at, at.client() as client:
        for n in range(3):
            assert "result" in await api(at, "publish", channel="a:b", data={"n": n})
        history = await api(at, "history", channel="a:b", limit=10)
        assert [one["data"]["n"] for one in history["result"]["publications"]] == [0, 1, 2]
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["reasons"]) == (200, [])
        assert "clients cannot subscribe" in answer.json()["warnings"][0]
        assert "rediss://" in answer.json()["warnings"][0]
        assert (await client.get("/health/live")).status_code == 200
    assert endpoint.app.database.global_locks == 0


async def test_a_hub_over_tcp_hears_what_is_published_over_rest(
    endpoint: RestEndpointServer, valkey: ValkeyServer
) -> None:
    """One database, two ways to it: the streams are at the other node."""
    async with served(rest_settings(endpoint)) as rest, served(open_settings(valkey.url)) as tcp:
        address = tcp.url.replace("http", "ws") + "/connection/websocket"
        async with websockets.connect(address, proxy=None) as socket:
            await socket.send('{"id":1,"connect":{}}')
            await socket.send('{"id":2,"subscribe":{"channel":"a:b"}}')
            while '"id":2' not in (reply := str(await socket.recv())):
                pass
            assert '"subscribe"' in reply
            await api(rest, "publish", channel="a:b", data={"n": 1})
            while '"push"' not in (push := str(await socket.recv())):
                pass
            assert '"n":1' in push


async def test_subscribing_is_refused_with_the_reason(endpoint: RestEndpointServer) -> None:
    """For good, so that clients do not come back for it; the connection stays."""
    async with served(rest_settings(endpoint)) as at, at.client() as client:
        address = at.url.replace("http", "ws") + "/connection/websocket"
        async with websockets.connect(address, proxy=None) as socket:
            await socket.send('{"id":1,"connect":{}}')
            await socket.recv()
            await socket.send('{"id":2,"subscribe":{"channel":"a:b"}}')
            reply = json.loads(await socket.recv())
            assert (reply["id"], reply["error"]["code"]) == (2, 108)
            assert "rediss://" in reply["error"]["message"]
            await socket.send('{"id":3,"publish":{"channel":"a:b","data":{}}}')
            assert json.loads(await socket.recv()) == {"id": 3, "publish": {}}
        answer = await client.get("/events", params={"channel": "a:b"})
        assert answer.status_code == 404
        assert "rediss://" in answer.text


async def test_it_starts_without_the_database(endpoint: RestEndpointServer) -> None:
    """Readiness is red with a reason until it answers."""
    endpoint.fail(*[Fault.HTML_503] * 5)
    async with Hub(rest_settings(endpoint)) as hub:
        await wait_until_ready(hub)
        assert hub.troubles == []
    assert endpoint.app.faults == []
    endpoint.fail(*[Fault.HTML_503] * 100)
    async with Hub(rest_settings(endpoint)) as hub:
        assert "HTTP 503" in hub.troubles[0]
        assert endpoint.token not in hub.troubles[0]


async def test_it_asks_seldom_where_each_command_costs(
    endpoint: RestEndpointServer, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Reports and looks for what is due come once a minute, unless the settings say otherwise."""
    async with Hub(rest_settings(endpoint)) as hub:
        assert (hub.reporter.every_s, hub.services.context.sweeper.every_s) == (60, 60)
    async with Hub(open_settings(valkey.url)) as hub:
        assert (hub.reporter.every_s, hub.services.context.sweeper.every_s) == (2, 1)
    environ = {
        "FANWIRE_REDIS_URL": endpoint.url,
        "FANWIRE_REDIS_TOKEN": endpoint.token,
        "FANWIRE_NODE_REPORT_S": "5",
    }
    (tmp_path / "fanwire.toml").write_text("")
    async with Hub(load_settings(tmp_path / "fanwire.toml", environ, {})) as hub:
        assert hub.reporter.every_s == 5


async def test_starting_and_ending_cost_little(endpoint: RestEndpointServer) -> None:
    """What a hub spends before anybody asked for anything."""
    async with Hub(rest_settings(endpoint)) as hub:
        async with asyncio.timeout(10):
            while hub.inspector.health is None:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        assert hub.inspector.health.ok
        assert hub.inspector.health.server
    assert endpoint.app.database.billed < 40
