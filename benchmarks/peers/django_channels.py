"""Django Channels with its layer in memory, on uvicorn: a consumer in one group."""

from __future__ import annotations

from . import Subscribe
from ._peer import ServedPeer
from ._python import PythonPackages

__all__ = ["PEER"]

PEER = ServedPeer(
    name="Django Channels",
    program=PythonPackages(
        name="django_channels", shown=("channels", "Django", "uvicorn", "uvloop", "websockets")
    ),
    ws=Subscribe(path="/ws"),
    environment={"DJANGO_SETTINGS_MODULE": "settings"},
)
