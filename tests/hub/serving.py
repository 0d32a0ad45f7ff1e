"""A hub on a real socket, served by a real uvicorn in the test's own event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import jwt

from hub.listener import bind, url_of
from hub.runtime import Hub
from hub.server import HubServer, build_server
from hub.settings import Settings
from services.store.port import Store

__all__ = [
    "API_KEY",
    "SECRET",
    "Served",
    "api",
    "open_settings",
    "served",
    "strict_settings",
    "token",
    "wait_until_ready",
]

SECRET = "a secret of at least thirty-two bytes"
API_KEY = "an-api-key"


class Served(NamedTuple):
    """A running hub, and where it is."""

    url: str
    hub: Hub
    server: HubServer

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return an HTTP client of it; close it."""
        return httpx.AsyncClient(base_url=self.url, timeout=10, **options)


def open_settings(redis_url: str, **changes: Any) -> Settings:
    """Return settings of an insecure hub: everybody may do everything."""
    return Settings(redis_url=redis_url, port=0, insecure=True, **changes)


def strict_settings(redis_url: str, **changes: Any) -> Settings:
    """Return settings of a hub that wants tokens and a key."""
    return Settings(
        redis_url=redis_url, port=0, api_key=API_KEY, token_hmac_secret=SECRET, **changes
    )


def token(user: str = "ann", *, ttl_s: float = 60, secret: str = SECRET, **claims: Any) -> str:
    """Return a connection token."""
    payload = {"sub": user, "exp": int(time.time() + ttl_s), **claims}
    return jwt.encode(payload, secret, algorithm="HS256")


@asynccontextmanager
async def served(settings: Settings, store: Store | None = None) -> AsyncIterator[Served]:
    """Serve a hub as ``fanwire serve`` does; ready for connections when entered."""
    listener = bind(settings)
    ready = asyncio.Event()
    server = build_server(settings, ready.set, store=store)
    serving = asyncio.create_task(server.serve([listener]))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.is_set():
        waiting.cancel()
        await serving
    url = url_of(listener)
    hub: Hub = server.app.state.hub
    try:
        await wait_until_ready(hub)
        yield Served(url, hub, server)
    finally:
        server.should_exit = True
        await serving


async def wait_until_ready(hub: Hub, *, ready: bool = True) -> None:
    """Return when the hub reached Redis, or lost it."""
    store = hub.services.store
    changed = asyncio.Event()
    store.on_state(lambda _ready: changed.set())
    async with asyncio.timeout(10):
        while store.ready is not ready:
            await changed.wait()
            changed.clear()


async def api(at: Served, method: str, **body: Any) -> Any:
    """Call the server API with the key of :func:`strict_settings`; return the answer's JSON."""
    async with at.client() as client:
        answer = await client.post(f"/api/{method}", json=body, headers={"X-API-Key": API_KEY})
        return answer.json()
