"""Looks at Redis each time it was reached: does it take writes, is it set up as promises need."""

from __future__ import annotations

import asyncio
import logging

from services.redis_health import RedisHealth, verify_redis_connection
from services.store.backoff import Backoff
from services.store.inspection import Finding
from services.store.keys import Keys
from services.store.port import Store

__all__ = ["Inspector"]

_log = logging.getLogger(__name__)

#: Seconds between looks at a server that answers and takes no writes: a full disk or memory,
#: a replica that is still one.
_AGAIN_S = (1.0, 30.0)


class Inspector:
    """Keeps how Redis was when it was last looked at in :attr:`health`, and logs what changed.

    The hub works all the same: whoever runs an evicting Redis on purpose is told, not stopped.
    One that takes no writes is a reason to send new clients elsewhere, until it does.
    """

    __slots__ = ("_again_s", "_connected", "_keys", "_store", "health")

    def __init__(
        self, store: Store, keys: Keys, *, again_s: tuple[float, float] = _AGAIN_S
    ) -> None:
        self._store = store
        self._keys = keys
        self._again_s = again_s
        self._connected = asyncio.Event()
        #: None until Redis was looked at for the first time.
        self.health: RedisHealth | None = None

    @property
    def findings(self) -> list[Finding]:
        """Under which settings of the server a promise does not hold."""
        return [] if self.health is None else self.health.findings

    @property
    def trouble(self) -> str:
        """Why Redis is no good although it answers; empty when it is."""
        return "" if self.health is None else self.health.trouble

    def on_state(self, ready: bool) -> None:  # noqa: FBT001 - the store's callback
        """Learn that the store became usable, or not."""
        if ready:
            self._connected.set()

    async def run(self) -> None:
        """Look after every connect, and until all is well, for ever."""
        backoff = Backoff(*self._again_s)
        while True:
            if self.health is None or self.health.ok or not self._store.ready:
                await self._connected.wait()
                backoff.reset()
            else:
                await self._wait(backoff.next_s())
            self._connected.clear()
            await self._look()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        except TimeoutError:
            return

    async def _look(self) -> None:
        health = await verify_redis_connection(self._store, self._keys)
        if not health.ok and not self._store.ready:
            return  # away again: it is looked at when it is back
        before, self.health = self.health, health
        if health.trouble and (before is None or health.trouble != before.trouble):
            _log.error("%s", health.trouble)
        elif before is not None and before.trouble and health.ok:
            _log.info("Redis takes writes again")
        for finding in health.findings:
            if before is None or finding not in before.findings:
                _log.warning("Redis: %s", finding)
