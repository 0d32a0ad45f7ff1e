"""Rules: policies on a plan, in the integers that scripts take, and what their replies mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from services.limits.policy import Policy

__all__ = ["BUCKETS", "PolicyState", "Rule", "families_of", "rule_of"]

#: Buckets of a sliding window.
BUCKETS = 20
#: A limit that was told is not told again within its window, or this, whichever is shorter.
_QUIET_US = 60_000_000


class PolicyState(NamedTuple):
    """Where one policy stands for its subject after a check.

    ``limit`` is what there is when nothing was used, ``window_s`` in which time it comes back.
    ``reset_after_ms`` is when all of it is there again, ``next_after_ms`` when any more is, 0 for
    nothing to wait for. ``retry_after_ms`` is when the same check passes this policy: 0 for now,
    None for never (it costs more than there ever is).
    """

    name: str
    limit: int
    remaining: int
    reset_after_ms: int
    retry_after_ms: int | None
    next_after_ms: int
    window_s: float
    subject: str

    @property
    def reset_in_seconds(self) -> int:
        """``reset_after_ms`` in whole seconds, rounded up."""
        return -(-self.reset_after_ms // 1000)


class Rule:
    """A policy's numbers on one plan. ``terms`` are a script's arguments (``lib/limit.lua``).

    For GCRA a unit comes back every ``each_us``, all of them in ``all_us``. ``values`` are what
    a script returned of it (``width`` numbers), times from its ``now``; :meth:`fix` turns
    them into moments, :meth:`loose` back. ``family`` names the keys that it counts in.
    """

    __slots__ = (
        "all_us",
        "each_us",
        "family",
        "local",
        "name",
        "policy",
        "quota",
        "sliding",
        "terms",
        "width",
        "window_s",
    )

    def __init__(self, policy: Policy, limit: int, window_s: float, burst: int | None) -> None:
        window_us = round(window_s * 1_000_000)
        self.policy = policy
        self.name = policy.name
        self.family = _family(policy, window_us)
        self.sliding = policy.algorithm == "sliding"
        #: Rounded up: never more than was declared.
        self.each_us = -(-window_us // limit)
        self.quota = burst or limit
        self.all_us = self.each_us * self.quota
        #: In which time the quota is there.
        self.window_s = window_s if burst is None else self.all_us / 1_000_000
        quiet_us = min(window_us, _QUIET_US)
        if self.sliding:
            self.terms = (-(-window_us // BUCKETS), limit, BUCKETS, quiet_us)
            self.width = 4
        else:
            self.terms = (self.each_us, self.all_us, 0, quiet_us)
            self.width = 1
        #: The same as GCRA, for a process that counts alone.
        self.local: Rule = self
        if self.sliding:
            self.local = Rule.__new__(Rule)
            for name in self.__slots__:
                setattr(self.local, name, getattr(self, name))
            self.local.sliding, self.local.width, self.local.local = False, 1, self.local

    def wait_us(self, values: Sequence[int], cost: int) -> int:
        """Return how long ``cost`` has to wait after a denial, 0 for not at all, -1 for never."""
        if cost > self.quota:
            return -1
        if self.sliding:
            return values[2]
        return max(0, values[0] + cost * self.each_us - self.all_us)

    def state(self, values: Sequence[int], cost: int, *, allowed: bool) -> PolicyState:
        """Return what ``values`` say."""
        retry: int | None = 0
        if not allowed:
            wait_us = self.wait_us(values, cost)
            retry = None if wait_us < 0 else _ms(wait_us)
        if self.sliding:
            used, some_us, _, all_us = values
            remaining = max(0, self.quota - used)
        else:
            all_us = values[0]
            left_us = self.all_us - all_us
            # By a clock that is a little behind, more than all of it is owed.
            remaining = max(0, left_us // self.each_us)
            some_us = (remaining + 1) * self.each_us - left_us if all_us else 0
        return PolicyState(
            self.name,
            self.quota,
            remaining,
            _ms(all_us),
            retry,
            _ms(some_us),
            self.window_s,
            self.policy.subject,
        )

    def fix(self, values: Sequence[int], now_us: int) -> tuple[int, ...]:
        """Return ``values`` with moments for times."""
        if self.sliding:
            used, some_us, wait_us, all_us = values
            return used, now_us + some_us, now_us + wait_us, now_us + all_us
        return (now_us + values[0],)

    def loose(self, moments: Sequence[int], now_us: int) -> tuple[int, ...]:
        """Return what the values are later, if nothing was used since."""
        if self.sliding:
            used, some_at, fits_at, all_at = moments
            return (
                used,
                max(0, some_at - now_us),
                max(0, fits_at - now_us),
                max(0, all_at - now_us),
            )
        return (max(0, moments[0] - now_us),)


def families_of(policy: Policy) -> list[str]:
    """Return the names of all keys that a policy counts in, whatever the plan."""
    windows = [policy.window_s, *(plan.window_s for plan in policy.plans.values())]
    return list(dict.fromkeys(_family(policy, round(s * 1_000_000)) for s in windows if s))


def _family(policy: Policy, window_us: int) -> str:
    """Return its name; a sliding window of another width has buckets of its own.

    In each other's they would be read as of another time, and who changes plans back and forth
    would begin anew each time. No policy's name has a ``~``.
    """
    if policy.algorithm == "sliding" and window_us != round(policy.window_s * 1_000_000):
        return f"{policy.name}~{window_us}"
    return policy.name


def rule_of(policy: Policy, plan: str) -> Rule | None:
    """Return the rule of ``policy`` on ``plan``; None where the plan has no such limit."""
    other = policy.plans.get(plan) if plan else None
    if other is None:
        return Rule(policy, policy.limit, policy.window_s, policy.burst)
    if other.limit is None:
        return None
    return Rule(policy, other.limit, other.window_s or policy.window_s, other.burst)


def _ms(us: int) -> int:
    return -(-us // 1000)
