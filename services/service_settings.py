"""How the services of an application behave, all together."""

from __future__ import annotations

from typing import NamedTuple

from services.budgets.settings import BudgetSettings, Price
from services.caching.settings import CacheSettings
from services.limits.plans import PlanOf
from services.limits.settings import LimitSettings
from services.usage.settings import UsageSettings

__all__ = ["ServiceSettings"]


class ServiceSettings(NamedTuple):
    """The same for every process that shares a Redis, where it matters.

    ``price(model, tokens_input, tokens_output)`` says what a call of a model costs, where its
    caller does not; ``plan_of(user, workspace)`` which plan's rate limits hold for them.
    """

    usage: UsageSettings = UsageSettings()
    budgets: BudgetSettings = BudgetSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    price: Price | None = None
    plan_of: PlanOf | None = None
