"""What benchmarks of the whole share: a hub in a process of its own, and the machine's name."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

__all__ = ["RESULTS", "ROOT", "RunningHub", "address_in", "machine", "running_hub"]

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
_PATIENCE_S = 20


class RunningHub(NamedTuple):
    """Where a hub and its Valkey are."""

    url: str
    redis_url: str


def address_in(line: str) -> str | None:
    """Return the address that a line of output names, None where it names none."""
    found = re.search(r"http://[^\s/]+", line)
    return None if found is None else found[0]


@contextlib.contextmanager
def running_hub() -> Iterator[RunningHub]:
    """Run an insecure hub with its own Valkey on a free port, for the time of the context."""
    with tempfile.TemporaryDirectory(prefix="fw-") as directory:
        data = Path(directory) / "data"
        process = subprocess.Popen(
            [sys.executable, "-m", "hub.cli", "serve", "--insecure", "--port", "0",
             "--data-dir", str(data), "--log-level", "warning"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            url = address_in(process.stdout.readline())
            if url is None:
                raise RuntimeError(f"the hub ended with status {process.wait(_PATIENCE_S)}")
            yield RunningHub(url, (data / "redis.url").read_text(encoding="ascii").strip())
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)


def machine(*packages: str) -> dict[str, str | int]:
    """Describe the machine, without naming it, and the versions of ``packages``."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
