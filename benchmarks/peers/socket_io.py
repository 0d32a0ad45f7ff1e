"""Socket.IO on Node, over WebSocket only: an event to everybody in the namespace."""

from __future__ import annotations

from . import Subscribe
from ._node import NodePackages
from ._peer import ServedPeer

__all__ = ["PEER"]

PEER = ServedPeer(
    name="socket.io",
    program=NodePackages("socket_io"),
    # "40" connects to the default namespace; 0{...} opens Engine.IO and 40{...} answers.
    ws=Subscribe(
        path="/socket.io/?EIO=4&transport=websocket",
        hello=("40",),
        skip=2,
        ready='40{"sid"',
        ping="2",
        pong="3",
    ),
    environment={"NODE_ENV": "production"},
)
