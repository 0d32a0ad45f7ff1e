"""``pyrate-limiter``, measured by ``benchmarks.bench_limits``: put, then count what is used.

    python checks.py URL TASKS CHECKS KEYS POLICIES

Several rates are one bucket's, and one step, but of one key. It keeps a log of every check.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import redis.asyncio as redis_py
import uvloop
from pyrate_limiter import Limiter, Rate, RedisBucket


async def main(url: str, tasks: int, checks: int, keys: int, policies: int) -> None:
    """Check, and count what was allowed."""
    client = redis_py.Redis.from_url(url, max_connections=tasks + 4)
    rates = [Rate(10_000_000 * (at + 1), 3_600_000 * (at + 1)) for at in range(policies)]
    buckets = [await RedisBucket.init(rates, client, f"b{number}") for number in range(keys)]
    limiters = [Limiter(bucket) for bucket in buckets]

    async def work(task: int) -> int:
        allowed = 0
        for number in range(checks // tasks):
            at = (task + number) % keys
            allowed += bool(await limiters[at].try_acquire_async("x", blocking=False))
            await buckets[at].count()
        return allowed

    await work(0)
    started = time.perf_counter()
    allowed = sum(await asyncio.gather(*map(work, range(tasks))))
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "done": checks // tasks * tasks, "allowed": allowed}))
    await client.aclose()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], *map(int, sys.argv[2:])))
