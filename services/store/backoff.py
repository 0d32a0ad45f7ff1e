"""When to try again: growing, jittered, bounded delays. No clock and no I/O."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Delays between attempts to connect.

    The ceiling doubles from ``base_s`` to ``cap_s``; each delay lies between half of the
    ceiling and the ceiling, so that nodes cut off together do not come back together.
    """

    __slots__ = ("_attempt", "_base_s", "_cap_s", "_random")

    def __init__(
        self,
        base_s: float = 0.05,
        cap_s: float = 1.0,
        *,
        # Spreading load needs no secret randomness.
        rng: Callable[[], float] = random.random,
    ) -> None:
        if not 0 < base_s <= cap_s:
            raise ValueError(f"expected 0 < base_s <= cap_s, got {base_s} and {cap_s}")
        self._base_s = base_s
        self._cap_s = cap_s
        self._random = rng
        self._attempt = 0

    def next_s(self) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        # Doubling stops where the cap is certain, so the power cannot overflow.
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self._attempt, 64))
        self._attempt += 1
        return ceiling * (0.5 + 0.5 * self._random())

    def reset(self) -> None:
        """Start again from ``base_s``: an attempt succeeded."""
        self._attempt = 0
