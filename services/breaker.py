"""A breaker: a Redis that does not answer is not asked each time. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Breaker"]


class Breaker:
    """Opens after failures in a row; then one question at a time finds out whether it closes."""

    __slots__ = ("_failures", "_limit", "_now", "_pause_s", "_pauses_s", "_until", "opened")

    def __init__(
        self,
        limit: int,
        pauses_s: tuple[float, float],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make one that opens after ``limit`` failures.

        It asks again after the first of ``pauses_s``, which doubles up to the second.
        """
        self._limit = limit
        self._pauses_s = pauses_s
        self._now = now
        self._failures = 0
        self._pause_s = pauses_s[0]
        #: When to ask again; 0 while it is closed.
        self._until = 0.0
        #: How often it opened.
        self.opened = 0

    @property
    def is_calm(self) -> bool:
        """Whether nothing failed lately: then there is nothing to ask it or to tell it."""
        return not self._failures

    @property
    def is_open(self) -> bool:
        """Whether the last that is known is that Redis is away."""
        return self._until > 0

    @property
    def rests(self) -> bool:
        """Whether nobody asks now; changes nothing."""
        return self._until > 0 and self._now() < self._until

    def may_ask(self) -> bool:
        """Return whether to ask now; while it is open, true for one caller a pause."""
        if not self._until:
            return True
        now = self._now()
        if now < self._until:
            return False
        self._until = now + self._pause_s
        return True

    def left_s(self) -> float:
        """Return how long it will not be asked."""
        return max(0.0, self._until - self._now())

    def succeeded(self) -> None:
        """Close: it answered."""
        if self._failures:
            self._failures, self._until, self._pause_s = 0, 0.0, self._pauses_s[0]

    def failed(self, *, surely: bool = False) -> None:
        """Learn that it did not answer; ``surely`` when it is away, not only late."""
        self._failures += 1
        if self._until:
            self._pause_s = min(self._pause_s * 2, self._pauses_s[1])
        elif not surely and self._failures < self._limit:
            return
        else:
            self.opened += 1
        self._until = self._now() + self._pause_s
