"""Answers that are lost: whatever is asked again is done once."""

from __future__ import annotations

from typing import Any

import pytest

from channels.errors import Conflict, OutcomeUnknown
from channels.scope import Scope

from ..accounts import context_of
from .support import USD, account, events_of, make_budgets, rules


class Deaf:
    """A store that runs scripts and loses the answers of as many as it is told."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.lose = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def run(self, script: Any, keys: Any, args: Any, **options: Any) -> Any:
        """Run it, and perhaps lose the answer."""
        reply = await self._store.run(script, keys, args, **options)
        if self.lose and script.name.startswith("budget_"):
            self.lose -= 1
            raise OutcomeUnknown("the answer was lost")
        return reply


@pytest.fixture
def deaf(any_store):
    """The store."""
    return Deaf(any_store)


@pytest.fixture
def context(deaf, keys, clock):
    """The ground, on it."""
    return context_of(deaf, keys, clock)


async def test_one_lost_answer_is_nobodys_business(context, budgets, deaf):
    """Each call asks again by itself, and the second time finds what the first one did."""
    deaf.lose = 1
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.3")
    deaf.lose = 1
    hold = await budgets.extend(hold, "0.1")
    assert hold.amount_micro_usd == 400_000
    deaf.lose = 1
    await budgets.renew(hold)
    assert (await account(budgets, "user:ann"))[1] == 400_000
    deaf.lose = 1
    assert (await budgets.commit(hold, "0.6")).charged_micro_usd == 600_000
    assert (await account(budgets, "user:ann"))[:2] == (600_000, 0)
    other = await budgets.reserve("ann", "w1", estimated_cost="0.1")
    deaf.lose = 1
    assert await budgets.release(other)
    kinds = [kind for kind, _ in await events_of(context, "usage:ann")]
    assert kinds.count("budget.reserved") == 3
    assert kinds.count("budget.released") == 2
    assert kinds.count("usage.recorded") == 1
    assert kinds.count("budget.threshold") <= 1


async def test_what_stays_unknown_is_cleared_up_by_the_hold_id(context, budgets, deaf):
    """Two answers lost: the caller is told, asks again, and has one hold and one charge."""
    deaf.lose = 2
    with pytest.raises(OutcomeUnknown):
        await budgets.reserve("ann", "w1", estimated_cost="0.3", hold_id="h1")
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.3", hold_id="h1")
    assert (await account(budgets, "user:ann"))[1] == 300_000
    with pytest.raises(Conflict):
        await budgets.reserve("ann", "w1", estimated_cost="0.4", hold_id="h1")
    deaf.lose = 2
    with pytest.raises(OutcomeUnknown):
        await budgets.commit(hold, "0.2")
    assert (await budgets.commit(hold, "0.2")).duplicate
    assert (await account(budgets, "user:ann"))[:2] == (200_000, 0)


async def test_a_threshold_is_told_once_although_the_answer_was_lost(context, deaf):
    """The mark and the event are one: who asks again finds the mark."""
    budgets = make_budgets(context, rules(user=USD))
    hold = await budgets.reserve("ann", "w1", estimated_cost="0.6")
    teller, lost = budgets._teller.tell, []

    async def tell(scope: Scope, month: str, day: str, user: str) -> None:
        lost.append(scope)
        deaf.lose = 1
        await teller(scope, month, day, user)

    context.thresholds.use(tell, budgets._limits)
    await budgets.commit(hold, "0.6")
    assert lost == [Scope("user", "ann")]
    kinds = [kind for kind, _ in await events_of(context, "usage:ann")]
    assert kinds.count("budget.threshold") == 1
    assert len(await events_of(context, "notifications:ann")) == 1
