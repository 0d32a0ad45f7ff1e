"""Django Channels with its layer in memory, on uvicorn: consumers in one group.

Its makers mean that layer for development: each receipt looks through the queues of all
consumers, so its cost grows with the square of their number.
"""

from __future__ import annotations

from . import Subscribe
from ._peer import ServedPeer
from ._python import PythonPackages

__all__ = ["PEER"]

PEER = ServedPeer(
    name="django-channels-memory",
    program=PythonPackages(
        name="django_channels", shown=("channels", "Django", "uvicorn", "uvloop", "websockets")
    ),
    ws=Subscribe(path="/ws"),
    environment={"DJANGO_SETTINGS_MODULE": "settings"},
)
