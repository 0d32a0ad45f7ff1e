"""Health: alive while the loop turns, ready while Redis is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.hub.serving import open_settings, served, wait_until_ready
from tests.servers import ValkeyServer


async def test_ready_is_red_while_redis_is_away(
    valkey_server: Callable[[], ValkeyServer],
) -> None:
    """Readiness follows Redis, with a reason; liveness does not care."""
    redis = await asyncio.to_thread(valkey_server)
    async with served(open_settings(redis.url)) as at, at.client() as client:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["reasons"]) == (200, [])
        await asyncio.to_thread(redis.stop)
        await wait_until_ready(at.hub, ready=False)
        answer = await client.get("/health/ready")
        assert answer.status_code == 503
        [reason] = answer.json()["reasons"]
        assert "Redis" in reason
        assert (await client.get("/health/live")).status_code == 200
        await asyncio.to_thread(redis.start)
        await wait_until_ready(at.hub)
        assert (await client.get("/health/ready")).status_code == 200
