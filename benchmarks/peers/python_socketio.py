"""python-socketio on uvicorn, over WebSocket only: an event to everybody in the namespace."""

from __future__ import annotations

from . import Subscribe
from ._peer import ServedPeer
from ._python import PythonPackages

__all__ = ["PEER"]

PEER = ServedPeer(
    name="python-socketio",
    program=PythonPackages(
        name="python_socketio",
        shown=("python-socketio", "python-engineio", "uvicorn", "uvloop", "websockets"),
    ),
    # "40" connects to the default namespace; 0{...} opens Engine.IO and 40{...} answers.
    ws=Subscribe(
        path="/socket.io/?EIO=4&transport=websocket",
        hello=("40",),
        skip=2,
        ready='40{"sid"',
        ping="2",
        pong="3",
    ),
)
