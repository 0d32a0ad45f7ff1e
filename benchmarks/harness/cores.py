"""Which core does what: the server has one to itself, everything else shares the other."""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["Cores", "choose_cores", "pin"]


class Cores(NamedTuple):
    """The server's core and that of the load client and Redis; None where there is one only."""

    server: int | None
    client: int | None


def choose_cores() -> Cores:
    """Return two cores that this process may use."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return Cores(allowed[0], allowed[1]) if len(allowed) > 1 else Cores(None, None)


def pin(pid: int, core: int | None) -> None:
    """Let a process run on ``core`` only, and what it starts from now on; None changes nothing."""
    if core is not None:
        os.sched_setaffinity(pid, {core})
