"""FastAPI on uvicorn with a queue for each WebSocket: what most people write first."""

from __future__ import annotations

from . import Subscribe
from ._peer import ServedPeer
from ._python import PythonPackages

__all__ = ["PEER"]

PEER = ServedPeer(
    name="fastapi-queue",
    program=PythonPackages(
        name="fastapi_queue", shown=("fastapi", "uvicorn", "uvloop", "websockets")
    ),
    ws=Subscribe(path="/ws"),
)
