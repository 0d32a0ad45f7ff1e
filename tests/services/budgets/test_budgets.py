"""Reserving, extending, committing, releasing: never more than there is, and each once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from channels.errors import BadRequest, Conflict, LimitExceeded, NotFound, OverBudget
from channels.event import EventDecoder
from channels.scope import Scope
from services.budgets.settings import BudgetRule, BudgetSettings

from ..accounts import HandClock, context_of
from .support import USD, account, events_of, make_budgets, rules


async def test_a_hundred_callers_get_what_there_is(budgets):
    """Each asks for a twentieth: twenty are granted, whatever the order."""
    calls = [budgets.reserve("ann", "w1", estimated_cost="0.05") for _ in range(100)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in found) == 20
    assert sum(isinstance(one, OverBudget) for one in found) == 80
    assert await account(budgets, "user:ann") == (0, USD, 0, 20)
    assert budgets.stats.reserved == 20
    assert budgets.stats.denied_user == 80


async def test_the_tightest_of_three_budgets_decides_and_nothing_else_is_touched(context):
    """The organisation says no: user and workspace have nothing set aside for it."""
    budgets = make_budgets(context, rules(user=USD, workspace=USD, org=USD // 10))
    who = {"workspace": "w1", "organisation": "acme"}
    await budgets.reserve("ann", **who, estimated_cost="0.06")
    with pytest.raises(OverBudget) as denied:
        await budgets.reserve("bob", **who, estimated_cost="0.05")
    assert denied.value.details == {
        "scope": "org:acme",
        "unit": "micro_usd",
        "period": "2027-01",
        "limit": 100_000,
        "remaining": 40_000,
        "required": 50_000,
    }
    assert (await account(budgets, "user:bob"))[1] == 0
    assert (await account(budgets, "workspace:w1"))[1] == 60_000
    assert budgets.stats.denied_org == 1


async def test_a_commit_charges_and_gives_the_rest_back(context, budgets):
    """All three accounts, both events, once; what was not used is free again."""
    hold = await budgets.reserve("ann", "w1", organisation="acme", estimated_cost="0.5")
    assert hold.budgets[0].month.remaining == 500_000
    done = await budgets.commit(
        hold, "0.2", tokens_input=100, tokens_output=50, agent="writer", model="m"
    )
    assert (done.charged_micro_usd, done.returned_micro_usd) == (200_000, 300_000)
    assert (done.late, done.duplicate, done.overage_micro_usd) == (False, False, 0)
    for scope in ("user:ann", "workspace:w1", "org:acme"):
        assert await account(budgets, scope) == (200_000, 0, 150, 0)
    kinds = [(kind, data) for kind, data in await events_of(context, "usage:ann")]
    assert [kind for kind, _ in kinds] == ["budget.reserved", "usage.recorded", "budget.released"]
    assert kinds[1][1]["cost_micro_usd"] == 200_000
    freed = kinds[2][1]
    assert (freed["reason"], freed["amount_micro_usd"]) == ("committed", 500_000)
    assert (freed["spent_micro_usd"], freed["reserved_micro_usd"]) == (200_000, 0)
    usage = await budgets._ground.usage.get_daily_usage("ann")
    assert usage.requests == 1


async def test_a_retry_storm_charges_once(context, budgets):
    """The same reservation and the same commit, forty times at once and once more."""
    reserving = [
        budgets.reserve("ann", "w1", estimated_cost="0.1", hold_id="h1") for _ in range(20)
    ]
    holds = await asyncio.gather(*reserving)
    assert {hold.amount_micro_usd for hold in holds} == {100_000}
    assert (await account(budgets, "user:ann"))[1] == 100_000
    commits = await asyncio.gather(*(budgets.commit("ann:h1", "0.07") for _ in range(20)))
    again = await budgets.commit(holds[0], "0.09")
    assert sum(not done.duplicate for done in commits) == 1
    assert again.duplicate
    assert again.charged_micro_usd == 70_000
    assert (await account(budgets, "user:ann"))[:2] == (70_000, 0)
    assert budgets.stats.committed == 1
    assert len(await events_of(context, "usage:ann")) == 3


async def test_an_event_that_was_counted_is_not_charged_again(budgets):
    """Counted by record_usage under its id, a commit with that id only settles the hold."""
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.1")
    await budgets._ground.usage.record_usage("ann", "w1", 1, 1, "0.03", "a", event_id="e1")
    done = await budgets.commit(hold, "0.03", tokens_input=1, tokens_output=1, event_id="e1")
    assert done.duplicate
    assert await account(budgets, "user:ann") == (30_000, 0, 2, 0)


@pytest.mark.parametrize("actual", [{"actual_cost": "0.04"}, {"tokens_input": 2}])
async def test_an_event_id_of_something_else_does_not_settle_a_hold(budgets, actual):
    """Two holds committed under one id by mistake: the second one says so, and can be charged."""
    first, second = [await budgets.reserve("ann", "w1", estimated_cost="0.1") for _ in range(2)]
    used = {"actual_cost": "0.03", "tokens_input": 1}
    await budgets.commit(first, **used, event_id="e1")
    with pytest.raises(Conflict):
        await budgets.commit(second, **used | actual, event_id="e1")
    assert await account(budgets, "user:ann") == (30_000, 100_000, 1, 1)
    done = await budgets.commit(second, **used | actual, event_id="e2")
    assert not done.duplicate


async def test_overage_is_charged_and_the_next_is_denied(budgets):
    """More than was set aside is charged and said; hard budgets say no from then on."""
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.9")
    done = await budgets.commit(hold, "1.5")
    assert done.overage_micro_usd == 600_000
    assert budgets.stats.overage == 1
    with pytest.raises(OverBudget) as denied:
        await budgets.reserve("ann", "w1", estimated_cost=0)
    assert denied.value.remaining == -500_000


@pytest.mark.parametrize(
    ("rule", "granted"),
    [
        (BudgetRule(monthly_micro_usd=USD), 10),
        (BudgetRule(monthly_micro_usd=USD, mode="soft", overdraft_percent=20), 12),
        (BudgetRule(monthly_micro_usd=USD, mode="soft", overdraft_micro_usd=300_000), 13),
        (BudgetRule(monthly_micro_usd=USD, mode="track"), 15),
        (BudgetRule(), 15),
        (BudgetRule(monthly_micro_usd=0), 0),
    ],
)
async def test_the_rule_says_how_far_a_budget_goes(context, rule, granted):
    """Hard, overdrawn by a share or an amount, tracked, without limit, and nothing at all."""
    budgets = make_budgets(context, BudgetSettings(user=rule))
    many = 0
    for _ in range(15):
        check = await budgets.check_budget("ann", "0.1")
        try:
            await budgets.reserve("ann", "w1", estimated_cost="0.1")
        except OverBudget:
            assert not check.can_afford
            continue
        assert check.can_afford
        many += 1
    assert many == granted


async def test_a_budget_of_its_own_rule(context):
    """What is set for one budget by name holds for it alone."""
    settings = BudgetSettings(
        user=BudgetRule(monthly_micro_usd=USD), budgets={"user:eve": BudgetRule(mode="track")}
    )
    budgets = make_budgets(context, settings)
    await budgets.reserve("eve", "w1", estimated_cost=5)
    with pytest.raises(OverBudget):
        await budgets.reserve("ann", "w1", estimated_cost=5)


async def test_tokens_of_the_day_are_a_limit_too(context, clock):
    """They end with the day, and what is set aside with them."""
    rule = BudgetRule(daily_tokens=1000)
    budgets = make_budgets(context, BudgetSettings(user=rule))
    hold = await budgets.reserve("ann", "w1", estimated_cost=0, estimated_tokens=600)
    with pytest.raises(OverBudget) as denied:
        await budgets.reserve("ann", "w1", estimated_cost=0, estimated_tokens=500)
    assert (denied.value.unit, denied.value.period) == ("tokens", "2027-01-15")
    await budgets.commit(hold, 0, tokens_input=900, tokens_output=100)
    with pytest.raises(OverBudget):
        await budgets.reserve("ann", "w1", estimated_cost=0)  # unknown tokens are some
    clock.forward(86_400)
    await budgets.reserve("ann", "w1", estimated_cost=0, estimated_tokens=1000)


async def test_a_cost_that_is_not_known_is_not_nothing(context):
    """The price of the tokens, else the floor; and what was set aside when it is charged."""

    def price(model: str, tokens_input: int, tokens_output: int) -> Decimal | None:
        return Decimal(tokens_input + tokens_output) / 1000 if model == "known" else None

    budgets = make_budgets(context, rules(user=USD), price=price)
    hold = await budgets.reserve("ann", "w1", model="known", estimated_tokens=50)
    assert hold.amount_micro_usd == 50_000
    done = await budgets.commit(hold, model="known", tokens_input=10, tokens_output=20)
    assert done.charged_micro_usd == 30_000
    hold = await budgets.reserve("ann", "w1", model="strange", estimated_tokens=50)
    assert hold.amount_micro_usd == 10_000
    done = await budgets.commit(hold, model="strange", tokens_output=2000)
    assert done.charged_micro_usd == 10_000
    tries = [budgets.reserve("ann", "w1", model="strange") for _ in range(200)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in found) == 96


async def test_a_hold_is_extended_or_left_as_it_was(context, budgets):
    """More is asked of the same budgets; a repeated question is answered once."""
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.4", hold_id="h1")
    one = await budgets.extend(hold, "0.3", more_tokens=5, op_id="o1")
    two = await budgets.extend(hold, "0.3", more_tokens=5, op_id="o1")
    assert one.amount_micro_usd == two.amount_micro_usd == 700_000
    with pytest.raises(OverBudget) as denied:
        await budgets.extend(hold, "0.4")
    assert denied.value.remaining == 300_000
    assert (await budgets.get_hold(hold)).amount_micro_usd == 700_000
    assert await account(budgets, "user:ann") == (0, 700_000, 0, 6)
    assert (await budgets.reserve("ann", "w1", estimated_cost="0.4", hold_id="h1")).state == "open"
    told = [data["amount_micro_usd"] for _, data in await events_of(context, "usage:ann")]
    assert told == [400_000, 700_000]


async def test_a_hold_is_over_once(budgets):
    """Released, it gives back once, cannot be extended or renewed, and its id is used up."""
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.4", hold_id="h1")
    assert await budgets.release("h1", user="ann")
    assert not await budgets.release(hold)
    assert (await account(budgets, "user:ann"))[1] == 0
    for call in (budgets.extend(hold, "0.1"), budgets.renew(hold)):
        with pytest.raises(Conflict, match="is released"):
            await call
    with pytest.raises(Conflict, match="an id of its own"):
        await budgets.reserve("ann", "w1", estimated_cost="0.4", hold_id="h1")
    # What was used after all is charged, late.
    assert (await budgets.commit(hold, "0.1")).late


async def test_what_is_not_renewed_ends_and_is_told(context, budgets, clock):
    """A renewed hold lives on; one that expired is free, and says so."""
    await budgets.reserve("ann", "w1", estimated_cost="0.4", hold_id="lost", ttl_s=60)
    kept = await budgets.reserve("ann", "w1", estimated_cost="0.3", hold_id="kept", ttl_s=60)
    clock.forward(50)
    await budgets.renew(kept, ttl_s=60)
    clock.forward(15)
    await context.sweeper.sweep()
    assert (await account(budgets, "user:ann"))[1] == 300_000
    kind, data = (await events_of(context, "usage:ann"))[-1]
    assert (kind, data["hold"], data["reason"]) == ("budget.released", "lost", "expired")
    assert budgets.stats.expired == 1
    clock.forward(50)
    await context.sweeper.sweep()
    assert (await account(budgets, "user:ann"))[1] == 0


async def test_a_hold_outlives_weeks_without_a_hub(context, budgets):
    """Nobody ends it meanwhile; gone before that, it would stay set aside for ever."""
    month_ms, key = 31 * 86_400_000, context.keys.hold("ann", "h1")
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.2", hold_id="h1")
    assert await context.store.execute("PTTL", key) > month_ms
    await budgets.renew(hold, ttl_s=600)
    assert await context.store.execute("PTTL", key) > month_ms
    await budgets.extend(hold, "0.1", ttl_s=1200)
    assert await context.store.execute("PTTL", key) > month_ms
    await budgets.release(hold)
    assert 0 < await context.store.execute("PTTL", key) < month_ms


async def test_a_late_commit_is_charged_and_says_so(context, budgets, clock):
    """Also when nothing is known of the hold any more but what the caller has."""
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.4", ttl_s=60)
    clock.forward(61)
    await context.sweeper.sweep()
    done = await budgets.commit(hold, "0.3")
    assert (done.late, done.duplicate) == (True, False)
    assert (await account(budgets, "user:ann"))[:2] == (300_000, 0)
    assert (await events_of(context, "usage:ann"))[-1][1]["late"] is True
    lost = await budgets.reserve("ann", "w1", estimated_cost="0.2")
    await context.store.execute("DEL", context.keys.hold("ann", lost.id))
    assert (await budgets.commit(lost, "0.1")).late
    assert (await account(budgets, "user:ann"))[0] == 400_000
    assert budgets.stats.late == 2


async def test_a_hold_that_expired_is_asked_for_anew(context, budgets, clock):
    """All of it, and only if there still is so much."""
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.6", ttl_s=60)
    clock.forward(61)
    await context.sweeper.sweep()
    other = await budgets.reserve("ann", "w1", estimated_cost="0.5")
    with pytest.raises(OverBudget):
        await budgets.extend(hold)
    await budgets.release(other)
    assert (await budgets.extend(hold)).state == "open"
    assert (await account(budgets, "user:ann"))[1] == 600_000


@pytest.mark.parametrize("seed", range(8))
async def test_expiry_meets_commit_in_the_same_millisecond(context, budgets, clock, seed):
    """Whichever is first: charged once, nothing stays set aside."""
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.4", ttl_s=60)
    clock.forward(60)
    calls = [budgets.commit(hold, "0.4"), context.sweeper.sweep()]
    await asyncio.gather(*(calls if seed % 2 else reversed(calls)))
    assert (await account(budgets, "user:ann"))[:2] == (400_000, 0)
    assert await context.store.execute("ZCARD", context.keys.due("ann")) == 0


async def test_a_hold_belongs_to_the_period_it_was_made_in(context, keys, any_store):
    """Reserved in December of the billing zone, used in January: each in its own month."""
    clock = HandClock(datetime(2027, 1, 1, 4, 59, tzinfo=UTC).timestamp())
    context = context_of(any_store, keys, clock)
    budgets = make_budgets(context, rules(user=USD), time_zone="America/New_York")
    hold = await budgets.reserve("ann", "w1", estimated_cost=1)
    assert hold.month == "2026-12"
    clock.forward(120)
    assert (await account(budgets, "user:ann"))[:2] == (0, 0)  # the limit of a new month
    await budgets.commit(hold, "0.4")
    assert (await account(budgets, "user:ann"))[:2] == (400_000, 0)
    december = keys.account(Scope("user", "ann"), "2026-12")
    assert await any_store.execute("HMGET", december, "c", "r") == [None, b"0"]
    with pytest.raises(OverBudget):
        await budgets.reserve("ann", "w1", estimated_cost="0.7")


async def test_tenants_do_not_meet(context, budgets):
    """The same ids under another user are other holds; names with separators are refused."""
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.4", hold_id="h1")
    await budgets.reserve("bob", "w1", estimated_cost="0.4", hold_id="h1")
    assert await budgets.release("bob:h1")
    assert (await budgets.get_hold(hold)).state == "open"
    with pytest.raises(NotFound):
        await budgets.commit("eve:h1", "0.1")
    assert not await budgets.release("eve:h1")
    for name, user in (("h1", ""), ("ann:h1", "bob"), ("a}b:h1", ""), ("ann:h1:x", "")):
        with pytest.raises(BadRequest):
            await budgets.release(name, user=user)
    for user, workspace, hold_id in (("a:b", "w1", "h"), ("ann", "", "h"), ("ann", "w1", "a|b")):
        with pytest.raises(BadRequest):
            await budgets.reserve(user, workspace, estimated_cost=0, hold_id=hold_id)


async def test_amounts_are_amounts(context, budgets):
    """Neither negative nor infinite, and no sum beyond what numbers hold."""
    for cost in (-1, "nan", float("inf"), True, 2**60):
        with pytest.raises(BadRequest):
            await budgets.reserve("ann", "w1", estimated_cost=cost)
    budgets.settings = BudgetSettings(user=BudgetRule())
    most = 2**53 - 1
    await budgets.reserve("ann", "w1", estimated_micro_usd=most)
    with pytest.raises(LimitExceeded):
        await budgets.reserve("ann", "w1", estimated_micro_usd=1)
    for ttl_s in (0, 1e9, float("nan")):
        with pytest.raises(BadRequest):
            await budgets.reserve("ann", "w1", estimated_cost=0, ttl_s=ttl_s)


async def test_check_and_enforce_say_what_the_seed_said(budgets):
    """The same keys; and an error with everything a client needs."""
    await budgets.commit(await budgets.reserve("ann", "w1", estimated_cost="0.25"), "0.25")
    check = await budgets.check_budget("ann", 0.5)
    assert (check.can_afford, check.budget_limit, check.current_usage) == (True, 1.0, 0.25)
    assert (check.remaining, check.estimated_cost) == (0.75, 0.5)
    with pytest.raises(OverBudget, match=r"0\.750000 of 1\.000000 USD left") as denied:
        await budgets.enforce_budget("ann", 0.76, workspace="w1")
    assert denied.value.http_status == 402
    assert denied.value.required == 760_000
    assert (await budgets.enforce_budget("ann", 0.75)).can_afford


async def test_an_account_that_was_lost_does_not_owe_what_it_had_set_aside(context, budgets):
    """Its holds are not taken from what its successor has set aside."""
    lost = await budgets.reserve("ann", "w1", estimated_cost="0.4")
    await context.store.execute("DEL", context.keys.account(Scope("user", "ann"), lost.month))
    kept = await budgets.reserve("ann", "w1", estimated_cost="0.3")
    await budgets.release(lost)
    assert (await account(budgets, "user:ann"))[1] == 300_000
    assert (await account(budgets, "workspace:w1"))[1] == 300_000
    await budgets.commit(kept, "0.1")
    assert (await account(budgets, "user:ann"))[:2] == (100_000, 0)


async def test_a_refund_makes_room_and_every_event_can_be_read(context, budgets):
    """More was taken back than was used: sums go below zero, events do not."""
    await budgets._ground.usage.correct(
        "ann", "w1", correction_id="c1", reason="refund", cost_usd="-0.5"
    )
    hold = await budgets.reserve("ann", "w1", estimated_cost="1.4")
    await budgets.extend(hold, "0.1")
    await budgets.commit(hold, "0.2")
    page = await context.log.read(context.catalogue.find("usage:ann"))
    channel = context.catalogue.find("usage:ann")
    decoder = EventDecoder(channel.declaration.events)
    told = [
        decoder.decode(msgspec.json.decode(one.object, type=Told).data) for one in page.publications
    ]
    assert len(told) == 5
    assert (await account(budgets, "user:ann"))[:2] == (-300_000, 0)


async def test_ids_like_the_numbers_of_scripts_are_told_as_they_are(context, budgets):
    """An id may hold what stands for a number until the script knows it."""
    ids = ["731926540187301", "731926540187306", "x731926540187302731926540187303"]
    for hold_id in ids:
        await budgets.release(
            await budgets.reserve("ann", hold_id, estimated_cost="0.1", hold_id=hold_id)
        )
    events = await events_of(context, "usage:ann")
    assert [data["hold"] for _, data in events] == [one for one in ids for _ in range(2)]
    assert {data["amount_micro_usd"] for _, data in events} == {100_000}
    assert [data["reserved_micro_usd"] for _, data in events] == [100_000, 0] * 3


class Told(msgspec.Struct):
    """A publication as it is kept."""

    data: msgspec.Raw
