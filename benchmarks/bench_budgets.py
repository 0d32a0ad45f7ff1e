"""Budgets, calls a second: Fanwire beside the code it began from.

    python -m benchmarks.bench_budgets [--rounds 5] [--operations 20000]

One client process and one server on cores of their own, alternating rounds, each on an empty
server. Fanwire asks three budgets at once (user, workspace, organisation) and tells of each
change; the seed (``seed_budget.py``) asks one and tells nothing:

- *check*: may this user spend so much; nothing changes.
- *reserve*, *commit*, *release*: each by itself, of 64 tasks for 64 users of one organisation.
- *spend*: reserve and commit; the seed's is enforce and record.
- *granted*: 64 callers at once ask for 5 % of a budget each. There is room for 20.

Latency is of one call at a time. Prints a table and writes benchmarks/results/budgets.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import redis.asyncio as redis_py
import uvloop

from benchmarks.bench_store_append import machine, server
from benchmarks.seed_budget import SeedBudget
from channels.catalogue import Catalogue
from services.budgets.budgets import Budgets, install
from services.budgets.hold import Hold
from services.budgets.settings import BudgetRule, BudgetSettings
from services.context import Context
from services.store.keys import Keys
from services.store.tcp import TcpStore
from services.usage.usage_tracker import UsageTracker

RESULTS = Path(__file__).parent / "results" / "budgets.json"
TASKS = 64
#: More than any run spends.
PLENTY = BudgetRule(monthly_micro_usd=2**50)
LIMITED = BudgetRule(monthly_micro_usd=1_000_000)
Call = Callable[[int], Awaitable[object]]


async def rate(call: Call, operations: int, tasks: int = TASKS) -> float:
    """Return how often a second ``call(number)`` is done by ``tasks`` tasks."""

    async def work(task: int) -> None:
        for number in range(task, operations, tasks):
            await call(number)

    started = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(tasks)))
    return operations / (time.perf_counter() - started)


async def latency(call: Call, operations: int) -> dict[str, float]:
    """Return microseconds of one call at a time."""
    taken = []
    for number in range(operations):
        started = time.perf_counter()
        await call(number)
        taken.append((time.perf_counter() - started) * 1e6)
    taken.sort()
    return {"p50_us": round(taken[len(taken) // 2]), "p99_us": round(taken[len(taken) * 99 // 100])}


async def granted(asked: Awaitable[list[object]]) -> int:
    """Return how many of the callers got something."""
    return sum(not isinstance(one, Exception) for one in await asked)


def budgets_on(store: TcpStore, prefix: str, rule: BudgetRule) -> Budgets:
    """Return budgets of their own."""
    context = Context(store, Keys(prefix), Catalogue())
    settings = BudgetSettings(user=rule, workspace=PLENTY, org=PLENTY)
    return install(context, UsageTracker(context), settings)


async def fanwire(url: str, operations: int) -> dict[str, object]:
    """Measure Fanwire."""
    async with TcpStore(url) as store:
        await store.execute("FLUSHALL")
        budgets = budgets_on(store, "fw", PLENTY)

        def reserve(number: int, name: str = "h") -> Awaitable[Hold]:
            return budgets.reserve(
                f"u{number % TASKS}",
                "w1",
                organisation="acme",
                estimated_micro_usd=1000,
                hold_id=f"{name}{number}",
            )

        async def spend(number: int) -> None:
            await budgets.commit(await reserve(number, "s"), actual_micro_usd=900)

        holds: dict[int, Hold] = {}

        async def keep(number: int) -> None:
            holds[number] = await reserve(number)

        def commit(number: int) -> Awaitable[object]:
            return budgets.commit(holds[number], actual_micro_usd=900, agent="writer", model="m")

        def check(number: int) -> Awaitable[object]:
            return budgets.check_budget(f"u{number % TASKS}", "0.001")

        await rate(lambda number: spend(number - TASKS), TASKS)
        found: dict[str, object] = {
            "reserve": await rate(keep, operations),
            "commit": await rate(commit, operations),
            "spend": await rate(spend, operations // 2),
            "check": await rate(check, operations),
        }
        await rate(lambda number: reserve(number, "r"), operations)
        found["release"] = await rate(
            lambda number: budgets.release(f"u{number % TASKS}:r{number}"), operations
        )
        few = max(operations // 20, 100)
        holds.clear()
        alone: dict[str, dict[str, float]] = {
            "check": await latency(check, few),
            "reserve": await latency(lambda number: keep(number + 10**7), few),
            "commit": await latency(lambda number: commit(number + 10**7), few),
        }
        found["latency"] = alone
        limited = budgets_on(store, "limited", LIMITED)
        calls = (limited.reserve("ann", "w1", estimated_cost="0.05") for _ in range(TASKS))
        found["granted"] = await granted(asyncio.gather(*calls, return_exceptions=True))
        return found


async def seed(url: str, operations: int) -> dict[str, object]:
    """Measure the code of the document."""
    client = redis_py.Redis.from_url(url, max_connections=TASKS)
    try:
        await client.flushall()
        budget = SeedBudget(client, {f"u{number}": 1e9 for number in range(TASKS)})

        async def spend(number: int) -> None:
            user = f"u{number % TASKS}"
            await budget.enforce_budget(user, 0.001)
            await budget.record_usage(user, 0.0009)

        async def limited() -> None:
            await budget.enforce_budget("ann", 0.05)
            await budget.record_usage("ann", 0.05)

        def check(number: int) -> Awaitable[object]:
            return budget.check_budget(f"u{number % TASKS}", 0.001)

        await rate(spend, TASKS)
        found: dict[str, object] = {
            "spend": await rate(spend, operations // 2),
            "check": await rate(check, operations),
            "latency": {"check": await latency(check, max(operations // 20, 100))},
        }
        calls = asyncio.gather(*(limited() for _ in range(TASKS)), return_exceptions=True)
        found["granted"] = await granted(calls)
        return found
    finally:
        await client.aclose()


def summary(rounds: list[dict[str, object]]) -> dict[str, object]:
    """Return medians and ranges."""
    made: dict[str, object] = {}
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        if name == "latency":
            made[name] = values[len(values) // 2]
        elif name == "granted":
            made[name] = values
        else:
            rates = [float(str(value)) for value in values]
            made[name] = {
                "median": round(statistics.median(rates)),
                "min": round(min(rates)),
                "max": round(max(rates)),
            }
    return made


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Budgets a second, beside the seed.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--operations", type=int, default=20_000)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pinned = len(cores) > 1
    ours, theirs = [], []
    with server(cores[1] if pinned else None) as url:
        if pinned:
            os.sched_setaffinity(0, {cores[0]})
        for _ in range(options.rounds):
            ours.append(uvloop.run(fanwire(url, options.operations)))
            theirs.append(uvloop.run(seed(url, options.operations)))
    results = {"fanwire": summary(ours), "seed": summary(theirs)}
    for name, found in results.items():
        print(name)
        for what, value in found.items():
            print(f"  {what:10} {value}")
    report = {
        "what": "calls a second; medians and ranges of alternating rounds, one client process",
        "tasks": TASKS,
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
