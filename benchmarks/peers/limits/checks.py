"""``limits``, measured by ``benchmarks.bench_limits``: hit, then what is left.

    python checks.py URL TASKS CHECKS KEYS POLICIES

Its sliding window counter, by redis-py (its fastest here). Several policies are asked one after
the other: it has no step for all. Prints what ``bench_limits`` reads.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop
from limits import RateLimitItemPerHour
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter


async def main(url: str, tasks: int, checks: int, keys: int, policies: int) -> None:
    """Check, and count what was allowed."""
    storage = RedisStorage(f"async+{url}", implementation="redispy", max_connections=tasks + 4)
    limiter = SlidingWindowCounterRateLimiter(storage)
    items = [RateLimitItemPerHour(10_000_000 + number) for number in range(policies)]

    async def work(task: int) -> int:
        allowed = 0
        for number in range(checks // tasks):
            key = f"u{(task + number) % keys}"
            passed = True
            for item in items:
                passed = await limiter.hit(item, key) and passed
                await limiter.get_window_stats(item, key)
            allowed += passed
        return allowed

    await work(0)
    started = time.perf_counter()
    allowed = sum(await asyncio.gather(*map(work, range(tasks))))
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "done": checks // tasks * tasks, "allowed": allowed}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], *map(int, sys.argv[2:])))
