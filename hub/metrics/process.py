"""What the process uses of the machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

__all__ = ["ProcessUse"]

_FDS = Path("/proc/self/fd")
_MEMORY = Path("/proc/self/statm")


class ProcessUse(msgspec.Struct, frozen=True):
    """CPU seconds of user and system, bytes in memory, open files; None where nobody tells."""

    cpu_s: float
    resident_bytes: int | None = None
    open_fds: int | None = None

    @classmethod
    def now(cls) -> ProcessUse:
        """Return what this process uses now."""
        try:
            pages = int(_MEMORY.read_bytes().split()[1])
            # Since Linux 6.2 the size says how many there are. To list them takes as long as
            # there are connections.
            fds = _FDS.stat().st_size or sum(1 for _ in _FDS.iterdir())
        except OSError:  # no Linux
            return cls(time.process_time())
        return cls(time.process_time(), pages * os.sysconf("SC_PAGE_SIZE"), fds)
