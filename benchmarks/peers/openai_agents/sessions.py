"""RedisSession of the OpenAI Agents SDK, measured by ``benchmarks.bench_sessions``.

    python sessions.py URL CASE WRITERS OPERATIONS

Each writer has a session object of its own on one client, as requests of a web server have.
Prints what ``bench_sessions`` reads.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import redis.asyncio as redis_py
import uvloop
from agents.extensions.memory import RedisSession

CONTENT = "x" * 200


async def main(url: str, case: str, writers: int, operations: int) -> None:
    """Do the operations, count what is there."""
    client = redis_py.Redis.from_url(url, max_connections=writers + 4)
    await client.flushall()

    def session(number: int) -> RedisSession:
        return RedisSession(f"s{number}", redis_client=client)

    async def add(session_: RedisSession) -> None:
        await session_.add_items([{"role": "user", "content": CONTENT}])

    one = case == "add_message, one session"
    sessions = [session(0 if one else number) for number in range(writers)]
    if case == "get":
        sessions = [session(0) for _ in range(writers)]
        for _ in range(50):
            await add(sessions[0])

    async def work(session_: RedisSession) -> int:
        failed = 0
        for _ in range(operations // writers):
            try:
                await (session_.get_items() if case == "get" else add(session_))
            except Exception:  # noqa: BLE001 - whatever it is, it is counted
                failed += 1
        return failed

    started = time.perf_counter()
    failed = sum(await asyncio.gather(*map(work, sessions)))
    seconds = time.perf_counter() - started
    done = operations // writers * writers
    kept = done
    if case != "get":
        stored = [session(number) for number in range(1 if one else writers)]
        kept = sum([len(await one_.get_items()) for one_ in stored])
    print(json.dumps({"seconds": seconds, "done": done, "kept": kept, "failed": failed}))
    await client.aclose()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
