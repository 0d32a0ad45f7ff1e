"""What caches count."""

from __future__ import annotations

import msgspec

__all__ = ["CacheStats", "LlmStats"]


class CacheStats(msgspec.Struct):
    """Counters since start, of all caches of a process."""

    #: Answers from the process's own memory, from Redis, and those that had to be loaded.
    local_hits: int = 0
    hits: int = 0
    misses: int = 0
    #: Callers who were given the result of another caller's read or load.
    shared: int = 0
    #: Values returned while they were loaded anew; because a load was slow; because it failed;
    #: because Redis was away.
    stale: int = 0
    slow: int = 0
    fail_safe: int = 0
    outage: int = 0
    #: Loads begun, those of them in the background, and those that failed.
    loads: int = 0
    refreshes: int = 0
    failures: int = 0
    #: Loads that were not tried because one had just failed.
    spared: int = 0
    #: Values kept, and those not kept: out of date already, too large.
    fills: int = 0
    refused: int = 0
    too_large: int = 0
    #: Values in Redis that could not be read as what was asked for.
    undecodable: int = 0
    #: Waits for the load of another process.
    waits: int = 0
    #: Invalidations made here, and those heard of; how often memory was not to be trusted, and
    #: how often all of a workspace's was dropped because some may have been missed.
    invalidations: int = 0
    invalidations_heard: int = 0
    doubts: int = 0
    gaps: int = 0
    #: Values that left memory for want of room.
    evictions: int = 0
    #: Calls to Redis that failed, and those not made after others had.
    store_errors: int = 0
    bypasses: int = 0


class LlmStats(msgspec.Struct):
    """Counters since start, of the answers of language models.

    ``bypassed`` are calls that may not be cached; ``saved_micro_usd`` is what hits would have
    cost, as far as callers said.
    """

    hits: int = 0
    misses: int = 0
    bypassed: int = 0
    saved_micro_usd: int = 0
