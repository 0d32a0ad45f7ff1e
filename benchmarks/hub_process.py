"""What benchmarks of the whole share: a hub in a process of its own, and the machine's name."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

__all__ = ["RESULTS", "ROOT", "RunningHub", "address_in", "machine", "running_hub"]

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
_PATIENCE_S = 20


class RunningHub(NamedTuple):
    """Where a hub and its Valkey are, and the hub's process."""

    url: str
    redis_url: str
    pid: int


def address_in(line: str) -> str | None:
    """Return the address that a line of output names, None where it names none."""
    found = re.search(r"http://[^\s/]+", line)
    return None if found is None else found[0]


@contextlib.contextmanager
def running_hub(
    *,
    port: int = 0,
    redis_url: str | None = None,
    settings: Mapping[str, str] | None = None,
    core: int | None = None,
    module: str = "hub.cli",
) -> Iterator[RunningHub]:
    """Run a hub for the time of the context, on a free port unless one is named.

    It is insecure and has its own Valkey, unless ``settings`` (``FANWIRE_*``) and
    ``redis_url`` say otherwise. With ``core`` it has that one only. ``module`` is what is run.

    Raises:
        RuntimeError: it ended before it accepted connections.
    """
    with tempfile.TemporaryDirectory(prefix="fw-") as directory:
        data = Path(directory) / "data"
        environment = {
            **os.environ,
            "FANWIRE_PORT": str(port),
            "FANWIRE_DATA_DIR": str(data),
            "FANWIRE_LOG_LEVEL": "warning",
            "FANWIRE_INSECURE": "true",
            **({} if redis_url is None else {"FANWIRE_REDIS_URL": redis_url}),
            **(settings or {}),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", module, "serve"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            assert process.stdout is not None
            url = address_in(process.stdout.readline())
            if url is None:
                raise RuntimeError(f"the hub ended with status {process.wait(_PATIENCE_S)}")
            if redis_url is None:
                redis_url = (data / "redis.url").read_text(encoding="ascii").strip()
            yield RunningHub(url, redis_url, process.pid)
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
