"""A check, prepared: everything about a caller and its policies that does not change."""

from __future__ import annotations

from collections.abc import Sequence

from services.limits.rule import Rule
from services.limits.subjects import Place

__all__ = ["Check"]


class Check:
    """The rules that apply to one caller, and where each of them counts it.

    ``rules`` and ``keys`` are those that Redis counts, ``own_rules`` and ``own_keys`` those of
    this process. ``tells`` are the users who hear of the former, empty for nobody. It holds until
    ``until`` (``time.monotonic``); after that the caller may be on another plan.
    """

    __slots__ = (
        "closed",
        "deadline_s",
        "keys",
        "local_rules",
        "one_key",
        "own_keys",
        "own_rules",
        "rules",
        "tells",
        "terms",
        "until",
        "width",
    )

    def __init__(
        self, found: Sequence[tuple[Rule, Place]], *, deadline_s: float, until: float
    ) -> None:
        shared = [(rule, place) for rule, place in found if rule.policy.shared]
        own = [(rule, place) for rule, place in found if not rule.policy.shared]
        self.rules = tuple(rule for rule, _ in shared)
        self.keys = tuple(place.key for _, place in shared)
        self.tells = tuple(place.user for _, place in shared)
        self.own_rules = tuple(rule.local for rule, _ in own)
        self.own_keys = tuple(place.key for _, place in own)
        #: What this process counts by while Redis is away.
        self.local_rules = tuple(rule.local for rule in self.rules)
        self.closed = tuple(rule for rule in self.rules if rule.policy.fail == "closed")
        self.terms = tuple(rule.terms for rule in self.rules)
        #: The only key, where there is no other.
        self.one_key = self.keys[0] if len(self.keys) == 1 else ""
        #: Numbers in a reply, the verdict included.
        self.width = 1 + sum(rule.width for rule in self.rules)
        own_ms = [rule.policy.deadline_ms for rule in self.rules]
        self.deadline_s = min(
            (deadline_s if ms is None else ms / 1000 for ms in own_ms), default=deadline_s
        )
        self.until = until
