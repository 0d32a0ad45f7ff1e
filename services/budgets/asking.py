"""Asking where budgets stand; changes nothing."""

from __future__ import annotations

from typing import cast

from channels.errors import DatabaseUnavailable, OverBudget
from channels.scope import Scope
from services.budgets.ground import Ground, over_budget
from services.budgets.standing import Budget, BudgetCheck, fields_of, read_budget
from services.store.port import Reply
from services.usage.account import Period

__all__ = ["Asking"]

_ATTEMPTS = 16


class Asking:
    """Reads budgets."""

    __slots__ = ("_ground",)

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def read(self, scopes: tuple[Scope, ...]) -> list[Budget]:
        """Return the budgets of ``scopes``, all of them known and up to date.

        Raises:
            StoreError, DatabaseUnavailable: that cannot be told.
        """
        ground = self._ground
        period = ground.period(ground.context.clock.now_ms())
        marks: dict[Scope, str] = {}
        for _ in range(_ATTEMPTS):
            budgets: list[Budget] = []
            strange: list[Scope] = []
            changing: list[Scope] = []
            for scope, values in zip(scopes, await self._accounts(scopes, period), strict=True):
                *fields, mark = values
                found = read_budget(scope, ground.rule(scope), period.month, period.day, fields)
                if found is None:
                    strange.append(scope)
                    continue
                if isinstance(mark, bytes) and mark.decode() != marks.get(scope):
                    changing.append(scope)
                budgets.append(found)
            if not strange and not changing:
                return budgets
            await ground.seed(strange, period.month)
            for scope in changing:
                marks[scope] = await ground.limits.refresh(scope, period)
        raise DatabaseUnavailable("where the budget stands cannot be told without the database")

    async def _accounts(self, scopes: tuple[Scope, ...], period: Period) -> list[list[Reply]]:
        store, fields = self._ground.context.store, (*fields_of(period.day_of_month), "x")
        keys = self._ground.account_keys(scopes, period.month)
        if len(keys) == 1:
            return [cast("list[Reply]", await store.execute("HMGET", keys[0], *fields))]
        replies = await store.pipeline([("HMGET", key, *fields) for key in keys])
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return cast("list[list[Reply]]", replies)

    def denial(self, check: BudgetCheck) -> OverBudget:
        """Return the error that says which budget would not allow it; counts it."""
        unit = check.denied_unit
        denied = next(one for one in check.budgets if one.scope == check.denied_by)
        line = denied.month if unit == "micro_usd" else denied.day
        need = (check.estimated_micro_usd, check.estimated_tokens)
        period = Period(denied.month.period, denied.day.period)
        scope, limit = Scope.parse(denied.scope), line.limit or 0
        self._ground.count_denied(scope)
        return over_budget(scope, unit, period, limit, line.remaining or 0, need)
