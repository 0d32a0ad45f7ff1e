"""What processes use: their children, and their memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["cpu_seconds", "resident_bytes", "tree"]


def tree(*pids: int) -> tuple[int, ...]:
    """Return processes and all that descend from them, each once (Linux)."""
    found = list(dict.fromkeys(pids))
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            children = map(int, task.read_text(encoding="ascii").split())
            found += [child for child in children if child not in found]
    return tuple(found)


def cpu_seconds(pids: tuple[int, ...]) -> float:
    """Return the processor time that processes used so far, user and system (Linux)."""
    ticks = 0
    for pid in pids:
        # After the name, which may hold spaces: utime and stime are the 12th and 13th.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids: tuple[int, ...]) -> int:
    """Return the resident memory of processes together; what they share counts for each."""
    total = 0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"expected the resident memory of process {pid}; there is none")
        total += int(found[1]) * 1024
    return total
