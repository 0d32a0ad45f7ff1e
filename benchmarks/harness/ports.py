"""Free ports and servers that answer on them."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import closing

__all__ = ["free_port", "wait_for_port"]

_PATIENCE_S = 20
_PAUSE_S = 0.01


def free_port() -> int:
    """Return a port of loopback that nobody listened on a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when somebody accepts connections on ``port``.

    Raises:
        RuntimeError: ``process``, which should, ended, or does not within 20 s.
    """
    ends_at = time.monotonic() + _PATIENCE_S
    while time.monotonic() < ends_at:
        if (status := process.poll()) is not None:
            raise RuntimeError(f"{process.args!r} ended with status {status}")
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(_PAUSE_S)
    raise RuntimeError(f"expected {process.args!r} to listen on port {port} within {_PATIENCE_S} s")
