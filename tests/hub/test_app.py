"""The application: alone with the embedded server, and inside somebody else's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
import websockets
from fastapi import FastAPI

from hub.app import create_app, include
from hub.listener import bind, url_of
from hub.settings import Settings
from tests.hub.event_source import listening
from tests.hub.serving import open_settings, served, strict_settings
from tests.servers import ValkeyServer


@asynccontextmanager
async def _plainly_served(app: FastAPI) -> AsyncIterator[str]:
    """Serve an application as its owner would, by uvicorn with its defaults."""
    listener = bind(Settings(port=0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    serving = asyncio.create_task(server.serve([listener]))
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
    url = url_of(listener)
    try:
        yield url
    finally:
        server.should_exit = True
        await serving


async def test_it_lives_inside_another_application(valkey: ValkeyServer) -> None:
    """Mounted, everything works below the path: API, feed, WebSocket; both lifespans run."""
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        order.append("begins")
        await app.state.hub.services.events.publish("a:b", "from the outer lifespan")
        yield {"theirs": 1}
        order.append("ends")

    outer = FastAPI(lifespan=lifespan)
    include(outer, open_settings(valkey.url), path="/fanwire")

    @outer.post("/work")
    async def work() -> dict[str, int]:
        position = await outer.state.hub.services.events.publish("a:b", "from a route")
        return {"offset": position.offset}

    async with _plainly_served(outer) as url:
        socket_url = url.replace("http", "ws", 1) + "/fanwire/connection/websocket"
        async with (
            httpx.AsyncClient(base_url=f"{url}/fanwire") as client,
            listening(client, "a:b") as source,
            websockets.connect(socket_url, origin=url) as ws,  # type: ignore[arg-type]  # a NewType
        ):
            await ws.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a:b"}}')
            replies = ""
            while '"id":2' not in replies:
                replies += str(await ws.recv())
            answer = await client.post(f"{url}/work")
            assert answer.json() == {"offset": 2}
            assert (await source.next()).json["pub"]["data"] == "from a route"
            push = json.loads(await ws.recv())
            assert push["push"]["pub"]["data"] == "from a route"
            answer = await client.post("/api/history", json={"channel": "a:b", "limit": 5})
            assert len(answer.json()["result"]["publications"]) == 2
            assert (await client.get("/health/ready")).status_code == 200
            assert (await client.get("/openapi.json")).status_code == 200
            assert (await client.get(f"{url}/api/info")).status_code == 404
    assert order == ["begins", "ends"]


async def test_a_mounted_feed_ends_with_its_server(valkey: ValkeyServer) -> None:
    """Under plain uvicorn an open feed does not hold the shutdown up for long."""
    outer = FastAPI()
    include(outer, open_settings(valkey.url))
    async with httpx.AsyncClient() as client:
        async with _plainly_served(outer) as url:
            request = client.build_request("GET", f"{url}/fanwire/events?channel=a:b")
            response = await client.send(request, stream=True)
        text = await response.aread()
    assert b'"code":3001' in text


async def test_it_starts_a_server_of_its_own(tmp_path: Path) -> None:
    """Without a Redis the lifespan runs the embedded Valkey, and keeps its data."""
    settings = Settings(port=0, insecure=True, data_dir=str(tmp_path / "data"))
    for offset in (1, 2):
        async with served(settings) as at:
            position = await at.hub.services.events.publish("a:b", offset)
            assert position.offset == offset


async def test_errors_of_any_route_are_problems(valkey: ValkeyServer) -> None:
    """What is not there, and what broke, is told as a problem, without details of the inside."""
    app = create_app(strict_settings(valkey.url))

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("canary")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        missing = await client.get("/nothing/here")
        failed = await client.get("/broken")
    for answer, status in ((missing, 404), (failed, 500)):
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "canary" not in answer.text


async def test_the_lifespan_may_begin_again(valkey: ValkeyServer) -> None:
    """The second hub of one application has routes of its own; the application keeps its."""
    app = create_app(open_settings(valkey.url))

    @app.get("/own")
    async def own() -> str:
        return "theirs"

    nodes = set()
    transport = httpx.ASGITransport(app)
    for _ in range(2):
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            nodes.add((await client.get("/health/ready")).json()["node"])
            assert (await client.get("/openapi.json")).status_code == 200
            assert (await client.get("/own")).json() == "theirs"
    assert len(nodes) == 2
