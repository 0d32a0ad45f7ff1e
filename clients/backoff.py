"""How long to wait before trying again, and when to give up."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff", "Patience"]


class Backoff:
    """Exponential back-off with full jitter.

    The n-th pause is uniformly random between 0 and ``base_s * 2**n``, at most ``cap_s``:
    a thousand clients that lost the same hub do not come back in the same instant.
    """

    __slots__ = ("_base_s", "_cap_s", "_random", "_tries")

    def __init__(
        self,
        base_s: float = 0.2,
        cap_s: float = 20.0,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._random = uniform
        self._tries = 0

    def next_pause_s(self) -> float:
        """Return the next pause in seconds; each call widens the range of the one after."""
        # The exponent is bounded because 2**1024 is no float any more.
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return self._random(0.0, ceiling)

    def reset(self) -> None:
        """Start over: the next failure is a first one again."""
        self._tries = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long one call to the hub is tried.

    Attributes:
        deadline_s: seconds after which the call gives up, all its tries together.
        try_timeout_s: seconds that one try may wait for the hub.
        unreached_s: the same for a hub that was never reached, by no call of this publisher:
            it may not be there at all. By default no less than ``deadline_s``.
        make_backoff: makes the schedule of pauses of one call.
        clock: monotonic seconds.
    """

    deadline_s: float = 15.0
    try_timeout_s: float = 5.0
    unreached_s: float = math.inf
    make_backoff: Callable[[], Backoff] = Backoff
    clock: Callable[[], float] = time.monotonic
