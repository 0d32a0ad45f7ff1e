"""sse-starlette on FastAPI and uvicorn, with a generator and a queue for each client."""

from __future__ import annotations

from . import Subscribe
from ._peer import ServedPeer
from ._python import PythonPackages

__all__ = ["PEER"]

PEER = ServedPeer(
    name="sse-starlette",
    program=PythonPackages(
        name="sse_starlette", shown=("sse-starlette", "fastapi", "uvicorn", "uvloop")
    ),
    sse=Subscribe(path="/sse"),
)
