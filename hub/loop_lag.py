"""How late the event loop comes to what is due: the time that everything on it waits.

A beat is due every ``PERIOD_S``, and the loop is asked for each. After a stall every beat that
fell into it counts, each as late as it was; otherwise a second of standing still would be one
observation among many good ones, and no quantile would show it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hub.histogram import Histogram

__all__ = ["PERIOD_S", "LoopLag"]

#: Ten beats a second cost nothing, and find a stall of 100 ms for certain.
PERIOD_S = 0.1
#: Beats that one stall counts for, which is 10 s: what is longer is no lag but a stop.
_MOST = 100


class LoopLag:
    """Measures from :meth:`start` to :meth:`stop`.

    ``call_later`` is the loop's; uvloop's counts milliseconds, so an idle loop is up to one
    late. ``clock`` is monotonic, in seconds.
    """

    __slots__ = ("_call_later", "_clock", "_due", "_timer", "histogram")

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call_later = call_later
        self._clock = clock
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        #: Seconds that a beat was late.
        self.histogram = Histogram()

    def start(self) -> None:
        """Begin, with the first beat a period from now."""
        self._wait(self._clock() + PERIOD_S)

    def stop(self) -> None:
        """End; does nothing when it has not begun."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        late_s = self._clock() - self._due
        missed = max(0, int(late_s / PERIOD_S))
        for beat in range(min(missed + 1, _MOST)):
            # Timers come early too.
            self.histogram.observe(max(0.0, late_s - beat * PERIOD_S))
        self._wait(self._due + (missed + 1) * PERIOD_S)

    def _wait(self, due: float) -> None:
        self._due = due
        self._timer = self._call_later(due - self._clock(), self._beat)
