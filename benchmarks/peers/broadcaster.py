"""encode/broadcaster with its backend in memory, on Starlette and uvicorn."""

from __future__ import annotations

from . import Subscribe
from ._peer import ServedPeer
from ._python import PythonPackages

__all__ = ["PEER"]

PEER = ServedPeer(
    name="broadcaster",
    program=PythonPackages(
        name="broadcaster", shown=("broadcaster", "starlette", "uvicorn", "uvloop", "websockets")
    ),
    ws=Subscribe(path="/ws"),
)
