"""Four processes, 64 tasks each: never one more than the limit, and not one less."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import redis.asyncio as redis_py

from benchmarks.seed_limits import SeedLimiter

ROOT = Path(__file__).resolve().parents[3]


async def _allowed(url, name, also=""):
    workers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.services.limits.limits_worker", url, name, also),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        for _ in range(4)
    ]
    try:
        for worker in workers:
            assert await worker.stdout.readline() == b"ready\n"
        for worker in workers:
            worker.stdin.write(b"go\n")
        return sum([int(await worker.stdout.readline()) for worker in workers])
    finally:
        for worker in workers:
            worker.stdin.close()
            await worker.wait()


@pytest.mark.parametrize(
    ("name", "also", "limit"),
    [("gcra", "", 300), ("sliding", "", 250), ("gcra", "sliding,wide", 250)],
)
async def test_admitted_is_the_limit(valkey, tcp_store, name, also, limit):
    """Whatever the algorithm, and whatever else is asked in the same step."""
    assert await _allowed(valkey.url, name, also) == limit
    assert await tcp_store.execute("XLEN", "fw:{ann}:log:usage:ann") >= 1


async def test_the_code_it_began_from_admits_more(valkey):
    """The same load on the seed's limiter goes over: the test can tell the difference."""
    async with redis_py.Redis.from_url(valkey.url, max_connections=64) as client:
        limiter = SeedLimiter(client)
        left = iter(range(1_000))

        async def work() -> int:
            return sum([await limiter.check_limit("ann") for _ in left])

        found = await asyncio.gather(*(work() for _ in range(64)))
    assert sum(found) > 100
