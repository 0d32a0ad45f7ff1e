"""What a check says: allowed or not, and where each policy stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from services.limits.rule import PolicyState, Rule

__all__ = ["LimitResult", "Remaining", "Source"]

Source = Literal["redis", "local"]


class Remaining(TypedDict):
    """What ``get_remaining`` returns: of the policy with the least left, and of each."""

    limit: int
    remaining: int
    reset_in_seconds: int
    policies: list[PolicyState]


class LimitResult:
    """The outcome of a check; truthy when it is allowed. Read-only.

    ``source`` is ``local`` where Redis was not asked: the denial was known, the policies count in
    this process only, or Redis is away; ``degraded`` is true for the last. What is known of the
    policies stands in ``policies``: after a denial from memory only those that deny.
    """

    __slots__ = (
        "_policies",
        "_rules",
        "_start",
        "_values",
        "allowed",
        "closed",
        "cost",
        "degraded",
        "denied_at_us",
        "source",
        "untold",
    )

    def __init__(
        self,
        rules: Sequence[Rule],
        values: Sequence[int],
        start: int,
        *,
        allowed: bool,
        cost: int,
        source: Source = "redis",
        degraded: bool = False,
    ) -> None:
        """Make it of a script's reply: ``values`` of ``rules``, one after the other."""
        self.allowed = allowed
        self.cost = cost
        self.source = source
        self.degraded = degraded
        self._rules = rules
        self._values = values
        self._start = start
        #: Whether it was denied because a policy is closed in an outage.
        self.closed = False
        #: After a denial of Redis: by what time (us), and which policies' denial nobody was told
        #: of, a bit each.
        self.denied_at_us = 0
        self.untold = 0
        # Most callers look no further than whether it is allowed.
        self._policies: tuple[PolicyState, ...] | None = None

    @classmethod
    def of(
        cls,
        policies: Sequence[PolicyState],
        *,
        allowed: bool,
        cost: int,
        source: Source = "local",
        degraded: bool = False,
        closed: bool = False,
    ) -> LimitResult:
        """Return a result whose policies' states are known."""
        result = cls((), (), 0, allowed=allowed, cost=cost, source=source, degraded=degraded)
        result._policies = tuple(policies)
        result.closed = closed
        return result

    def learn(self, denied_at_us: int, untold: int) -> None:
        """Take what Redis said about its denial."""
        self.denied_at_us, self.untold = denied_at_us, untold

    def values_of(self, index: int) -> Sequence[int]:
        """Return what the script said of a rule."""
        at = self._start + sum(rule.width for rule in self._rules[:index])
        return self._values[at : at + self._rules[index].width]

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def policies(self) -> tuple[PolicyState, ...]:
        """Where each policy stands, in the order they were asked."""
        if self._policies is None:
            states, at = [], self._start
            for rule in self._rules:
                values = self._values[at : at + rule.width]
                states.append(rule.state(values, self.cost, allowed=self.allowed))
                at += rule.width
            self._policies = tuple(states)
        return self._policies

    @property
    def violated(self) -> tuple[str, ...]:
        """Names of the policies that deny it."""
        if self.allowed:
            return ()
        return tuple(state.name for state in self.policies if state.retry_after_ms != 0)

    @property
    def retry_after_ms(self) -> int | None:
        """When the same check may pass all of them: 0 for now, None for never."""
        longest = 0
        for state in self.policies:
            if state.retry_after_ms is None:
                return None
            longest = max(longest, state.retry_after_ms)
        return longest

    @property
    def tightest(self) -> PolicyState | None:
        """The policy that leaves the least; None where no policy applies."""
        return min(self.policies, key=_tightness, default=None)

    @property
    def remaining(self) -> int | None:
        """How many units the tightest policy leaves; None where none applies."""
        tightest = self.tightest
        return None if tightest is None else tightest.remaining

    def __repr__(self) -> str:
        what = "allowed" if self.allowed else f"denied by {', '.join(self.violated) or 'an outage'}"
        how = ", degraded" if self.degraded else ""
        return f"LimitResult({what}, cost={self.cost}, source={self.source}{how})"


def _tightness(state: PolicyState) -> tuple[int, int]:
    return state.remaining, -state.reset_after_ms
