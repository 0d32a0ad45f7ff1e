"""From ``git clone`` to the first event on the page: seconds, step by step.

Clones this repository into an empty directory, lets ``make`` build the environment, starts
``make run``, and reads what the page reads: the reports of the hub's nodes, then the first
event of a channel that they name. The commit is measured, not what is uncommitted.

    python -m benchmarks.bench_first_event

Prints a table and writes benchmarks/results/first_event.json.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx
import msgspec

from .hub_process import RESULTS, ROOT, address_in, machine

_PATIENCE_S = 60


class _Report(msgspec.Struct):
    channels: dict[str, object]


class _Event(msgspec.Struct):
    data: _Report


class _Pub(msgspec.Struct):
    data: _Event


class _Push(msgspec.Struct):
    pub: _Pub


class Stopwatch:
    """Seconds of each step, from the end of the one before."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, step: str) -> None:
        """End a step."""
        now = time.monotonic()
        self.steps[step] = round(now - self._last, 2)
        self._last = now


def _environment() -> dict[str, str]:
    """Return an environment as a visitor has it: no packages of this run, no settings."""
    ours = ("FANWIRE_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _data_lines(url: str, channels: list[str]) -> Iterator[bytes]:
    """Yield what a feed of these channels sends, asked for as the page does."""
    query = urlencode([("channel", channel) for channel in channels] + [("recent", "20")])
    with httpx.stream("GET", f"{url}/events?{query}", timeout=_PATIENCE_S) as response:
        for line in response.iter_lines():
            if line.startswith('data: {"channel"'):
                yield line.removeprefix("data: ").encode()


def _wait_for_first_event(url: str) -> None:
    for line in _data_lines(url, ["hub:nodes"]):
        named = msgspec.json.decode(line, type=_Push).pub.data.data.channels
        if channels := [name for name in named if name != "hub:nodes"][:20]:
            next(_data_lines(url, channels))
            return


def measure(directory: Path) -> dict[str, float]:
    """Go through the steps in ``directory``; return the seconds of each."""
    environment, clone = _environment(), directory / "fanwire"
    # The interpreter of this run makes the environment, outside any environment of its own.
    python = f"PYTHON={Path(sys.base_prefix) / 'bin' / 'python3'}"
    watch = Stopwatch()
    subprocess.run(
        ["git", "clone", "--quiet", "--no-local", str(ROOT), str(clone)],
        check=True, env=environment,
    )  # fmt: skip
    watch.lap("git clone")
    subprocess.run(
        ["make", "--silent", ".venv/.ready", python], cwd=clone, check=True, env=environment,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    watch.lap("environment: packages downloaded and installed")
    run = subprocess.Popen(
        ["make", "--silent", "run", python, f"ARGS=--port {_free_port()}"],
        cwd=clone, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert run.stdout is not None
        url = None
        while url is None:
            line = run.stdout.readline()
            if not line:
                raise RuntimeError(f"make run ended with status {run.wait(_PATIENCE_S)}")
            url = address_in(line)
        watch.lap("make run until its address is printed")
        _wait_for_first_event(url)
        watch.lap("first event on the page's feed")
    finally:
        os.killpg(run.pid, signal.SIGINT)
        run.wait(_PATIENCE_S)
    return watch.steps


def main() -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory(prefix="fw-") as directory:
        steps = measure(Path(directory))
    packages = next(step for step in steps if step.startswith("environment"))
    total = round(sum(steps.values()), 2)
    without = round(total - steps[packages], 2)
    for step, seconds in {**steps, "total": total, "total without packages": without}.items():
        print(f"{step:>50} {seconds:>8.2f} s")
    report = {
        "what": "seconds from git clone to the first event, one run",
        "machine": machine(),
        "steps": steps,
        "total": total,
        "total_without_packages": without,
    }
    path = RESULTS / "first_event.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
