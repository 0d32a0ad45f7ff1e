"""What went through the rooms of a node: plain counters, read when somebody asks.

They only ever grow. The way of an event adds to them and does nothing else: names, labels and
formats are the business of whoever reports (``metrics/``, ``reporter.py``).
"""

from __future__ import annotations

import msgspec

from hub.histogram import Histogram

__all__ = ["Traffic"]


class Traffic(msgspec.Struct):
    """Counters of one node since its start."""

    #: Publications that came from Redis into a room, each counted once however many read it.
    publications: int = 0
    #: Publications handed to subscribers: one publication to a hundred of them is a hundred.
    deliveries: int = 0
    #: Bytes of these publications, without what the transports add.
    bytes: int = 0
    #: What was given up, by reason. Connections: ``slow``, who owed too much (3008), and
    #: ``no_pong``, who did not answer (3012). Publications: ``conflated``, superseded by a
    #: newer one before a slow reader took it.
    drops: dict[str, int] = {}
    #: Seconds from the arrival of a message from Redis until it was written to every
    #: subscriber; messages that came and left together are one observation, of the first.
    write_lag: Histogram = msgspec.field(default_factory=Histogram)

    def dropped(self, reason: str, count: int = 1) -> None:
        """Count what was given up."""
        self.drops[reason] = self.drops.get(reason, 0) + count
