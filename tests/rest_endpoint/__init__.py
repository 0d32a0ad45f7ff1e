"""An Upstash REST endpoint in front of a real Valkey: the API as documented, for tests.

``serving.py`` runs it; ``app.py`` is the API, ``backend.py`` the way to the server,
``scripts.py`` what Upstash does with Lua, ``faults.py`` what networks do.
"""

from .faults import Fault
from .serving import RestEndpointServer

__all__ = ["Fault", "RestEndpointServer"]
