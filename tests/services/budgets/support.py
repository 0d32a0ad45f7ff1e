"""What the tests of budgets share."""

from __future__ import annotations

from typing import Any

import msgspec

from channels.scope import Scope
from services.budgets.budgets import Budgets, install
from services.budgets.settings import BudgetRule, BudgetSettings, Price
from services.context import Context
from services.event_log import MAX_PAGE
from services.usage.settings import UsageSettings
from services.usage.usage_tracker import UsageTracker

__all__ = ["USD", "account", "events_of", "make_budgets", "rules"]

USD = 1_000_000


def rules(**limits: int | None) -> BudgetSettings:
    """Return settings with hard monthly limits by kind; a kind that is not named has none."""
    made = {
        kind: BudgetRule(monthly_micro_usd=limits.get(kind))
        for kind in ("user", "workspace", "org")
    }
    return BudgetSettings(**made)


def make_budgets(
    context: Context,
    settings: BudgetSettings | None = None,
    *,
    price: Price | None = None,
    time_zone: str = "UTC",
) -> Budgets:
    """Return budgets, installed in ``context``."""
    usage = UsageTracker(context, UsageSettings(time_zone=time_zone))
    return install(context, usage, settings, price=price)


async def account(budgets: Budgets, scope: str) -> tuple[int, int, int, int]:
    """Return what a budget says of its month and day: spent, reserved, tokens, reserved."""
    found = await budgets.get_budget(Scope.parse(scope))
    return found.month.spent, found.month.reserved, found.day.spent, found.day.reserved


async def events_of(context: Context, channel: str) -> list[tuple[str, dict[str, Any]]]:
    """Return type and data of the events of ``channel``, oldest first."""
    page = await context.log.read(context.catalogue.find(channel), limit=MAX_PAGE)
    events = [msgspec.json.decode(one.object)["data"] for one in page.publications]
    return [(event["type"], event["data"]) for event in events]
