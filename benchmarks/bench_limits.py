"""Rate checks a second: Fanwire beside the code it began from and beside libraries.

    python -m benchmarks.bench_limits [--rounds 5] [--checks 50000] [--only fanwire,limits]

Everybody runs in one client process on the same server, in alternating rounds, each round on an
empty server, with limits that deny nobody. A check brings what is left and when it comes back:
of ``limits`` that is two calls, of the seed too. With three policies Fanwire decides in one step,
all or nothing; ``limits`` and ``throttled-py`` are asked for one after the other, and the seed has
no such thing. Peers have environments of their own, made at the first run.

``redis-py GET`` is a bare command, one at a time, for the latency beside it. Commands a check are
counted by the server, those inside of scripts too.

Prints a table and writes benchmarks/results/limits.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import redis
import redis.asyncio as redis_py
import uvloop

from benchmarks.bench_store_append import machine, server
from benchmarks.peers._preparation import PreparationError
from benchmarks.peers._python import PythonPackages
from benchmarks.seed_limits import SeedLimiter
from channels.catalogue import Catalogue
from services.context import Context
from services.limits.policy import Policy
from services.limits.rate_limiter import RateLimiter
from services.store.keys import Keys
from services.store.tcp import TcpStore

RESULTS = Path(__file__).parent / "results" / "limits.json"
TASKS = 64
#: Tasks, keys, policies.
CASES = [(TASKS, 1, 1), (TASKS, 100, 1), (TASKS, 1, 3), (TASKS, 100, 3), (1, 1, 1), (1, 1, 3)]
PEERS = {
    "limits": PythonPackages("limits", ("limits", "redis", "uvloop")),
    "throttled-py": PythonPackages("throttled", ("throttled-py", "redis", "uvloop")),
    "pyrate-limiter": PythonPackages("pyrate_limiter", ("pyrate-limiter", "redis", "uvloop")),
}


class Sample(NamedTuple):
    """One run: how long, how many checks, how many commands the server ran for them."""

    seconds: float
    done: int
    commands: int


Check = Callable[[str], Awaitable[object]]


async def timed(check: Check, tasks: int, checks: int, keys: int) -> float:
    """Call ``check(user)`` ``checks`` times from ``tasks`` tasks, after a warm-up."""

    async def work(task: int) -> None:
        for number in range(checks // tasks):
            await check(f"u{(task + number) % keys}")

    await work(0)
    started = time.perf_counter()
    await asyncio.gather(*map(work, range(tasks)))
    return time.perf_counter() - started


async def fanwire(url: str, tasks: int, checks: int, keys: int, policies: int) -> float:
    """Check with GCRA, a sliding window and a long GCRA; read what is left."""
    async with TcpStore(url) as store:
        declared = (
            Policy(name="a", limit=3_600_000, window_s=3_600),
            Policy(name="b", limit=10_000_000, window_s=3_600, algorithm="sliding"),
            Policy(name="c", limit=10_000_000, window_s=86_400),
        )
        limiter = RateLimiter(Context(store, Keys("fw"), Catalogue()), policies=declared)
        also = ("b", "c")[: policies - 1]

        async def check(user: str) -> None:
            result = await limiter.check_limit(user, "a", also=also)
            for state in result.policies:
                if state.remaining < 1 or state.reset_after_ms < 0:
                    raise AssertionError(state)

        return await timed(check, tasks, checks, keys)


async def seed(url: str, tasks: int, checks: int, keys: int, policies: int) -> float:
    """Check with the seed's code, and ask what is left."""
    async with redis_py.Redis.from_url(url, max_connections=tasks) as client:
        limiter = SeedLimiter(client, limit=10**9)
        kinds = ("api", "agent", "daily")[:policies]

        async def check(user: str) -> None:
            for kind in kinds:
                await limiter.check_limit(user, kind)
                await limiter.get_remaining(user, kind)

        return await timed(check, tasks, checks, keys)


async def bare(url: str, tasks: int, checks: int, keys: int, _policies: int) -> float:
    """Send GET with redis-py."""
    async with redis_py.Redis.from_url(url, max_connections=tasks) as client:
        return await timed(client.get, tasks, checks, keys)


OURS = {"fanwire": fanwire, "seed": seed, "redis-py GET": bare}


def run(url: str, name: str, tasks: int, checks: int, keys: int, policies: int) -> Sample:
    """Run a case on an empty server."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        client.config_resetstat()
        if name in OURS:
            seconds = uvloop.run(OURS[name](url, tasks, checks, keys, policies))
        else:
            numbers = map(str, (tasks, checks, keys, policies))
            command = PEERS[name].script("checks.py", url, *numbers)
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
            found = json.loads(done.stdout)
            if found["allowed"] != found["done"]:
                raise RuntimeError(f"{name} denied {found['done'] - found['allowed']} checks")
            seconds = found["seconds"]
        stats = client.info("commandstats")
    done_ = checks // tasks * tasks
    commands = sum(
        one["calls"]
        for command_, one in stats.items()
        if command_.removeprefix("cmdstat_").partition("|")[0]
        not in {"config", "info", "hello", "client", "script", "flushall", "ping", "command"}
    )
    # The warm-up was one task's share more.
    return Sample(seconds, done_, round(commands * done_ / (done_ + checks // tasks)))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Rate checks a second, beside others.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checks", type=int, default=50_000)
    parser.add_argument("--only", default="", help="names, with commas between them")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name] or [*OURS, *PEERS]
    for name in wanted:
        if name in PEERS:
            with contextlib.suppress(PreparationError):  # the report says that it is missing
                PEERS[name].prepare()
    names = [name for name in wanted if name in OURS or PEERS[name].missing() is None]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pinned = len(cores) > 1
    samples: dict[str, dict[str, list[Sample]]] = {}
    with server(cores[1] if pinned else None) as url:
        if pinned:
            os.sched_setaffinity(0, {cores[0]})
        for _ in range(options.rounds):
            for tasks, keys, policies in CASES:
                label = f"{tasks} tasks, {keys} keys, {policies} policies"
                count = options.checks if tasks > 1 else options.checks // 10
                for name in names:
                    sample = run(url, name, tasks, count, keys, policies)
                    samples.setdefault(label, {}).setdefault(name, []).append(sample)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for label, systems in samples.items():
        results[label] = {name: summary(found) for name, found in systems.items()}
        cells = "".join(
            f"  {name} {row['median']:,.0f} ({row['commands']:.1f})"
            for name, row in results[label].items()
        )
        print(f"{label:32}{cells}")
    report = {
        "what": "checks a second (commands a check); medians and ranges of alternating rounds",
        "rounds": options.rounds,
        "checks": options.checks,
        "client_and_server_on_cores_of_their_own": pinned,
        "machine": machine(),
        "versions": {name: PEERS[name].versions() for name in names if name in PEERS},
        "results": results,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def summary(samples: list[Sample]) -> dict[str, float]:
    """Return checks a second, the time of one where they come one at a time, and commands."""
    rates = [sample.done / sample.seconds for sample in samples]
    commands = sum(sample.commands for sample in samples) / sum(sample.done for sample in samples)
    return {
        "median": round(statistics.median(rates)),
        "min": round(min(rates)),
        "max": round(max(rates)),
        "commands": round(commands, 2),
    }


if __name__ == "__main__":
    main()
