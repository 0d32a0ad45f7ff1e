"""What processes use: their children, and their memory."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["resident_bytes", "tree"]


def tree(pid: int) -> tuple[int, ...]:
    """Return a process and all that descend from it (Linux)."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, task.read_text(encoding="ascii").split())
    return tuple(found)


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
