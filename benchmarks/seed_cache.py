"""The cache as the document that Fanwire began from has it: the baseline of ``bench_cache``.

Written anew from its text, with the same calls in the same order: what is in Redis if it is
true, else what the loader brings, kept if that is true. The client is redis-py's asyncio client
over TCP instead of an HTTP client, which can only make it faster.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio as redis_py

__all__ = ["SeedCache"]

_TTL_S = 3600


class SeedCache:
    """Get or load, and invalidate, without anything between."""

    def __init__(self, redis: redis_py.Redis) -> None:
        self._redis = redis

    async def get_or_set(self, key: str, loader: Callable[[], Awaitable[Any]]) -> Any:
        """Return what is cached, else what ``loader`` brings."""
        text = await self._redis.get(f"cache:{key}")
        cached = json.loads(text) if text else None
        if cached:
            return cached
        data = await loader()
        if data:
            await self._redis.set(f"cache:{key}", json.dumps(data), ex=_TTL_S)
        return data

    async def invalidate(self, key: str) -> None:
        """Forget a key."""
        await self._redis.delete(f"cache:{key}")
