"""A breaker: a Redis that does not answer is not asked each time. No I/O."""

from __future__ import annotations

__all__ = ["Breaker"]

#: Deadlines missed in a row before Redis counts as away; a lost connection says so at once.
_MISSES = 3
#: Seconds without asking: from the first to the second, doubled each time.
_PAUSE_S = (0.1, 1.0)


class Breaker:
    """Says whether to ask. While it is open one question at a time finds out whether it closes."""

    __slots__ = ("_misses", "_pause_s", "_until", "opened")

    def __init__(self) -> None:
        self._misses = 0
        self._pause_s = _PAUSE_S[0]
        #: When to ask again; 0 while it is closed.
        self._until = 0.0
        #: How often it opened.
        self.opened = 0

    @property
    def is_open(self) -> bool:
        """Whether the last that is known is that Redis is away."""
        return self._until > 0

    def may_ask(self, now: float) -> bool:
        """Return whether to ask now; while it is open, true for one caller a pause."""
        if not self._until:
            return True
        if now < self._until:
            return False
        self._until = now + self._pause_s
        return True

    def left_s(self, now: float) -> float:
        """Return how long it will not be asked."""
        return max(0.0, self._until - now)

    def succeeded(self) -> None:
        """Close: it answered."""
        if self._until or self._misses:
            self._misses, self._until, self._pause_s = 0, 0.0, _PAUSE_S[0]

    def failed(self, now: float, *, surely: bool) -> None:
        """Learn that it did not; ``surely`` when it is away, not only late."""
        self._misses += 1
        if self._until:
            self._pause_s = min(self._pause_s * 2, _PAUSE_S[1])
        elif not surely and self._misses < _MISSES:
            return
        else:
            self.opened += 1
        self._until = now + self._pause_s
