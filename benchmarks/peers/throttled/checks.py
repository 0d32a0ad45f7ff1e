"""``throttled-py``, measured by ``benchmarks.bench_limits``: its GCRA says what is left too.

    python checks.py URL TASKS CHECKS KEYS POLICIES

Several policies are asked one after the other: it has no step for all.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop
from throttled.asyncio import Throttled, rate_limiter, store


async def main(url: str, tasks: int, checks: int, keys: int, policies: int) -> None:
    """Check, and count what was allowed."""
    redis = store.RedisStore(server=url, options={"MAX_CONNECTIONS": tasks + 4})
    limiters = [
        Throttled(
            using="gcra",
            quota=rate_limiter.per_hour(3_600_000, burst=1_000_000 + number),
            store=redis,
            key_prefix=f"p{number}",
        )
        for number in range(policies)
    ]

    async def work(task: int) -> int:
        allowed = 0
        for number in range(checks // tasks):
            key = f"u{(task + number) % keys}"
            passed = True
            for limiter in limiters:
                result = await limiter.limit(key)
                passed = passed and not result.limited and result.state.remaining >= 0
            allowed += passed
        return allowed

    await work(0)
    started = time.perf_counter()
    allowed = sum(await asyncio.gather(*map(work, range(tasks))))
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "done": checks // tasks * tasks, "allowed": allowed}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], *map(int, sys.argv[2:])))
