"""``ws`` with one frame for all, past its public interface, as Socket.IO uses it."""

from __future__ import annotations

from . import Subscribe
from ._node import NodePackages
from ._peer import ServedPeer

__all__ = ["PEER"]

PEER = ServedPeer(
    name="ws-one-frame",
    program=NodePackages("ws"),
    ws=Subscribe(path="/"),
    environment={"NODE_ENV": "production", "BROADCAST": "one-frame"},
)
