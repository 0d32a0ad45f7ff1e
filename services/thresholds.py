"""Where usage meets budgets: who counts calls this when a budget has something to tell.

The script that counts sees limits and sums side by side, so it notices when a share of a limit
is reached that was not told; telling it, once a period, is the business of budgets. Whoever
counts next notices it too, so that a crash in between loses nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from channels.scope import Scope

__all__ = ["Teller", "Thresholds"]

#: ``tell(scope, month, day, user)``: look at the account and tell what was not told; ``user``
#: is who reached it. Any number of calls tell once.
Teller: TypeAlias = Callable[[Scope, str, str, str], Awaitable[None]]


class Thresholds:
    """Holds the teller; without budgets there is none, and nothing is told."""

    __slots__ = ("_tell",)

    def __init__(self) -> None:
        self._tell: Teller | None = None

    def use(self, tell: Teller) -> None:
        """Have thresholds told by ``tell``."""
        self._tell = tell

    async def reached(self, scope: Scope, month: str, day: str, user: str) -> None:
        """Have what the account has to tell told; raises ``StoreError`` if it may not be."""
        if self._tell is not None:
            await self._tell(scope, month, day, user)
