"""One of several processes that check the same limits at the same time."""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

from services.door import Services
from services.limits.settings import LimitSettings
from services.service_settings import ServiceSettings

from .support import policy

#: Long windows: nothing comes back while the test runs.
POLICIES = (
    policy("gcra", 300, 86_400, burst=300),
    policy("sliding", 250, 86_400, algorithm="sliding"),
    policy("wide", 100_000, 86_400),
)
TASKS, CHECKS = 64, 1_000


async def main(url: str, name: str, also: str) -> None:
    """Check, and say how often it was allowed."""
    names = tuple(filter(None, also.split(",")))
    settings = LimitSettings(policies=POLICIES)
    async with Services.connect(url, settings=ServiceSettings(limits=settings)) as services:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        left = iter(range(CHECKS))

        async def work() -> int:
            allowed = 0
            for _ in left:
                allowed += bool(await services.rate_limiter.check_limit("ann", name, also=names))
            return allowed

        allowed = sum(await asyncio.gather(*(work() for _ in range(TASKS))))
        sys.stdout.write(json.dumps(allowed) + "\n")


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
