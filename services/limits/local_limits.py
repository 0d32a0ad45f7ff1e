"""Limits that one process counts by itself: where Redis is not asked, or is away. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from services.limits.rule import Rule

__all__ = ["MAX_KEYS", "LocalLimits"]

#: Subjects remembered, 150 bytes each or so. Beyond it the oldest are forgotten: they begin anew.
MAX_KEYS = 50_000


class LocalLimits:
    """GCRA in memory, by the process's own ticks. All or nothing, like the script."""

    __slots__ = ("_full_at", "_max", "_ticks")

    def __init__(
        self, *, max_keys: int = MAX_KEYS, ticks: Callable[[], int] = time.monotonic_ns
    ) -> None:
        #: When all of a subject's units are back, in microseconds of ``ticks``.
        self._full_at: dict[str, int] = {}
        self._max = max_keys
        self._ticks = ticks

    def take(self, keys: Sequence[str], rules: Sequence[Rule], cost: int) -> tuple[bool, list[int]]:
        """Take ``cost`` of each, or nothing; return whether, and the values of ``rule.local``."""
        now_us = self._ticks() // 1000
        full_at = self._full_at
        debts = [max(0, full_at.get(key, 0) - now_us) for key in keys]
        for debt, rule in zip(debts, rules, strict=True):
            if debt + cost * rule.each_us > rule.all_us:
                return False, debts
        if cost:
            for at, (key, rule) in enumerate(zip(keys, rules, strict=True)):
                debts[at] += cost * rule.each_us
                full_at[key] = now_us + debts[at]
            if len(full_at) > self._max:
                self._forget(now_us)
        return True, debts

    def give_back(self, keys: Sequence[str], rules: Sequence[Rule], cost: int) -> None:
        """Undo a take."""
        for key, rule in zip(keys, rules, strict=True):
            if key in self._full_at:
                self._full_at[key] -= cost * rule.each_us

    def reset(self, key: str) -> None:
        """Forget what a subject used."""
        self._full_at.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._full_at.clear()

    def __len__(self) -> int:
        return len(self._full_at)

    def _forget(self, now_us: int) -> None:
        """Forget who owes nothing; if that is not enough, the oldest quarter too."""
        self._full_at = {key: at for key, at in self._full_at.items() if at > now_us}
        excess = len(self._full_at) - self._max * 3 // 4
        if excess > 0:
            for key in list(self._full_at)[:excess]:
                del self._full_at[key]
