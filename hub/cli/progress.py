"""How far a stream of events got, on a line that rewrites itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["Progress"]

#: Between two rewritings; faster than this nobody reads.
_EVERY_S = 0.1


class Progress:
    """Counts events; shows the count and the rate while somebody watches a terminal."""

    def __init__(
        self, stream: TextIO, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._quiet = quiet
        self._live = not quiet and stream.isatty()
        self._clock = clock
        self._started = clock()
        self._shown = float("-inf")
        self.count = 0
        #: Lines whose bytes had to be replaced.
        self.replaced = 0

    def add(self, count: int) -> None:
        """Count events that were published."""
        self.count += count
        now = self._clock()
        if self._live and now - self._shown >= _EVERY_S:
            self._shown = now
            self._stream.write(f"\r\x1b[K{self._summary()}")
            self._stream.flush()

    def finish(self, channel: str) -> None:
        """Write the last line: how many, where, how fast."""
        if self._quiet:
            return
        start = "\r\x1b[K" if self._live else ""
        note = (
            f"; in {self.replaced} lines bytes that are not UTF-8 were replaced"
            if self.replaced
            else ""
        )
        self._stream.write(f"{start}published {self._summary()} to {channel}{note}\n")
        self._stream.flush()

    def _summary(self) -> str:
        elapsed_s = max(self._clock() - self._started, 0.001)
        word = "event" if self.count == 1 else "events"
        return f"{self.count:,} {word} in {elapsed_s:.1f} s ({self.count / elapsed_s:,.0f}/s)"
