"""Budgets as the document that Fanwire began from has them: the baseline of ``bench_budgets``.

Written anew from its text, with the same calls in the same order: the limit comes from the
database at each check, what was used from a counter in Redis, and what a call cost is added
after the call. Nothing is set aside in between. The database is a dict, which can only make it
faster, as can redis-py's asyncio client over TCP instead of an HTTP client.
"""

from __future__ import annotations

from typing import Any

import redis.asyncio as redis_py

__all__ = ["SeedBudget", "SeedBudgetExceededError"]

_MONTH = "2027-01"


class SeedBudgetExceededError(Exception):
    """Stands for the seed's HTTPException 402."""


class SeedBudget:
    """Check, enforce, and add what was used."""

    def __init__(self, redis: redis_py.Redis, limits: dict[str, float]) -> None:
        """Make it; ``limits`` stands for the table of users."""
        self._redis = redis
        self._limits = limits

    async def record_usage(self, user_id: str, cost_usd: float) -> None:
        """Add to the month: the part of it that budgets read."""
        key = f"usage:{user_id}:{_MONTH}"
        await self._redis.hincrbyfloat(key, "cost_usd", cost_usd)
        await self._redis.expire(key, 86_400 * 35)

    async def check_budget(self, user_id: str, estimated_cost: float) -> dict[str, Any]:
        """Compare what is left with an estimate."""
        budget_limit = float(self._limits.get(user_id, 1.0))
        found = await self._redis.hget(f"usage:{user_id}:{_MONTH}", "cost_usd")
        current_usage = float(found or 0)
        remaining = budget_limit - current_usage
        return {
            "can_afford": remaining >= estimated_cost,
            "budget_limit": budget_limit,
            "current_usage": current_usage,
            "remaining": remaining,
            "estimated_cost": estimated_cost,
        }

    async def enforce_budget(self, user_id: str, estimated_cost: float) -> None:
        """Raise if it cannot be afforded."""
        budget = await self.check_budget(user_id, estimated_cost)
        if not budget["can_afford"]:
            raise SeedBudgetExceededError(
                f"Budget exceeded. Remaining: ${budget['remaining']:.4f}, "
                f"Required: ${estimated_cost:.4f}"
            )
