"""Usage, records a second: Fanwire beside the code it began from, and into the database.

    python -m benchmarks.bench_usage [--rounds 5] [--operations 20000]

One client process and one server, in alternating rounds, each on an empty server; 64 tasks, each
of a user of its own, or one at a time. A record of Fanwire is counted in the accounts of a user,
a workspace and an organisation, with agent and model; it is told, and kept for the database.
One of the seed's (``seed_usage.py``) is counted for the user alone; its database takes no time.

``writer``: what waits of 64 users is written into SQLite (on this machine's disk, flushed) and
into PostgreSQL (not flushed), events and sums.

Prints a table and writes benchmarks/results/usage.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import redis.asyncio as redis_py
import uvloop

from benchmarks.bench_store_append import machine, server
from benchmarks.seed_usage import SeedUsage
from channels.catalogue import Catalogue
from services.context import Context
from services.database import Database
from services.store.keys import Keys
from services.store.tcp import TcpStore
from services.usage.usage_tracker import UsageTracker
from tests.postgres import PostgresServer, find_postgres

RESULTS = Path(__file__).parent / "results" / "usage.json"
TASKS = 64


class Sample(NamedTuple):
    """One run: records a second, and how long one of them took at the median and the 99th."""

    rate: float
    p50_ms: float
    p99_ms: float


async def timed(call: Callable[[int], Awaitable[object]], tasks: int, count: int) -> Sample:
    """Call ``call(task)`` ``count`` times from ``tasks`` tasks."""
    took: list[float] = []

    async def work(task: int) -> None:
        for _ in range(count // tasks):
            started = time.perf_counter()
            await call(task)
            took.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(tasks)))
    rate = len(took) / (time.perf_counter() - started)
    took.sort()
    return Sample(rate, took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000)


@contextlib.asynccontextmanager
async def tracker(url: str, database_url: str) -> AsyncIterator[UsageTracker]:
    """Return a tracker on an empty server and a new database."""
    async with Database(database_url) as database, TcpStore(url) as store:
        await database.migrate()
        await store.execute("FLUSHALL")
        yield UsageTracker(Context(store, Keys("fw"), Catalogue(), database=database))


async def fanwire(url: str, tasks: int, count: int) -> Sample:
    """Record with Fanwire."""
    with tempfile.TemporaryDirectory() as folder:
        async with tracker(url, f"sqlite:///{folder}/usage.db") as usage:

            async def record(task: int) -> None:
                await usage.record_usage(
                    f"u{task}", "w1", 1200, 340, 0.0123, "writer", model="m-1", organisation="o1"
                )

            await asyncio.gather(*(record(task) for task in range(tasks)))  # accounts are there
            return await timed(record, tasks, count)


async def seed(url: str, tasks: int, count: int) -> Sample:
    """Record with the seed's code."""
    async with redis_py.Redis.from_url(url, max_connections=tasks) as redis:
        await redis.flushall()
        usage = SeedUsage(redis, {})

        async def record(task: int) -> None:
            await usage.record_usage(f"u{task}", "w1", 1200, 340, 0.0123, "writer")

        await asyncio.gather(*(record(task) for task in range(tasks)))
        return await timed(record, tasks, count)


async def write(url: str, database_url: str, count: int) -> float:
    """Return how many records a second are written."""
    async with tracker(url, database_url) as usage:

        async def record(task: int) -> None:
            for _ in range(count // TASKS):
                await usage.record_usage(
                    f"u{task}", "w1", 1200, 340, 0.0123, "writer", model="m-1", organisation="o1"
                )

        await asyncio.gather(*(record(task) for task in range(TASKS)))
        started = time.perf_counter()
        written = await asyncio.gather(*(usage.drain(f"u{task}") for task in range(TASKS)))
        return sum(written) / (time.perf_counter() - started)


def median(values: list[float]) -> dict[str, float]:
    """Return the median and the range."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def summary(samples: list[Sample]) -> dict[str, dict[str, float]]:
    """Return rate and latencies."""
    return {
        "records_a_second": median([sample.rate for sample in samples]),
        "p50_ms": median([sample.p50_ms for sample in samples]),
        "p99_ms": median([sample.p99_ms for sample in samples]),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Usage recorded and written, a second.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--operations", type=int, default=20_000)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pinned = len(cores) > 1
    samples: dict[str, dict[str, list[Sample]]] = {}
    written: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(server(cores[1] if pinned else None))
        postgres = PostgresServer() if find_postgres() is not None else None
        if postgres is not None:
            stack.callback(postgres.close)
        if pinned:
            os.sched_setaffinity(0, {cores[0]})
        for turn in range(options.rounds + 1):
            for tasks in (TASKS, 1):
                count = options.operations if tasks > 1 else options.operations // 10
                if not turn:
                    count = max(count // 10, tasks)  # warm up
                for name, run in (("fanwire", fanwire), ("seed", seed)):
                    # The seed takes as long for a quarter.
                    operations = count if name == "fanwire" else max(count // 4, tasks)
                    found = uvloop.run(run(url, tasks, operations))
                    if turn:
                        row = samples.setdefault(f"{tasks} task{'s' * (tasks > 1)}", {})
                        row.setdefault(name, []).append(found)
            with tempfile.TemporaryDirectory() as folder:
                rate = uvloop.run(write(url, f"sqlite:///{folder}/w.db", options.operations))
                if turn:
                    written.setdefault("sqlite", []).append(rate)
            if postgres is not None:
                rate = uvloop.run(write(url, postgres.url, options.operations))
                if turn:
                    written.setdefault("postgresql", []).append(rate)
    results: dict[str, object] = {}
    for label, systems in samples.items():
        rows = {name: summary(found) for name, found in systems.items()}
        rates = {name: row["records_a_second"]["median"] for name, row in rows.items()}
        ratio = round(rates["fanwire"] / rates["seed"], 2)
        results[f"record_usage, {label}"] = {**rows, "ratio_to_seed": ratio}
        cells = "".join(
            f"  {name} {rates[name]:9,.0f}/s {row['p50_ms']['median']:.3f} ms"
            for name, row in rows.items()
        )
        print(f"record_usage, {label:10}{cells}  x{ratio}")
    for label, values in written.items():
        results[f"writer, {label}"] = {"records_a_second": median(values)}
        print(f"writer, {label:16} {statistics.median(values):9,.0f}/s")
    report = {
        "what": "records a second; medians and ranges of alternating rounds, one client process",
        "rounds": options.rounds,
        "operations": options.operations,
        "client_and_server_on_cores_of_their_own": pinned,
        "machine": machine(),
        "results": results,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
