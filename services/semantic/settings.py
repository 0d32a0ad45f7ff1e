"""What a semantic cache goes by: distances, sizes, what is not cached."""

from __future__ import annotations

import re

import msgspec

from channels.errors import SettingsError

__all__ = ["Band", "SemanticSettings", "SkipRules"]

#: What is longer than this is neither kept nor believed.
MAX_TTL_S = 366 * 86_400


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """Cosine distances (0 the same, 2 the opposite): up to which it is a hit, and up to which
    it is uncertain, so that the judge is asked. There is no value that fits every model.
    """

    hit: float = 0.10
    uncertain: float = 0.15


class SkipRules(msgspec.Struct, frozen=True, kw_only=True):
    """What is neither looked up nor kept."""

    #: Above this temperature an answer is one of many.
    max_temperature: float = 0.3
    #: Whether questions about the one who asks are only cached for that user.
    user_specific: bool = True
    #: Whether questions whose answer changes by itself ("today", "latest") are left alone.
    volatile: bool = True
    #: More of both, as regular expressions.
    user_patterns: list[str] = []
    volatile_patterns: list[str] = []


class SemanticSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the semantic caches of an application."""

    hit: float = 0.10
    uncertain: float = 0.15
    #: Other distances for a category that callers name.
    categories: dict[str, Band] = {}
    #: Nearest entries that are looked at.
    candidates: int = 3
    #: Seconds that an entry lives unless the caller says otherwise.
    ttl_s: int = 86_400
    #: What a workspace may keep; those that were not used longest go first.
    max_entries: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    max_prompt_bytes: int = 32 * 1024
    max_response_bytes: int = 256 * 1024
    #: Seconds that the embedding and the judge have.
    embed_timeout_s: float = 10.0
    judge_timeout_s: float = 2.0
    #: The share of near hits that are loaded again to see whether they were right.
    shadow_share: float = 0.0
    #: False hits after which an entry goes.
    max_false_hits: int = 3
    #: Whether one word in the place of another one is a refusal; see ``Guard``.
    substitutions: bool = True
    #: Whether languages without tables are matched by distance alone.
    unguarded_languages: bool = False
    #: Seconds that a process may be behind others before it looks for itself.
    resync_s: float = 1.0
    #: Partitions (tenant, model, version, ...) and vectors that a process holds.
    max_partitions: int = 64
    max_vectors: int = 200_000
    skip: SkipRules = SkipRules()

    def check(self) -> SemanticSettings:
        """Return the settings if they make sense.

        Raises:
            SettingsError: they do not.
        """
        bands = {"": Band(hit=self.hit, uncertain=self.uncertain), **self.categories}
        for name, band in bands.items():
            if not 0 <= band.hit <= band.uncertain <= 1:
                raise SettingsError(
                    f"expected 0 <= hit <= uncertain <= 1 for category {name or 'any'!r}; "
                    f"got {band.hit} and {band.uncertain}"
                )
        positive = {
            name: getattr(self, name)
            for name in (
                "candidates",
                "ttl_s",
                "max_entries",
                "max_bytes",
                "max_false_hits",
                "max_partitions",
                "max_vectors",
                "max_prompt_bytes",
                "max_response_bytes",
                "embed_timeout_s",
                "judge_timeout_s",
            )
        }
        for name, value in positive.items():
            if not value > 0:
                raise SettingsError(f"{name} must be above 0; got {value}")
        if self.ttl_s > MAX_TTL_S:
            raise SettingsError(f"ttl_s is at most {MAX_TTL_S}; got {self.ttl_s}")
        for pattern in (*self.skip.user_patterns, *self.skip.volatile_patterns):
            try:
                re.compile(pattern)
            except re.error as error:
                raise SettingsError(f"{pattern!r} is no regular expression: {error}") from None
        if not 0 <= self.shadow_share <= 1:
            raise SettingsError(f"shadow_share is between 0 and 1; got {self.shadow_share}")
        return self

    def band(self, category: str) -> Band:
        """Return the distances of a category; the general ones where it has none."""
        return self.categories.get(category) or Band(hit=self.hit, uncertain=self.uncertain)
