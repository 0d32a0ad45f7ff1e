"""What an application decides about its budgets."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from channels.scope import Scope
from services.store.port import Argument

__all__ = ["BudgetRule", "BudgetSettings", "Price"]

_Amount = Annotated[int, Meta(ge=0, le=2**53 - 1)]

#: ``price(model, tokens_input, tokens_output)`` in USD; None where it does not know the model.
Price: TypeAlias = Callable[[str, int, int], Decimal | float | int | str | None]


class BudgetRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one budget, or every budget of a kind, is kept.

    The limits hold where the database names none; None is no limit. ``hard`` denies what would
    go over the limit. ``soft`` lets the limit be overdrawn by an amount, a share of it in
    percent, or both together. ``track`` denies nothing; what is reached is told all the same.
    """

    monthly_micro_usd: _Amount | None = None
    daily_tokens: _Amount | None = None
    mode: Literal["hard", "soft", "track"] = "hard"
    overdraft_micro_usd: _Amount = 0
    overdraft_tokens: _Amount = 0
    overdraft_percent: Annotated[float, Meta(ge=0, le=1000)] = 0

    def args(self) -> list[Argument]:
        """Return six arguments of ``read_accounts`` in ``lua/lib/budget.lua``; a mark follows."""
        share = -1 if self.mode == "track" else round(self.overdraft_percent * 100)
        money, tokens = self.overdraft_micro_usd, self.overdraft_tokens
        if self.mode == "hard":
            share = money = tokens = 0
        return [
            *("" if self.monthly_micro_usd is None else self.monthly_micro_usd, money, share),
            *("" if self.daily_tokens is None else self.daily_tokens, tokens, share),
        ]

    def most(self, limit: int | None, unit: Literal["micro_usd", "tokens"]) -> int | None:
        """Return up to where a budget with this limit may be used; None for no end."""
        if limit is None or self.mode == "track":
            return None
        if self.mode == "hard":
            return limit
        extra = self.overdraft_micro_usd if unit == "micro_usd" else self.overdraft_tokens
        return limit + extra + limit * round(self.overdraft_percent * 100) // 10_000


class BudgetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules by kind of scope, those of single budgets by ``kind:id``, and what all share.

    The billing time zone and the thresholds are those of usage (``UsageSettings``).
    """

    user: BudgetRule = BudgetRule(monthly_micro_usd=1_000_000)
    workspace: BudgetRule = BudgetRule()
    org: BudgetRule = BudgetRule()
    #: Rules of single budgets: ``{"org:acme": BudgetRule(mode="track")}``.
    budgets: dict[str, BudgetRule] = {}
    #: What is set aside where nobody can say what a call will cost.
    floor_micro_usd: _Amount = 10_000
    floor_tokens: _Amount = 1
    #: Seconds after which what a process set aside is free again unless it renews it.
    hold_ttl_s: Annotated[float, Meta(ge=1, le=86_400)] = 120.0

    def __post_init__(self) -> None:
        for name in self.budgets:
            Scope.parse(name)

    def rule(self, scope: Scope) -> BudgetRule:
        """Return the rule of the budget of ``scope``."""
        found = self.budgets.get(str(scope)) if self.budgets else None
        if found is not None:
            return found
        if scope.kind == "user":
            return self.user
        return self.workspace if scope.kind == "workspace" else self.org
