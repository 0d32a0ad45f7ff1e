"""Limits: kept in the database, followed at once, healed after a crash; accounts are seeded."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import insert, select

from channels.catalogue import Catalogue
from channels.errors import BadRequest, DatabaseUnavailable, NotAvailable, OverBudget
from channels.scope import Scope
from services.budgets.settings import BudgetRule, BudgetSettings
from services.clock import Clock
from services.context import Context
from services.database.tables import (
    ORGANISATIONS,
    USAGE_EVENTS,
    USAGE_RECORDS,
    USERS,
    WORKSPACES,
)

from ..accounts import HandClock
from .support import USD, account, events_of, make_budgets, rules


@pytest.fixture
def context(tcp_store, keys, any_database, clock):
    """The ground, with a database of each kind."""
    return Context(
        tcp_store,
        keys,
        Catalogue(),
        clock=Clock(tcp_store, now=clock),
        database=any_database,
    )


async def used_before(database, cost: int) -> None:
    """Have the database know what ann used this month, and whose workspace it is."""
    now = datetime(2027, 1, 3, tzinfo=UTC)
    async with database.begin() as connection:
        await connection.execute(insert(USERS).values(id="ann", budget_limit_monthly_micro_usd=USD))
        await connection.execute(insert(WORKSPACES).values(id="w1", organisation_id="acme"))
        await connection.execute(
            insert(ORGANISATIONS).values(id="acme", budget_limit_monthly_micro_usd=2 * USD)
        )
        await connection.execute(
            insert(USAGE_RECORDS).values(
                user_id="ann",
                workspace_id="w1",
                organisation_id="acme",
                date=date(2027, 1, 3),
                agent="a",
                model="m",
                tokens_input=1,
                tokens_output=1,
                cost_micro_usd=cost,
                requests=1,
                updated_at=now,
            )
        )


async def test_the_first_callers_of_a_stranger_do_not_slip_through(context):
    """Nobody knows the account yet, forty come at once: the database says what is left."""
    await used_before(context.database, 800_000)
    budgets = make_budgets(context)
    calls = [budgets.reserve("ann", "w1", estimated_cost="0.05") for _ in range(40)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in found) == 4
    assert await account(budgets, "org:acme") == (800_000, 200_000, 0, 4)


async def test_nothing_is_granted_while_nobody_knows_what_was_used(context):
    """The database is away: refused, not assumed to be zero; what was used is counted."""
    await used_before(context.database, 999_999)
    budgets = make_budgets(context)
    hold = await budgets.reserve("ann", "w1", estimated_cost=0)
    await context.database.close()
    url, context.database.engine = context.database.engine, _Gone()
    for scope in hold.scopes:
        await context.store.execute("DEL", context.keys.account(scope, hold.month))
    with pytest.raises(DatabaseUnavailable):
        await budgets.reserve("ann", "w1", organisation="acme", estimated_cost="0.01")
    with pytest.raises(DatabaseUnavailable):
        await budgets.check_budget("ann", "0.01")
    assert (await budgets.commit(hold, "0.02")).charged_micro_usd == 20_000
    context.database.engine = url


class _Gone:
    """An engine whose database is not there."""

    def connect(self):
        raise OSError("away")

    async def dispose(self) -> None:
        """Nothing to close."""


async def test_a_limit_is_changed_at_once_and_for_good(context, clock):
    """The account follows, the database keeps it, and the next month begins with it."""
    budgets = make_budgets(context, rules(user=USD))
    with pytest.raises(OverBudget):
        await budgets.reserve("ann", "w1", estimated_cost=2)
    budget = await budgets.set_limit("user:ann", monthly="5", daily_tokens=10)
    assert (budget.month.limit, budget.day.limit) == (5 * USD, 10)
    await budgets.reserve("ann", "w1", estimated_cost=2)
    async with context.database.begin(write=False) as connection:
        row = (await connection.execute(select(USERS).where(USERS.c.id == "ann"))).one()
    assert (row.budget_limit_monthly_micro_usd, row.token_limit_daily) == (5 * USD, 10)
    budget = await budgets.set_limit(Scope("user", "ann"), daily_tokens=None)
    assert (budget.month.limit, budget.day.limit) == (5 * USD, None)
    clock.forward(31 * 86_400)
    assert (await budgets.get_budget("user:ann")).month.limit == 5 * USD
    assert (await budgets.set_limit("user:ann", monthly=None)).month.limit == USD
    assert (await budgets.set_limit("user:ann", monthly=0)).month.limit == 0
    with pytest.raises(OverBudget):
        await budgets.reserve("ann", "w1", estimated_cost=0)


async def test_an_organisation_is_limited_for_all_its_users(context):
    """Workspace and organisation have limits of their own."""
    await used_before(context.database, 0)
    budgets = make_budgets(context, BudgetSettings(user=BudgetRule()))
    await budgets.set_limit("org:acme", monthly="0.1")
    await budgets.set_limit("workspace:w2", monthly="0.05")
    await budgets.reserve("bob", "w1", estimated_cost="0.08")
    with pytest.raises(OverBudget) as denied:
        await budgets.reserve("eve", "w1", estimated_cost="0.03")
    assert denied.value.scope == "org:acme"
    with pytest.raises(OverBudget) as denied:
        await budgets.reserve("eve", "w2", estimated_cost="0.06")
    assert denied.value.scope == "workspace:w2"


async def test_a_raised_limit_takes_back_what_was_told(context):
    """Reached again, it is told again; a lowered one is told at once."""
    budgets = make_budgets(context, rules(user=USD))
    await budgets.commit(await budgets.reserve("ann", "w1", estimated_cost=1), "0.9")
    assert (await budgets.get_budget("user:ann")).month.told == 80
    assert (await budgets.set_limit("user:ann", monthly=10)).month.told == 0
    await budgets.commit(await budgets.reserve("ann", "w1", estimated_cost=5), 5)
    await budgets.set_limit("user:ann", monthly="5.9")
    told = [
        (kind, data.get("percent"), data["limit_micro_usd"])
        for kind, data in await events_of(context, "usage:ann")
        if kind in {"budget.threshold", "budget.exceeded"}
    ]
    assert told == [
        ("budget.threshold", 80, USD),
        ("budget.threshold", 50, 10 * USD),
        ("budget.exceeded", None, 5_900_000),
    ]


@pytest.mark.parametrize("step", ["before the commit", "after the commit", "reading"])
async def test_a_crash_while_a_limit_changes_heals(context, clock, monkeypatch, step):
    """Wherever it dies, what the database has in the end is what holds."""
    budgets = make_budgets(context, rules(user=USD))
    await budgets.get_budget("user:ann")
    limits = budgets._ground.limits
    if step == "reading":
        monkeypatch.setattr(type(limits), "read", _crash)
    elif step == "after the commit":
        marks = [limits._mark]

        async def once(self, *args):
            return await marks.pop()(*args)

        monkeypatch.setattr(type(limits), "_mark", once)
    else:
        monkeypatch.setattr("services.budgets.limits.sqlite_insert", _crash_now)
        monkeypatch.setattr("services.budgets.limits.postgresql_insert", _crash_now)
    with pytest.raises((RuntimeError, IndexError)):
        await budgets.set_limit("user:ann", monthly="0.1")
    monkeypatch.undo()
    expected = USD if step == "before the commit" else 100_000
    if expected == 100_000:
        with pytest.raises(OverBudget):
            await budgets.reserve("ann", "w1", estimated_cost="0.5")
    else:
        await budgets.release(await budgets.reserve("ann", "w1", estimated_cost="0.5"))
    assert (await budgets.get_budget("user:ann")).month.limit == expected
    key = context.keys.account(Scope("user", "ann"), "2027-01")
    assert await context.store.execute("HEXISTS", key, "x")
    clock.forward(121)
    assert (await budgets.get_budget("user:ann")).month.limit == expected
    assert not await context.store.execute("HEXISTS", key, "x")


async def _crash(*args: object) -> None:
    raise RuntimeError("crash")


def _crash_now(*args: object) -> None:
    raise RuntimeError("crash")


async def test_limits_that_are_changed_at_once_agree_with_the_database(context):
    """Ten changes race; account and database have the same in the end, and no mark is left."""
    budgets = make_budgets(context, rules(user=USD))
    await budgets.get_budget("user:ann")
    changes = (
        budgets.set_limit("user:ann", monthly_micro_usd=one * 1000, daily_tokens=one)
        for one in range(1, 11)
    )
    await asyncio.gather(*changes)
    stored = await budgets._ground.limits.read(Scope("user", "ann"))
    key = context.keys.account(Scope("user", "ann"), "2027-01")
    found = await context.store.execute("HMGET", key, "L", "D", "x")
    assert found == [b"%d" % stored[0], b"%d" % stored[1], None]


@pytest.mark.parametrize("begun", [False, True])
async def test_who_read_the_old_limits_reads_again(context, monkeypatch, begun):
    """An account is being seeded, or completed after an outage, while its limit changes."""
    await used_before(context.database, 0)
    budgets, limits = make_budgets(context), make_budgets(context)
    seeder = budgets._ground.usage.seeder
    read, has_read, go_on = type(seeder)._read, asyncio.Event(), asyncio.Event()

    async def none(self, *_):
        return None

    async def slowly(self, *args):
        found = await read(self, *args)
        if self is seeder and not has_read.is_set():
            has_read.set()
            await go_on.wait()
        return found

    if begun:
        monkeypatch.setattr(type(seeder), "_read", none)
        await seeder.seed(Scope("user", "ann"), "2027-01")
    monkeypatch.setattr(type(seeder), "_read", slowly)
    first = asyncio.create_task(budgets.check_budget("ann"))
    await has_read.wait()
    # The other one's own seeding must not come first.
    change = asyncio.create_task(
        limits._ground.limits.change(
            Scope("user", "ann"), limits._period(), {"budget_limit_monthly_micro_usd": 5}
        )
    )
    await change
    go_on.set()
    await first
    assert (await budgets.get_budget("user:ann")).month.limit == 5
    with pytest.raises(OverBudget):
        await budgets.reserve("ann", "w1", estimated_cost="0.05")


async def test_a_limit_holds_for_a_month_that_is_about_to_begin(context, clock):
    """Its accounts may have begun before: what was used a minute ahead is in them."""
    clock.at_s = datetime(2027, 1, 31, 23, 59, tzinfo=UTC).timestamp()
    await used_before(context.database, 0)
    budgets = make_budgets(context)
    at = datetime(2027, 2, 1, tzinfo=UTC)
    await budgets._ground.usage.record_usage("ann", "w1", 1, 1, 0, occurred_at=at)
    await budgets.set_limit("user:ann", monthly="0.02")
    clock.forward(120)
    assert (await budgets.get_budget("user:ann")).month.limit == 20_000


async def test_limits_without_a_database_are_those_of_the_rules(tcp_store, keys):
    """There is nowhere to keep others, and that is said."""
    bare = Context(tcp_store, keys, Catalogue(), clock=Clock(tcp_store, now=HandClock()))
    budgets = make_budgets(bare, rules(user=USD))
    assert (await budgets.get_budget("user:ann")).month.limit == USD
    with pytest.raises(NotAvailable):
        await budgets.set_limit("user:ann", monthly=1)


async def test_what_is_no_limit_is_refused(context):
    """Nothing named, no amount, no scope."""
    budgets = make_budgets(context)
    for call in (
        budgets.set_limit("user:ann"),
        budgets.set_limit("user:ann", monthly=-2),
        budgets.set_limit("user:ann", daily_tokens=2**53),
        budgets.set_limit("ann", monthly=1),
        budgets.get_budget(Scope("user", "a:b")),
    ):
        with pytest.raises(BadRequest):
            await call


async def test_what_is_charged_comes_into_the_database_once(context):
    """A retried commit is one event there; an account that is lost begins with it."""
    await used_before(context.database, 100_000)
    budgets = make_budgets(context)
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.3")
    await asyncio.gather(*(budgets.commit(hold, "0.2", tokens_output=7) for _ in range(5)))
    assert await budgets._ground.usage.drain("ann") == 1
    await budgets.commit(hold, "0.2", tokens_output=7)
    assert await budgets._ground.usage.drain("ann") == 0
    async with context.database.begin(write=False) as connection:
        events = (await connection.execute(select(USAGE_EVENTS))).all()
    assert [(one.cost_micro_usd, one.tokens_output) for one in events] == [(200_000, 7)]
    for scope in hold.scopes:
        await context.store.execute("DEL", context.keys.account(scope, hold.month))
        assert await account(budgets, str(scope)) == (300_000, 0, 7, 0)
