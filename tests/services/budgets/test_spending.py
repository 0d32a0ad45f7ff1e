"""Spending: reserved on entry, charged on exit, whatever happens in between."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import (
    OutcomeUnknown,
    OverBudget,
    StoreRefused,
    StoreUnavailable,
    UsageError,
)
from services.budgets.settings import BudgetRule, BudgetSettings

from .support import USD, account, events_of, make_budgets, rules


async def stream(spending, cost, *, tokens: int = 0, wait: bool = True) -> None:
    """Use so much again and again, until it is told to stop."""
    async with spending as spend:
        for _ in range(1000):
            if wait:
                await spend.use(cost_usd=cost, tokens_output=tokens)
            else:
                spend.add(cost_usd=cost, tokens_output=tokens)
                await asyncio.sleep(0.01)


async def broken(spending, cost) -> None:
    """Use so much, if anything, and break."""
    async with spending as spend:
        if cost is not None:
            spend.add(cost_usd=cost)
        raise RuntimeError("broken")


async def renewed(condition) -> None:
    """Return when what is done in the background is done: it has no event to wait for."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_was_used_is_charged_and_the_rest_is_free(context, budgets):
    """One event of usage with the agent and the model, the hold is settled."""
    async with budgets.spending(
        "ann", "w1", estimated_cost="0.5", agent="writer", model="m"
    ) as spend:
        assert (await account(budgets, "user:ann"))[1] == 500_000
        spend.add(tokens_input=100, cost_usd="0.1", requests=1)
        spend.add(tokens_output=40, cost_micro_usd=50_000, requests=1)
    assert spend.committed.charged_micro_usd == 150_000
    assert await account(budgets, "user:ann") == (150_000, 0, 140, 0)
    (data,) = (
        data for kind, data in await events_of(context, "usage:ann") if kind == "usage.recorded"
    )
    assert (data["agent"], data["model"], data["tokens_output"]) == ("writer", "m", 40)


async def test_a_stream_that_grows_is_extended(budgets):
    """As it is used more is set aside; nothing is used that is not covered."""
    async with budgets.spending("ann", "w1", estimated_cost="0.05") as spend:
        for _ in range(10):
            await spend.use(cost_usd="0.07")
            _, reserved, _, _ = await account(budgets, "user:ann")
            assert reserved >= spend.cost_micro_usd
    assert spend.committed.overage_micro_usd == 0
    assert (await account(budgets, "user:ann"))[:2] == (700_000, 0)
    assert budgets.stats.extended >= 3


async def test_a_stream_over_its_budget_is_stopped_and_charged(budgets):
    """OverBudget comes out of the block; what was used until then is charged."""
    with pytest.raises(OverBudget):
        await stream(spend := budgets.spending("ann", "w1", estimated_cost="0.05"), "0.03")
    # All of the dollar could be used, and the one piece that was told to be too much.
    assert (await account(budgets, "user:ann"))[:2] == (1_020_000, 0)
    assert spend.committed.overage_micro_usd > 0


async def test_adding_does_not_wait_and_stops_as_well(budgets):
    """add() counts at once; when the answer came that there is no more, it raises."""
    with pytest.raises(OverBudget):
        await stream(
            spend := budgets.spending("ann", "w1", estimated_cost="0.9"), "0.3", wait=False
        )
    assert spend.committed.charged_micro_usd < 10 * USD


async def test_tokens_of_the_day_are_followed_where_they_are_limited(context):
    """Streamed tokens are covered too."""
    settings = BudgetSettings(user=BudgetRule(daily_tokens=100))
    budgets = make_budgets(context, settings)
    with pytest.raises(OverBudget) as denied:
        await stream(budgets.spending("ann", "w1", estimated_cost=0), 0, tokens=7)
    assert denied.value.unit == "tokens"
    assert (await account(budgets, "user:ann"))[2:] == (105, 0)


async def test_an_exception_charges_what_was_used(budgets):
    """And sets everything free where nothing was."""
    with pytest.raises(RuntimeError, match="broken"):
        await broken(budgets.spending("ann", "w1", estimated_cost="0.5"), "0.2")
    assert (await account(budgets, "user:ann"))[:2] == (200_000, 0)
    with pytest.raises(RuntimeError, match="broken"):
        await broken(budgets.spending("ann", "w1", estimated_cost="0.5"), None)
    assert (await account(budgets, "user:ann"))[:2] == (200_000, 0)


async def test_a_cancel_charges_what_was_used(budgets):
    """Also when it is cancelled again while it charges."""
    begun = asyncio.Event()

    async def work() -> None:
        async with budgets.spending("ann", "w1", estimated_cost="0.5") as spend:
            spend.add(cost_usd="0.2")
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await account(budgets, "user:ann"))[:2] == (200_000, 0)


async def test_a_block_that_says_nothing_is_charged_what_it_set_aside(budgets):
    """Unknown is not nothing; unless it says so."""
    async with budgets.spending("ann", "w1", estimated_cost="0.2"):
        pass
    assert (await account(budgets, "user:ann"))[:2] == (200_000, 0)
    async with budgets.spending("ann", "w1", estimated_cost="0.2") as spend:
        spend.nothing_used()
    assert (await account(budgets, "user:ann"))[:2] == (200_000, 0)
    assert spend.committed is None


async def test_tokens_are_priced_where_somebody_can(context):
    """What is said of cost holds; without it the price of the tokens does."""
    budgets = make_budgets(context, rules(user=USD), price=lambda _model, i, o: (i + o) / 1000)
    async with budgets.spending("ann", "w1", estimated_tokens=10, model="m") as spend:
        await spend.use(tokens_output=100)
        assert (await account(budgets, "user:ann"))[1] >= 100_000
    assert spend.committed.charged_micro_usd == 100_000


async def later(spend, before) -> bool:
    """Whether the hold ends later than before."""
    return spend.hold.expires_at > before


async def holding(budgets) -> int:
    """What is set aside."""
    return (await account(budgets, "user:ann"))[1]


async def test_it_is_renewed_while_it_lives(context, budgets, clock):
    """A long call keeps its hold; one that was asleep too long gets it back."""
    async with budgets.spending("ann", "w1", estimated_cost="0.5", ttl_s=1) as spend:
        for _ in range(3):
            clock.forward(0.9)
            before = spend.hold.expires_at
            await renewed(lambda before=before: later(spend, before))
            await context.sweeper.sweep()
            assert (await account(budgets, "user:ann"))[1] == 500_000
        clock.forward(5)
        await context.sweeper.sweep()
        await renewed(lambda: holding(budgets))
        spend.add(cost_usd="0.5")
    assert not spend.committed.late
    assert (await account(budgets, "user:ann"))[:2] == (500_000, 0)


@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), OutcomeUnknown("who knows"), StoreRefused("READONLY")]
)
async def test_what_was_used_is_charged_although_redis_was_away(budgets, monkeypatch, error):
    """It is tried again for a while: an answer that was lost is charged once."""
    real, failures = type(budgets).commit, [1, 2, 3]

    async def commit(self, *args, **options):
        if failures:
            failures.pop()
            if isinstance(error, OutcomeUnknown):
                await real(self, *args, **options)
            raise error
        return await real(self, *args, **options)

    monkeypatch.setattr(type(budgets), "commit", commit)
    monkeypatch.setattr("services.budgets.spending._PAUSE_S", 0.01)
    async with budgets.spending("ann", "w1", estimated_cost="0.5") as spend:
        spend.add(cost_usd="0.2")
    assert (await account(budgets, "user:ann"))[:2] == (200_000, 0)


async def test_a_denied_entry_does_nothing(budgets):
    """The block is not run."""
    with pytest.raises(OverBudget):
        await broken(budgets.spending("ann", "w1", estimated_cost=2), None)
    with pytest.raises(UsageError):
        budgets.spending("ann", "w1", estimated_cost=1).add(cost_usd="0.1")


async def test_a_block_that_was_cancelled_while_it_was_entered_holds_nothing(budgets, monkeypatch):
    """It may have been set aside already; nobody would use it."""
    real, done = type(budgets).reserve, asyncio.Event()

    async def reserve(self, *args, **options):
        await real(self, *args, **options)
        done.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(type(budgets), "reserve", reserve)
    spending = budgets.spending("ann", "w1", estimated_cost="0.5")
    task = asyncio.create_task(spending.__aenter__())
    await done.wait()
    assert (await account(budgets, "user:ann"))[1] == 500_000
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(*budgets._tasks)
    assert (await account(budgets, "user:ann"))[1] == 0
