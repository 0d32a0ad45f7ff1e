"""Usage as the document that Fanwire began from counts it: the baseline of ``bench_usage``.

Written anew from its text, with the same calls in the same order. The client is redis-py's
asyncio client over TCP instead of an HTTP client, which can only make it faster; its database,
a table that is written through a client that blocks, is a dictionary, which takes no time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import redis.asyncio as redis_py

__all__ = ["SeedUsage"]

_DAY_S = 86_400


class SeedUsage:
    """Record and read usage, eight calls one after the other."""

    def __init__(self, redis: redis_py.Redis, table: dict[tuple[str, str], dict[str, Any]]) -> None:
        """Make it; ``table`` is usage_records, by user and date."""
        self._redis = redis
        self._table = table

    async def record_usage(
        self,
        user_id: str,
        workspace_id: str,
        tokens_input: int,
        tokens_output: int,
        cost_usd: float,
        agent_type: str,
    ) -> None:
        """Add to the counters of the day and of the month; then write the record of the day."""
        today = datetime.now(UTC).date().isoformat()
        daily, monthly = f"usage:{user_id}:{today}", f"usage:{user_id}:{today[:7]}"
        await self._redis.hincrbyfloat(daily, "tokens_input", tokens_input)
        await self._redis.hincrbyfloat(daily, "tokens_output", tokens_output)
        await self._redis.hincrbyfloat(daily, "cost_usd", cost_usd)
        await self._redis.hincrby(daily, "requests", 1)
        await self._redis.hincrby(daily, f"agent:{agent_type}", 1)
        await self._redis.expire(daily, 2 * _DAY_S)
        await self._redis.hincrbyfloat(monthly, "cost_usd", cost_usd)
        await self._redis.expire(monthly, 35 * _DAY_S)
        # An upsert on (user, date): the last call of the day is what the day has.
        self._table[user_id, today] = {
            "workspace_id": workspace_id,
            "tokens_input": tokens_input,
            "tokens_output": tokens_output,
            "cost_usd": cost_usd,
            "agent_usage": {agent_type: 1},
        }

    async def get_daily_usage(self, user_id: str, date: str) -> dict[str, Any]:
        """Read the counters of a day."""
        data = await self._redis.hgetall(f"usage:{user_id}:{date}")
        found = {name.decode(): value.decode() for name, value in data.items()}
        return {
            "date": date,
            "tokens_input": int(float(found.get("tokens_input", 0))),
            "tokens_output": int(float(found.get("tokens_output", 0))),
            "cost_usd": float(found.get("cost_usd", 0)),
            "requests": int(found.get("requests", 0)),
        }
