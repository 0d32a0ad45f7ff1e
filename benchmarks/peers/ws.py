"""``ws``, the WebSocket server of Node that most others there are built on."""

from __future__ import annotations

from . import Subscribe
from ._node import NodePackages
from ._peer import ServedPeer

__all__ = ["PEER"]

PEER = ServedPeer(
    name="ws",
    program=NodePackages("ws"),
    ws=Subscribe(path="/"),
    environment={"NODE_ENV": "production"},
)
