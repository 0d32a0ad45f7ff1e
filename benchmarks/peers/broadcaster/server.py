"""encode/broadcaster in memory; what is posted to /publish goes to every WebSocket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from broadcaster import Broadcast
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

CHANNEL = "bench"
broadcast = Broadcast("memory://")


async def subscribe(websocket: WebSocket) -> None:
    """Send everything that is published from now on."""
    async with broadcast.subscribe(CHANNEL) as subscriber:
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            async for event in subscriber:
                await websocket.send_text(event.message)


async def publish(request: Request) -> Response:
    """Publish the body."""
    await broadcast.publish(CHANNEL, (await request.body()).decode())
    return Response(status_code=204)


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Keep the broadcast connected while the application runs."""
    async with broadcast:
        yield


app = Starlette(
    routes=[WebSocketRoute("/ws", subscribe), Route("/publish", publish, methods=["POST"])],
    lifespan=lifespan,
)
