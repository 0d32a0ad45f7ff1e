"""Thresholds: told once a period, to the owner's channel and to the user who reached it."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import StoreRefused
from channels.scope import Scope
from services.budgets.settings import BudgetRule, BudgetSettings

from .support import USD, account, events_of, make_budgets, rules


def told(events):
    """Return what of it is about thresholds."""
    return [
        (kind, data.get("percent"))
        for kind, data in events
        if kind in {"budget.threshold", "budget.exceeded"}
    ]


async def test_each_share_is_told_once(context, budgets):
    """50, 80 and 100 percent, on the way up, and a notification for each."""
    for _ in range(10):
        await budgets.commit(await budgets.reserve("ann", "w1", estimated_cost="0.1"), "0.1")
    for _ in range(2):
        await budgets._ground.usage.record_usage("ann", "w1", 1, 1, "0.1")
    assert told(await events_of(context, "usage:ann")) == [
        ("budget.threshold", 50),
        ("budget.threshold", 80),
        ("budget.exceeded", None),
    ]
    notes = [data for _, data in await events_of(context, "notifications:ann")]
    assert [note["title"] for note in notes] == [
        "50 % of your budget for 2027-01 is used",
        "80 % of your budget for 2027-01 is used",
        "Your budget for 2027-01 is spent",
    ]
    assert [note["level"] for note in notes] == ["warning", "warning", "error"]
    assert {note["ref"] for note in notes} == {"usage:ann"}
    assert budgets.stats.told == 3


async def test_the_highest_of_several_is_told(context, budgets):
    """One call that reaches all of them tells that the budget is spent."""
    await budgets.commit(await budgets.reserve("ann", "w1", estimated_cost=1), 1)
    assert told(await events_of(context, "usage:ann")) == [("budget.exceeded", None)]
    assert (await budgets.get_budget("user:ann")).month.told == 100


async def test_any_number_of_calls_tell_once(context, budgets):
    """Forty at once, for a budget that was reached by one."""
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.6")
    teller = budgets._teller.tell
    context.thresholds.use(_nothing)
    await budgets.commit(hold, "0.6")
    assert told(await events_of(context, "usage:ann")) == []
    context.thresholds.use(teller)
    scope = Scope("user", "ann")
    calls = (context.thresholds.reached(scope, "2027-01", "2027-01-15", "ann") for _ in range(40))
    await asyncio.gather(*calls)
    assert told(await events_of(context, "usage:ann")) == [("budget.threshold", 50)]
    assert len(await events_of(context, "notifications:ann")) == 1


async def _nothing(scope: Scope, month: str, day: str, user: str) -> None:
    return None


async def test_what_was_not_told_is_told_by_who_comes_next(context, budgets):
    """Whoever counted died before telling: a reservation sees it, nothing is lost."""
    teller = budgets._teller.tell
    context.thresholds.use(_nothing)
    await budgets.commit(await budgets.reserve("ann", "w1", estimated_cost="0.6"), "0.6")
    context.thresholds.use(teller)
    await budgets.reserve("ann", "w1", estimated_cost="0.1")
    assert told(await events_of(context, "usage:ann")) == [("budget.threshold", 50)]


async def test_what_was_only_counted_is_told_at_once(context, budgets):
    """Nothing was set aside, and the limit stands in the rules alone: whoever counts tells it."""
    await budgets._ground.usage.record_usage("ann", "w1", 1, 1, "0.85")
    assert told(await events_of(context, "usage:ann")) == [("budget.threshold", 80)]
    await budgets._ground.usage.record_usage("ann", "w1", 1, 1, "0.01")
    assert told(await events_of(context, "usage:ann")) == [("budget.threshold", 80)]


async def test_rules_that_were_replaced_hold_for_what_is_counted_next(context, budgets):
    """Also for a user who was counted today by the old ones."""
    usage = budgets._ground.usage
    await usage.record_usage("ann", "w1", 1, 1, "0.1")
    budgets.settings = rules(user=USD // 5)
    await usage.record_usage("ann", "w1", 1, 1, "0.01")
    assert told(await events_of(context, "usage:ann")) == [("budget.threshold", 50)]


async def test_workspace_and_organisation_have_channels_of_their_own(context):
    """And the user who reached it is notified of both."""
    budgets = make_budgets(context, rules(workspace=USD, org=USD))
    hold = await budgets.reserve("ann", "w1", organisation="acme", estimated_cost="0.9")
    await budgets.commit(hold, "0.9")
    for channel, scope in (("workspace:w1", "workspace:w1"), ("org:acme", "org:acme")):
        ((kind, data),) = await events_of(context, channel)
        assert (kind, data["scope"], data["percent"]) == ("budget.threshold", scope, 80)
        assert (data["limit_micro_usd"], data["spent_micro_usd"]) == (USD, 900_000)
    titles = [data["title"] for _, data in await events_of(context, "notifications:ann")]
    assert titles == [
        "80 % of the workspace w1's budget for 2027-01 is used",
        "80 % of the org acme's budget for 2027-01 is used",
    ]


async def test_tokens_of_a_day_are_told_each_day(context, clock):
    """The day's limit counts anew, and so does what is told of it."""
    budgets = make_budgets(context, BudgetSettings(user=BudgetRule(daily_tokens=100)))
    for _ in range(2):
        hold = await budgets.reserve("ann", "w1", estimated_cost=0, estimated_tokens=60)
        await budgets.commit(hold, 0, tokens_input=30, tokens_output=30)
        clock.forward(86_400)
    events = [
        data for kind, data in await events_of(context, "usage:ann") if kind == "budget.threshold"
    ]
    assert [(one["unit"], one["period"], one["percent"]) for one in events[-1:]] == [
        ("tokens", "2027-01-16", 50)
    ]
    assert (events[-1]["limit_tokens"], events[-1]["spent_tokens"]) == (100, 60)
    assert len(await events_of(context, "notifications:ann")) == 2


@pytest.mark.parametrize("channel", ["usage:ann", "notifications:ann"])
async def test_both_or_neither(context, budgets, channel):
    """Where one of them cannot be told, nothing is marked; it is told when it can."""
    teller = budgets._teller.tell
    context.thresholds.use(_nothing)
    await budgets.commit(await budgets.reserve("ann", "w1", estimated_cost="0.6"), "0.6")
    log = context.keys.log(context.catalogue.find(channel))
    had = await context.store.execute("EXISTS", log)
    if had:
        await context.store.execute("RENAME", log, f"{log}:aside")
    await context.store.execute("SET", log, "no log")
    with pytest.raises(StoreRefused):
        await teller(Scope("user", "ann"), "2027-01", "2027-01-15", "ann")
    assert (await budgets.get_budget("user:ann")).month.told == 0
    assert (await account(budgets, "user:ann"))[0] == 600_000
    await context.store.execute("DEL", log)
    if had:
        await context.store.execute("RENAME", f"{log}:aside", log)
    await teller(Scope("user", "ann"), "2027-01", "2027-01-15", "ann")
    assert told(await events_of(context, "usage:ann"))[-1] == ("budget.threshold", 50)
    assert len(await events_of(context, "notifications:ann")) == 1
