"""RedisChatStore of LlamaIndex, measured by ``benchmarks.bench_sessions``.

    python sessions.py URL CASE WRITERS OPERATIONS

One store for all writers. Prints what ``bench_sessions`` reads.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import redis.asyncio as redis_py
import uvloop
from llama_index.core.llms import ChatMessage
from llama_index.storage.chat_store.redis import RedisChatStore

CONTENT = "x" * 200


async def main(url: str, case: str, writers: int, operations: int) -> None:
    """Do the operations, count what is there."""
    client = redis_py.Redis.from_url(url, max_connections=writers + 4)
    await client.flushall()
    store = RedisChatStore(redis_url=url, aredis_client=client, ttl=3600)

    async def add(key: str) -> None:
        await store.async_add_message(key, ChatMessage(role="user", content=CONTENT))

    one = case == "add_message, one session"
    keys = ["s0" if one else f"s{number}" for number in range(writers)]
    if case == "get":
        keys = ["s0"] * writers
        for _ in range(50):
            await add("s0")

    async def work(key: str) -> None:
        for _ in range(operations // writers):
            await (store.aget_messages(key) if case == "get" else add(key))

    started = time.perf_counter()
    await asyncio.gather(*map(work, keys))
    seconds = time.perf_counter() - started
    done = operations // writers * writers
    kept = done
    if case != "get":
        kept = sum([len(await store.aget_messages(key)) for key in set(keys)])
    print(json.dumps({"seconds": seconds, "done": done, "kept": kept, "failed": 0}))
    await client.aclose()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
