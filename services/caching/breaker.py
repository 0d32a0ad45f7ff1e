"""A breaker: who fails again and again is left alone for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Breaker"]


class Breaker:
    """Counts failures in a row; opens after some, and lets one call try after a while."""

    __slots__ = ("_failures", "_limit", "_now", "_open_until", "_pause_s")

    def __init__(
        self, limit: int, pause_s: float, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Make one that opens after ``limit`` failures for ``pause_s``."""
        self._limit = limit
        self._pause_s = pause_s
        self._now = now
        self._failures = 0
        self._open_until = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether nothing failed lately; changes nothing."""
        return not self._failures

    @property
    def is_open(self) -> bool:
        """Whether calls are not to be made; changes nothing."""
        return self._failures >= self._limit and self._now() < self._open_until

    def lets_pass(self) -> bool:
        """Tell whether a call may be made; while others have failed, one at a time may."""
        if self._failures < self._limit:
            return True
        now = self._now()
        if now < self._open_until:
            return False
        self._open_until = now + self._pause_s  # this one tries; the others wait for it
        return True

    def succeeded(self) -> None:
        """Learn that a call went well."""
        self._failures = 0

    def failed(self) -> None:
        """Learn that a call failed."""
        self._failures += 1
        if self._failures >= self._limit:
            self._open_until = self._now() + self._pause_s
