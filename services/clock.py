"""The time that everybody who shares a Redis agrees on.

Scripts are told the time, so that tests can and one billed command is saved. What expires on
one node must not live on another, so each node measures how far its clock is from the
server's, at its start and once a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

from channels.errors import StoreError
from services.store.port import Store

__all__ = ["Clock"]

#: Seconds between measurements: cheap clocks drift by milliseconds in that time.
_EVERY_S = 60.0
#: After a measurement that failed.
_AGAIN_S = 2.0
#: Milliseconds of difference that are not corrected: half of a round trip is unknown anyway.
_TOLERANCE_MS = 20


class Clock:
    """Unix time in milliseconds, as the server tells it."""

    __slots__ = ("_now", "_offset_ms", "_store")

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._offset_ms = 0

    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970."""
        return int(self._now() * 1000) + self._offset_ms

    @property
    def offset_ms(self) -> int:
        """How far the server's clock is ahead of this machine's."""
        return self._offset_ms

    async def measure(self) -> None:
        """Compare this machine's clock with the server's once; one round trip.

        Raises:
            StoreError: it could not be asked; what was known holds.
        """
        before = self._now()
        seconds, micros = cast("tuple[bytes, bytes]", await self._store.execute("TIME"))
        here_ms = (before + self._now()) / 2 * 1000
        there_ms = int(seconds) * 1000 + int(micros) / 1000
        offset_ms = round(there_ms - here_ms)
        self._offset_ms = offset_ms if abs(offset_ms) > _TOLERANCE_MS else 0

    async def run(self) -> None:
        """Measure again and again, until cancelled."""
        while True:
            try:
                await self.measure()
            except StoreError:
                await asyncio.sleep(_AGAIN_S)
            else:
                await asyncio.sleep(_EVERY_S)
