"""What semantic caches did, in plain numbers."""

from __future__ import annotations

import msgspec

__all__ = ["BandStats", "SemanticStats"]


class BandStats(msgspec.Struct):
    """What shadow mode saw of one band or category."""

    samples: int = 0
    false_hits: int = 0

    @property
    def rate(self) -> float:
        """The share of samples that were wrong; 0 without samples."""
        return self.false_hits / self.samples if self.samples else 0.0


class SemanticStats(msgspec.Struct):
    """Counters since the start of the process, of all its semantic caches.

    A lookup ends as one of ``exact``, ``semantic``, ``judged`` (uncertain, and the judge said
    yes), ``skipped`` or ``misses``. ``uncertain`` are those that were in the uncertain band,
    whatever became of them; ``refusals`` are candidates that the guard refused, by reason.
    """

    lookups: int = 0
    exact: int = 0
    semantic: int = 0
    uncertain: int = 0
    judged: int = 0
    judge_failures: int = 0
    misses: int = 0
    skipped: int = 0
    refusals: dict[str, int] = {}
    stored: int = 0
    #: Answers that came too late: what they were made from was invalidated meanwhile.
    outdated: int = 0
    evictions: int = 0
    expired: int = 0
    invalidated: int = 0
    shadow_samples: int = 0
    false_hits: int = 0
    #: What shadow mode saw, by band ("hit", "uncertain") and by "category:NAME".
    shadow: dict[str, BandStats] = {}
    #: Times a partition was read anew, and vectors that were read.
    resyncs: int = 0
    loaded: int = 0
    #: Calls that went on without the cache: Redis or the embedding failed.
    failures: int = 0

    def refused(self, reason: str) -> None:
        """Count a refusal of the guard."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def sampled(self, names: list[str], *, false: bool) -> None:
        """Count a sample of shadow mode under each of ``names``."""
        self.shadow_samples += 1
        self.false_hits += false
        for name in names:
            band = self.shadow.setdefault(name, BandStats())
            band.samples += 1
            band.false_hits += false
