"""Rate limits as the document that Fanwire began from has them: a baseline of ``bench_limits``.

Written anew from its text, with the same commands in the same order: read the counter, compare,
increment, and give it an end if it had been nothing. The client is redis-py's asyncio client over
TCP instead of an HTTP client, which can only make it faster.
"""

from __future__ import annotations

import redis.asyncio as redis_py

__all__ = ["SeedLimiter"]

_LIMITS = {"api": (100, 60), "agent": (20, 60), "daily": (1000, 86400)}


class SeedLimiter:
    """Check and look, with nothing between read and write."""

    def __init__(self, redis: redis_py.Redis, *, limit: int | None = None) -> None:
        """Make it; ``limit`` stands for that of every type, so that a benchmark is not denied."""
        self._redis = redis
        self._limit = limit

    async def check_limit(
        self, user_id: str, limit_type: str = "api", endpoint: str = "default"
    ) -> bool:
        """Take one, if the counter says that there is one."""
        limit, window_s = _LIMITS.get(limit_type, _LIMITS["api"])
        key = _key(user_id, limit_type, endpoint)
        count = await self._redis.get(key)
        number = int(count) if count else 0
        if number >= (self._limit or limit):
            return False
        await self._redis.incr(key)
        if number == 0:
            await self._redis.expire(key, window_s)
        return True

    async def get_remaining(
        self, user_id: str, limit_type: str = "api", endpoint: str = "default"
    ) -> dict[str, int]:
        """Say what is left, and when the counter ends."""
        limit, _ = _LIMITS.get(limit_type, _LIMITS["api"])
        key = _key(user_id, limit_type, endpoint)
        count = await self._redis.get(key)
        number = int(count) if count else 0
        ttl = await self._redis.ttl(key)
        return {
            "limit": self._limit or limit,
            "remaining": max(0, (self._limit or limit) - number),
            "reset_in_seconds": max(0, ttl),
        }


def _key(user_id: str, limit_type: str, endpoint: str) -> str:
    if limit_type == "api":
        return f"rl:api:{user_id}:{endpoint}"
    return f"rl:agent:{user_id}" if limit_type == "agent" else f"rl:min:{user_id}"
