"""python-socketio; what is posted to /publish is emitted to the whole namespace."""

from __future__ import annotations

import json

import socketio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])


async def publish(request: Request) -> Response:
    """Emit the body as an event."""
    await server.emit("message", json.loads(await request.body()))
    return Response(status_code=204)


app = socketio.ASGIApp(server, Starlette(routes=[Route("/publish", publish, methods=["POST"])]))
