"""The time that everybody who shares a Redis agrees on.

Scripts are told the time, so that tests can and one billed command is saved. What expires on
one node must not live on another, so each node measures how far it is from the server's, at
its start and once a minute. In between it counts on by a clock that nobody sets: when this
machine's own jumps, nothing ends early.

The server's time holds, right or wrong, for its own expiries go by it too. When it jumps, by a
failover to a machine that is an hour ahead, all nodes follow within a minute, and what had less
than that hour left ends; a warning says so. Backwards, everything ends that much later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from channels.errors import StoreError, StoreRefused
from services.store.port import Store

__all__ = ["Clock"]

_log = logging.getLogger(__name__)

#: Seconds between measurements: cheap clocks drift by milliseconds in that time.
_EVERY_S = 60.0
#: After a measurement that failed, or that says little.
_AGAIN_S = 2.0
#: How often it is seen whether this machine slept: then what it counted is too little.
_GLANCE_S = 1.0
#: Milliseconds of difference that are not corrected.
_TOLERANCE_MS = 20
#: From here on a difference is worth a word, a round trip another one, a jump a measurement.
_LARGE_MS = 1_000


class Clock:
    """Unix time in milliseconds, as the server tells it."""

    __slots__ = ("_ahead_ms", "_now", "_round_trip_ms", "_store", "_ticks", "measured")

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make one that tells ``now`` until it was measured, and counts ``ticks`` from then on."""
        self._store = store
        self._now = now
        self._ticks = ticks
        #: Unix time less the ticks.
        self._ahead_ms = 0.0
        self._round_trip_ms = 0.0
        #: Whether the server's time is known.
        self.measured = False

    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970."""
        if self.measured:
            return int(self._ticks() * 1000 + self._ahead_ms)
        return int(self._now() * 1000)

    @property
    def offset_ms(self) -> int:
        """How far the server's clock is ahead of this machine's."""
        return round(self._ahead_ms - self._own_ms()) if self.measured else 0

    def _own_ms(self) -> float:
        """Return what this machine's own clock is ahead of the ticks."""
        return (self._now() - self._ticks()) * 1000

    async def measure(self) -> None:
        """Compare with the server's clock once; one round trip.

        Raises:
            StoreError: it could not be asked; what was known holds.
        """
        before_ms = self._ticks() * 1000
        reply = await self._store.execute("TIME")
        after_ms = self._ticks() * 1000
        try:
            seconds, micros = cast("tuple[bytes, bytes]", reply)
            there_ms = int(seconds) * 1000 + int(micros) / 1000
        except (TypeError, ValueError):
            raise StoreRefused(f"expected the server's time; got {reply!r:.80}") from None
        # It was so late there at some moment of the round trip; more is not known.
        least, most = there_ms - after_ms, there_ms - before_ms
        known_ms = self._ahead_ms if self.measured else self._own_ms()
        ahead_ms = known_ms
        if not least - _TOLERANCE_MS <= known_ms <= most + _TOLERANCE_MS:
            ahead_ms = (least + most) / 2
        if abs(ahead_ms - known_ms) > _LARGE_MS:
            _log.warning(
                "the server's clock is %.1f s ahead of %s; it holds",
                (ahead_ms - known_ms) / 1000,
                "what it was" if self.measured else "this machine's",
            )
        self._ahead_ms, self._round_trip_ms, self.measured = ahead_ms, after_ms - before_ms, True

    async def run(self) -> None:
        """Measure again and again, until cancelled."""
        pause_s = _EVERY_S if self.measured else 0.0
        while True:
            await self._pause(pause_s)
            try:
                await self.measure()
            except StoreError:
                pause_s = _AGAIN_S
            else:
                pause_s = _AGAIN_S if self._round_trip_ms > _LARGE_MS else _EVERY_S

    async def _pause(self, pause_s: float) -> None:
        """Wait; but not when this machine slept, or somebody set its clock."""
        until, own_ms = self._ticks() + pause_s, self._own_ms()
        while (left_s := until - self._ticks()) > 0:
            await asyncio.sleep(min(left_s, _GLANCE_S))
            if abs(self._own_ms() - own_ms) > _LARGE_MS:
                return
