"""Denials that are known: until then Redis would deny too, so it is not asked. No I/O.

What a limit owes only falls with time, and time is the same for everybody (``services/clock.py``),
so a denial holds until its moment, whatever else is allowed meanwhile. Three things can make Redis
allow earlier, and this process denies on until the moment it remembers: another process called
``reset``, the server lost its data, or a plan was changed where nobody told us (another plan has
other terms, so once the plan is known here the memory does not apply).
"""

from __future__ import annotations

from collections.abc import Sequence

from services.limits.rule import PolicyState, Rule

__all__ = ["MAX_DENIALS", "Denials"]

#: Subjects whose denial is remembered; beyond it the oldest are forgotten and Redis is asked.
MAX_DENIALS = 10_000


class Denials:
    """What is known to be denied, by key."""

    __slots__ = ("_known", "_max")

    def __init__(self, max_known: int = MAX_DENIALS) -> None:
        #: The rule, the cost, until when at least (us), and the moments of ``Rule.fix``.
        self._known: dict[str, tuple[Rule, int, int, tuple[int, ...]]] = {}
        self._max = max_known

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, key: str, rule: Rule, cost: int, values: Sequence[int], now_us: int) -> None:
        """Note that ``cost`` was denied at ``now_us``; nothing for what never passes."""
        wait_us = rule.wait_us(values, cost)
        if wait_us <= 0:
            return
        known = self._known
        known.pop(key, None)  # the newest stands last
        if len(known) >= self._max:
            del known[next(iter(known))]
        known[key] = rule, cost, now_us + wait_us, rule.fix(values, now_us)

    def find(self, key: str, rule: Rule, cost: int, now_us: int) -> PolicyState | None:
        """Return where a policy stands that certainly denies ``cost``; None to ask Redis."""
        known = self._known.get(key)
        if known is None:
            return None
        denied_rule, denied_cost, until_us, moments = known
        if now_us >= until_us:
            del self._known[key]
            return None
        if denied_rule is not rule or cost < denied_cost:
            return None
        return rule.state(rule.loose(moments, now_us), cost, allowed=False)

    def forget(self, key: str) -> None:
        """Ask Redis again."""
        self._known.pop(key, None)

    def clear(self) -> None:
        """Ask Redis again about everybody."""
        self._known.clear()
