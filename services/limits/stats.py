"""What the rate limiter counts."""

from __future__ import annotations

import msgspec

__all__ = ["LimitStats"]


class LimitStats(msgspec.Struct):
    """Counters since start.

    ``known`` are denials from memory, of those in ``denied``; ``degraded`` are decisions while
    Redis was away, of those in ``allowed`` and ``denied``; ``calls`` are scripts run, each for
    one or more checks; ``failures`` are those that failed. ``denied_by`` has the policies.
    """

    allowed: int = 0
    denied: int = 0
    known: int = 0
    degraded: int = 0
    calls: int = 0
    failures: int = 0
    #: How often Redis began to count as away.
    outages: int = 0
    #: Events ``ratelimit.exceeded``, and those that could not be told (the next denial will).
    told: int = 0
    untold: int = 0
    #: Slots taken, refused and lost (a lease that ran out before it was renewed).
    slots_taken: int = 0
    slots_refused: int = 0
    slots_lost: int = 0
    denied_by: dict[str, int] = {}
