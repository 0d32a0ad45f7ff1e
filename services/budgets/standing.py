"""Where a budget stands: what may be used, what was, and what is set aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import msgspec

from channels.scope import Scope
from services.budgets.settings import BudgetRule
from services.store.port import Reply

__all__ = ["Budget", "BudgetCheck", "Line", "Unit", "fields_of", "read_budget", "standings"]

Unit = Literal["micro_usd", "tokens"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One limit: money of a month, or tokens of a day.

    ``remaining`` is the limit less what was used and what is set aside, below 0 when it is
    overdrawn; it and ``limit`` are None where there is no limit. ``told`` is the highest
    percentage that was told in this period.
    """

    unit: Unit
    period: str
    limit: int | None
    spent: int
    reserved: int
    remaining: int | None
    told: int = 0

    def untold(self, thresholds: Sequence[int]) -> bool:
        """Tell whether a share of the limit is used that was not told."""
        limit = self.limit
        return (
            limit is not None
            and self.spent > 0
            and any(one > self.told and self.spent * 100 >= one * limit for one in thresholds)
        )

    def allows(self, amount: int, rule: BudgetRule) -> bool:
        """Tell whether so much more would be granted, as the scripts decide it."""
        most = rule.most(self.limit, self.unit)
        if most is None:
            return True
        return most > 0 and self.spent + self.reserved + amount <= most


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The budget of one scope: ``scope`` is ``user:ID``, ``workspace:ID`` or ``org:ID``."""

    scope: str
    mode: Literal["hard", "soft", "track"]
    month: Line
    day: Line


class BudgetCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether something could be afforded when it was asked, in USD; nothing was set aside.

    The amounts are the user's. ``budget_limit`` and ``remaining`` are None where the user has
    no limit. ``denied_by`` is the scope that would not allow it, empty where none would.
    """

    can_afford: bool
    budget_limit: float | None
    current_usage: float
    remaining: float | None
    estimated_cost: float
    estimated_micro_usd: int
    estimated_tokens: int
    denied_by: str
    denied_unit: Unit
    budgets: tuple[Budget, ...]

    @classmethod
    def of(
        cls, budgets: Sequence[Budget], rules: Sequence[BudgetRule], amount: int, tokens: int
    ) -> BudgetCheck:
        """Decide as a reservation would."""
        denied = ""
        unit: Unit = "micro_usd"
        for budget, rule in zip(budgets, rules, strict=True):
            if not budget.month.allows(amount, rule):
                denied = budget.scope
                break
            if not budget.day.allows(tokens, rule):
                denied, unit = budget.scope, "tokens"
                break
        money = budgets[0].month
        return cls(
            can_afford=not denied,
            budget_limit=None if money.limit is None else _usd(money.limit),
            current_usage=_usd(money.spent),
            remaining=None if money.remaining is None else _usd(money.remaining),
            estimated_cost=_usd(amount),
            estimated_micro_usd=amount,
            estimated_tokens=tokens,
            denied_by=denied,
            denied_unit=unit,
            budgets=tuple(budgets),
        )


def fields_of(day: str) -> tuple[str, ...]:
    """Return the fields of an account that :func:`read_budget` reads; ``day`` is ``DD``."""
    return ("seeded", "L", "D", "c", "r", f"{day}:i", f"{day}:o", f"{day}:r", "T", f"{day}:T")


def read_budget(
    scope: Scope, rule: BudgetRule, month: str, day: str, values: Sequence[Reply]
) -> Budget | None:
    """Return a budget out of the :func:`fields_of` of its account; None: it is not seeded."""
    seeded, limit, day_limit, *rest = (cast("bytes | None", value) for value in values)
    if seeded is None or seeded.endswith(b" -1"):
        return None
    spent, reserved, used_in, used_out, day_reserved, told, day_told = (
        int(value or 0) for value in rest
    )
    return _budget(
        scope,
        rule,
        month,
        day,
        (rule.monthly_micro_usd if limit is None else int(limit), spent, reserved, told),
        (
            rule.daily_tokens if day_limit is None else int(day_limit),
            used_in + used_out,
            day_reserved,
            day_told,
        ),
    )


def standings(
    scopes: Sequence[Scope], rules: Sequence[BudgetRule], month: str, day: str, reply: Reply
) -> tuple[Budget, ...]:
    """Return the budgets of ``scopes`` out of what a script replied of them."""
    budgets = []
    for scope, rule, values in zip(scopes, rules, cast("list[list[bytes]]", reply), strict=True):
        limit, spent, reserved, told, day_limit, tokens, day_reserved, day_told = map(int, values)
        budgets.append(
            _budget(
                scope,
                rule,
                month,
                day,
                (None if limit < 0 else limit, spent, reserved, told),
                (None if day_limit < 0 else day_limit, tokens, day_reserved, day_told),
            )
        )
    return tuple(budgets)


def _budget(
    scope: Scope,
    rule: BudgetRule,
    month: str,
    day: str,
    money: tuple[int | None, int, int, int],
    tokens: tuple[int | None, int, int, int],
) -> Budget:
    return Budget(
        scope=str(scope),
        mode=rule.mode,
        month=_line("micro_usd", month, *money),
        day=_line("tokens", day, *tokens),
    )


def _line(unit: Unit, period: str, limit: int | None, spent: int, reserved: int, told: int) -> Line:
    return Line(
        unit=unit,
        period=period,
        limit=limit,
        spent=spent,
        reserved=reserved,
        remaining=None if limit is None else limit - spent - reserved,
        told=told,
    )


def _usd(micro_usd: int) -> float:
    return micro_usd / 1_000_000
