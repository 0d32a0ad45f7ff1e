"""What tests of the cache share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.caching.settings import CacheSettings
from services.door import Services
from services.follower import FollowerSettings
from services.service_settings import ServiceSettings
from services.store.tcp import TcpStore, TcpStoreOptions

__all__ = ["Source", "commands", "in_memory", "opened", "until"]

#: Probes are commands too, and would be counted.
QUICK = TcpStoreOptions(backoff_s=(0.001, 0.05), probe_interval_s=60.0)


@asynccontextmanager
async def opened(
    url: str, *, compare_every_s: float = 0.2, **settings: object
) -> AsyncIterator[Services]:
    """The services on a server, with these settings of the cache."""
    services = Services(
        TcpStore(url, QUICK),
        settings=ServiceSettings(cache=CacheSettings(**settings)),
        follower=FollowerSettings(compare_every_s=compare_every_s, grace_s=0.1),
    )
    async with services:
        yield services


class Source:
    """Where values come from: counts loads, waits for ``gate``, fails when told to."""

    def __init__(self, value: object = "v1") -> None:
        self.value = value
        self.loads = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()

    async def __call__(self) -> object:
        """Load."""
        self.loads += 1
        value = self.value  # as it was when the load began
        self.begun.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value


async def until(condition: Callable[[], object]) -> None:
    """Return when ``condition()`` is true; nothing tells of what it is about."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.001)


async def in_memory(cache) -> None:
    """Return when the workspace is followed and memory is used."""
    await until(cache._memory.check_trust)


async def commands(store, call) -> dict[str, int]:
    """Return how often each command ran during ``call``, those within scripts included."""
    await store.execute("CONFIG", "RESETSTAT")
    await call()
    text = (await store.execute("INFO", "commandstats")).decode()
    found = dict(re.findall(r"cmdstat_([a-z|]+):calls=(\d+)", text))
    return {
        name: int(calls)
        for name, calls in found.items()
        if name not in ("config", "config|resetstat", "info", "ping", "time")
    }
