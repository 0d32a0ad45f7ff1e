"""Ballast: a process that only computes, and so takes half of a core from whoever shares it.

Where Redis and the load client together cannot feed a server that has a core to itself, a
server with half a core is what limits, and servers can be compared.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from .cores import pin

__all__ = ["ballast"]

#: Longer than any measurement; ends it should nobody be left to.
_SECONDS = 120
_PROGRAM = f"import time\nends = time.monotonic() + {_SECONDS}\nwhile time.monotonic() < ends: pass"


@contextlib.contextmanager
def ballast(core: int | None) -> Iterator[None]:
    """Compute on ``core`` for the time of the context."""
    with subprocess.Popen([sys.executable, "-c", _PROGRAM]) as process:
        try:
            pin(process.pid, core)
            yield
        finally:
            process.kill()
