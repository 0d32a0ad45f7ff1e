"""The ASGI application: a hub and its routes.

Alone, ``create_app(settings)`` is all there is; its lifespan owns the hub. Inside somebody's
own application a mounted one gets no lifespan from Starlette, so there it is included::

    app = FastAPI()
    include(app, load_settings(None, os.environ, {}), path="/fanwire")

which mounts it and lets the outer application's lifespan own the hub. Once the lifespan has
begun, the hub is at ``app.state.hub`` (of the outer application too, for its own code:
``app.state.hub.services.events.publish(...)``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route, WebSocketRoute

from channels.errors import FanwireError
from hub.api.health import health_router
from hub.api.metrics import metrics_router
from hub.api.openapi import complete_openapi
from hub.api.rest.router import rest_router
from hub.api.server_api import server_api_router
from hub.api.ticket import ticket_router
from hub.doors import DoorsMiddleware
from hub.metrics.siblings import ALONE, Siblings, Slot
from hub.metrics.snapshot import Snapshot
from hub.origin import OriginMiddleware, OriginPolicy
from hub.pages import page_routes
from hub.problem import problem_handlers
from hub.runtime import Hub
from hub.settings import Settings
from hub.transports.sse import EventsEndpoint
from hub.transports.websocket import WebSocketEndpoint
from hub.version import version
from services.store.embedded import EmbeddedServer
from services.store.port import Store

__all__ = ["create_app", "include"]


def create_app(
    settings: Settings,
    *,
    store: Store | None = None,
    slot: Slot = ALONE,
) -> FastAPI:
    """Return the application; nothing is connected or started before its lifespan begins.

    Without ``settings.redis_url`` (and without a ``store``) the lifespan starts the embedded
    server too, and raises as it does. With several processes start one beforehand instead,
    and give its URL to all (``server.py`` does), and each its ``slot``.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            ours = settings
            if settings.redis_url is None and store is None:
                ours = await _with_embedded_server(settings, stack)
            hub = await stack.enter_async_context(Hub(ours, store=store))
            siblings = Siblings(slot, partial(Snapshot.of, hub))
            await stack.enter_async_context(siblings)
            stack.enter_context(_routes_of(hub, siblings, app))
            app.state.hub = hub
            yield

    app = FastAPI(
        title="Fanwire",
        version=version(),
        description="An event-driven pub/sub hub on Redis that streams to browsers.",
        lifespan=lifespan,
        # Their pages load scripts from a CDN.
        docs_url=None,
        redoc_url=None,
        exception_handlers=problem_handlers(),
    )
    # Inside of the check of origins, so that a page may read why it was refused.
    app.add_middleware(DoorsMiddleware, settings=settings.limits)
    app.add_middleware(OriginMiddleware, policy=OriginPolicy.of(settings))
    app.openapi = _openapi_of(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def include(app: FastAPI, settings: Settings, *, path: str = "/fanwire") -> FastAPI:
    """Mount a hub at ``path`` of an application, and have its lifespan run the hub too.

    The hub starts before the application's own lifespan and ends after it, so that code
    there may use ``app.state.hub``. Errors of ours that its routes raise are answered as
    problems, unless it says otherwise. Call it before the application starts. Returns the
    mounted application.
    """
    ours = create_app(settings)
    # For who uses our dependencies (``login.py``); what the application says itself holds.
    app.exception_handlers.setdefault(FanwireError, problem_handlers()[FanwireError])
    theirs = app.router.lifespan_context

    @asynccontextmanager
    async def both(outer: FastAPI) -> AsyncIterator[Any]:
        async with ours.router.lifespan_context(ours):
            outer.state.hub = ours.state.hub
            async with theirs(outer) as state:
                yield state

    app.router.lifespan_context = both
    app.mount(path, ours)
    return ours


async def _with_embedded_server(settings: Settings, stack: AsyncExitStack) -> Settings:
    """Start a server that ends with ``stack``; return the settings that name it."""
    server = EmbeddedServer(Path(settings.data_dir))
    await asyncio.to_thread(server.start)
    stack.push_async_callback(asyncio.to_thread, server.stop)
    return settings.with_embedded_server(server.url)


@contextmanager
def _routes_of(hub: Hub, siblings: Siblings, app: FastAPI) -> Iterator[None]:
    """Give the application the hub's routes, behind its own, for as long as the hub lives.

    They come so late because they need the hub; a lifespan may begin again with another.
    """
    before = list(app.router.routes)
    app.openapi_schema = None
    # Routes are tried in order, and it is these that thousands ask for at once.
    app.router.routes += [
        WebSocketRoute("/connection/websocket", WebSocketEndpoint(hub)),
        Route("/events", EventsEndpoint(hub), methods=["GET"]),
    ]
    app.include_router(server_api_router(hub))
    app.include_router(rest_router(hub))
    app.include_router(ticket_router(hub))
    app.include_router(health_router(hub))
    app.include_router(metrics_router(hub, siblings))
    app.router.routes += page_routes()
    try:
        yield
    finally:
        app.router.routes[:] = before


def _openapi_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete_openapi(plain())
        return app.openapi_schema

    return openapi
