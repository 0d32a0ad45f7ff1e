"""Cached values a second: Fanwire beside the code it began from and beside libraries.

    python -m benchmarks.bench_cache [--rounds 5] [--operations 200000]

Everybody runs on one client process and the same server, in alternating rounds; values are an
object of 200 bytes and a little, under 1,000 keys.

- memory: hits in the process's own memory, from one task. Only cashews (``client_side``) keeps
  one that is coherent; the others are asked over the network each time. Fanwire makes the
  object anew for each caller (*Fanwire, shared*: a frozen struct, which needs none).
- Redis: hits in Redis from 64 tasks, and from one; beside a bare GET by redis-py.
- stampede: 200 callers in each of two processes miss one key at once; the load takes 0.2 s.
  Loads, and commands on the server, those within scripts included.

Peers are in an environment of their own, made at the first run. dogpile.cache is synchronous:
one caller at a time, and threads for the stampede. Prints a table and writes
benchmarks/results/cache.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import redis
import redis.asyncio as redis_py
import uvloop

from benchmarks.bench_sessions import timed
from benchmarks.bench_store_append import machine, server
from benchmarks.peers._preparation import PreparationError
from benchmarks.peers._python import PythonPackages
from benchmarks.seed_cache import SeedCache
from services.caching.settings import CacheSettings
from services.door import Services
from services.service_settings import ServiceSettings
from services.store.tcp import TcpStore

RESULTS = Path(__file__).parent / "results" / "cache.json"
ROOT = Path(__file__).parents[1]
KEYS = 1000
VALUE = {"id": 7, "name": "ada", "tags": ["a", "b"], "text": "x" * 200}
CALLERS = 200

MEMORY, MANY, ONE = "memory, 1 task", "Redis, 64 tasks", "Redis, 1 task"
CASES = ((MEMORY, 1), (MANY, 64), (ONE, 1))
SHOWN = ("cashews", "aiocache", "fastapi-cache2", "dogpile.cache")
PEERS = PythonPackages("caches", (*SHOWN, "redis", "uvloop"))


class Value(msgspec.Struct, frozen=True):
    """The value as a struct that nobody can change."""

    id: int
    name: str
    tags: tuple[str, ...]
    text: str


async def load() -> dict[str, object]:
    """Bring the value."""
    return VALUE


def key(writer: int, number: int) -> str:
    """Return the key that a task asks for next."""
    return f"k{(writer * 31 + number * 7) % KEYS}"


async def fanwire(url: str, case: str, tasks: int, count: int, *, shape: object = None) -> float:
    """Run a case on Fanwire; return hits a second."""
    memory = case == MEMORY
    settings = CacheSettings(local_ttl_s=60.0 if memory else 0.0)
    async with Services(TcpStore(url), settings=ServiceSettings(cache=settings)) as services:
        await services.store.execute("FLUSHALL")
        cache = services.for_workspace("w1").cache
        options = {} if shape is None else {"type": shape}
        for _ in range(3):
            for number in range(KEYS):
                await cache.get_or_set(f"k{number}", load, **options)
        hits = services.context.caches.stats

        def call(writer: int, number: int) -> Awaitable[object]:
            return cache.get_or_set(key(writer, number), load, **options)

        before = hits.local_hits if memory else hits.hits
        seconds = await timed(call, tasks, count)
        after = hits.local_hits if memory else hits.hits
        done = count // tasks * tasks
        # Of equal keys at one moment one is read: the answers count.
        assert after - before >= done * 0.9, (case, after - before, done)
        return done / seconds


async def seed(url: str, _case: str, tasks: int, count: int) -> float:
    """Run a case on the seed's code."""
    async with redis_py.Redis.from_url(url, max_connections=tasks) as client:
        await client.flushall()
        cache = SeedCache(client)
        for number in range(KEYS):
            await cache.get_or_set(f"k{number}", load)
        seconds = await timed(lambda w, n: cache.get_or_set(key(w, n), load), tasks, count)
        return count // tasks * tasks / seconds


async def bare_get(url: str, _case: str, tasks: int, count: int) -> float:
    """GET by redis-py, without anything around it."""
    async with redis_py.Redis.from_url(url, max_connections=tasks) as client:
        await client.flushall()
        for number in range(KEYS):
            await client.set(f"k{number}", json.dumps(VALUE))
        seconds = await timed(lambda w, n: client.get(key(w, n)), tasks, count)
        return count // tasks * tasks / seconds


def peer(package: str, url: str, case: str, tasks: int, count: int) -> float | None:
    """Run a case in the peers' environment; None for what it does not offer."""
    kind = "memory" if case == MEMORY else "redis"
    with redis.Redis.from_url(url) as client:
        client.flushall()
    command = PEERS.script("caches.py", url, package, kind, str(tasks), str(count))
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    if not done.stdout:
        return None
    found = json.loads(done.stdout)
    return found["done"] / found["seconds"]


OURS: dict[str, Callable[..., Awaitable[float]]] = {
    "fanwire": fanwire,
    "fanwire, shared": lambda *case: fanwire(*case, shape=Value),
    "seed": seed,
    "redis-py GET": bare_get,
}


def measure(url: str, rounds: int, operations: int) -> dict[str, dict[str, list[float]]]:
    """Return hits a second by case and system."""
    samples: dict[str, dict[str, list[float]]] = {}
    packages = SHOWN if PEERS.missing() is None else ()
    for turn in range(rounds + 1):
        for case, tasks in CASES:
            for name, run in OURS.items():
                fast = name.startswith("fanwire")
                if case == MEMORY and not fast:
                    continue
                if name == "fanwire, shared" and case != MEMORY:
                    continue
                count = operations if case == MEMORY else operations // (2 if fast else 8)
                count //= 1 if tasks > 1 or case == MEMORY else 8
                rate = uvloop.run(run(url, case, tasks, count // (1 if turn else 10)))
                if turn:
                    samples.setdefault(case, {}).setdefault(name, []).append(rate)
            for name in packages if turn else ():
                if case == MEMORY and name != "cashews":
                    continue
                count = operations if case == MEMORY else operations // 16
                count //= 1 if tasks > 1 or case == MEMORY else 4
                rate_ = peer(name, url, case, tasks, count)
                if rate_ is not None:
                    samples.setdefault(case, {}).setdefault(name, []).append(rate_)
    return samples


def stampede(url: str, name: str) -> dict[str, int]:
    """Let two processes stampede; return loads and commands, the loads' own not among them."""
    if name in ("fanwire", "seed"):
        kind = "ours" if name == "fanwire" else "seed"
        module = ["-m", "tests.services.caching.cache_worker"]
        command = [sys.executable, *module, "stampede", url, str(CALLERS), kind]
    else:
        command = PEERS.script("caches.py", url, name, "stampede", str(CALLERS), "0")
    with redis.Redis.from_url(url) as client, contextlib.ExitStack() as stack:
        client.flushall()
        workers = [stack.enter_context(_started(command)) for _ in range(2)]
        for worker in workers:
            worker.stdout.readline()
        client.set("loads", 0)
        client.config_resetstat()
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            worker.stdout.readline()
        counted = client.info("commandstats")
        ours = re.compile(r"cmdstat_(config|info|client|hello|select|ping|incr|auth|cluster)")
        commands = sum(
            int(stats["calls"]) for command_, stats in counted.items() if not ours.match(command_)
        )
        return {"loads": int(client.get("loads") or 0), "commands": commands}


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def summary(rates: list[float]) -> dict[str, int]:
    """Return hits a second."""
    return {
        "median": round(statistics.median(rates)),
        "min": round(min(rates)),
        "max": round(max(rates)),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Cached values a second, beside others.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--operations", type=int, default=200_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    with contextlib.suppress(PreparationError):  # the report says that it is missing
        PEERS.prepare()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pinned = len(cores) > 1
    with server(cores[1] if pinned else None) as url:
        if pinned:
            os.sched_setaffinity(0, {cores[0]})
        samples = measure(url, options.rounds, options.operations)
        if pinned:
            os.sched_setaffinity(0, set(cores))
        names = ["fanwire", "seed", *(SHOWN if PEERS.missing() is None else ())]
        stampedes = {name: stampede(url, name) for name in names}
    results = {
        case: {name: summary(rates) for name, rates in row.items()} for case, row in samples.items()
    }
    for case, row in results.items():
        print(case)
        for name, found in row.items():
            print(f"  {name:20}{found['median']:>12,}  ({found['min']:,}-{found['max']:,})")
    print(f"stampede of {CALLERS} callers in each of two processes")
    for name, found in stampedes.items():
        print(f"  {name:20}{found['loads']:>6} loads {found['commands']:>8} commands")
    report = {
        "what": "hits a second; medians and ranges of alternating rounds, one client process",
        "time": time.strftime("%Y-%m-%d"),
        "rounds": options.rounds,
        "operations": options.operations,
        "client_and_server_on_cores_of_their_own": pinned,
        "machine": machine(),
        "versions": PEERS.versions(),
        "missing": {"peers": PEERS.missing()} if PEERS.missing() else {},
        "results": results,
        "stampede": stampedes,
    }
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
