"""A histogram of durations: how often something took up to how long."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

__all__ = ["BOUNDS_S", "Histogram"]

#: Upper bounds of the buckets, in seconds, the bound included; above the last one there is one
#: more. From a tenth of a millisecond, what one walk of a small room takes, to where a client
#: would have been given up.
BOUNDS_S = (
    0.0001, 0.00025, 0.0005,
    0.001, 0.0025, 0.005,
    0.01, 0.025, 0.05,
    0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


class Histogram(msgspec.Struct):
    """Counts by bucket, and the sum of what was observed; cheap enough for the way of an event.

    ``counts`` has each observation in one bucket; the last is for what is above all bounds.
    """

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
