"""Where usage meets budgets: who counts calls this when a budget has something to tell.

The script that counts sees limits and sums side by side, so it notices when a share of a limit
is reached that was not told; telling it, once a period, is the business of budgets. Whoever
counts next notices it too, so that a crash in between loses nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from channels.scope import Scope

__all__ = ["Limits", "Teller", "Thresholds"]

#: ``tell(scope, month, day, user)``: look at the account and tell what was not told; ``user``
#: is who reached it. Any number of calls tell once.
Teller: TypeAlias = Callable[[Scope, str, str, str], Awaitable[None]]


#: Limits of a scope of which the account says nothing: of the month (micro-USD) and of the day
#: (tokens); None for none.
Limits: TypeAlias = Callable[[Scope], tuple[int | None, int | None]]


def _no_limits(_scope: Scope) -> tuple[int | None, int | None]:
    return None, None


class Thresholds:
    """Holds who knows the limits and tells; without budgets there are none."""

    __slots__ = ("_limits", "_tell")

    def __init__(self) -> None:
        self._tell: Teller | None = None
        self._limits: Limits = _no_limits

    def use(self, tell: Teller, limits: Limits = _no_limits) -> None:
        """Have thresholds told by ``tell``, and take ``limits`` where accounts name none."""
        self._tell = tell
        self._limits = limits

    def limits(self, scope: Scope) -> tuple[int | None, int | None]:
        """Return the limits of the month and of the day where the account names none."""
        return self._limits(scope)

    async def reached(self, scope: Scope, month: str, day: str, user: str) -> None:
        """Have what the account has to tell told; raises ``StoreError`` if it may not be."""
        if self._tell is not None:
            await self._tell(scope, month, day, user)
