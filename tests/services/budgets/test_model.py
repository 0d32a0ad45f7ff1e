"""Random histories against plain sums: what is set aside is the open holds, no more, no less."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from channels.errors import Conflict, OverBudget
from services.budgets.settings import BudgetRule, BudgetSettings

from ..accounts import HandClock, context_of
from .support import account, events_of, make_budgets

LIMITS = {"user": 1_000, "workspace": 1_800, "org": 2_500}
DAILY = 400


class Model:
    """The same in plain Python: sums are computed anew from a list each time."""

    def __init__(self) -> None:
        #: Id -> [user, workspace, amount, tokens, expires, state].
        self.holds: dict[str, list] = {}
        #: What was charged: user, workspace, cost, tokens.
        self.charges: list[tuple[str, str, int, int]] = []

    def sums(self, kind: str, name: str) -> tuple[int, int, int, int]:
        """Spent, set aside, tokens, tokens set aside."""
        mine: Callable[[str, str], bool] = {
            "user": lambda user, _: user == name,
            "workspace": lambda _, workspace: workspace == name,
            "org": lambda *_: True,
        }[kind]
        charges = [one for one in self.charges if mine(*one[:2])]
        holds = [one for one in self.holds.values() if mine(*one[:2]) and one[5] == "open"]
        return (
            sum(one[2] for one in charges),
            sum(one[2] for one in holds),
            sum(one[3] for one in charges),
            sum(one[3] for one in holds),
        )

    def allows(self, user: str, workspace: str, amount: int, tokens: int) -> bool:
        """Whether all three have room."""
        for kind, name in (("user", user), ("workspace", workspace), ("org", "acme")):
            spent, reserved, used, held = self.sums(kind, name)
            if spent + reserved + amount > LIMITS[kind]:
                return False
            if kind == "user" and used + held + tokens > DAILY:
                return False
        return True

    def expire(self, now: float) -> None:
        """End what is over."""
        for one in self.holds.values():
            if one[5] == "open" and one[4] <= now:
                one[5] = "expired"


@pytest.mark.parametrize("seed", range(12))
async def test_sums_never_drift(tcp_store, keys, seed):
    """Two hundred random calls of two users in two workspaces of one organisation."""
    chance, clock, model = random.Random(seed), HandClock(), Model()
    context = context_of(tcp_store, keys, clock)
    settings = BudgetSettings(
        user=BudgetRule(monthly_micro_usd=LIMITS["user"], daily_tokens=DAILY),
        workspace=BudgetRule(monthly_micro_usd=LIMITS["workspace"]),
        org=BudgetRule(monthly_micro_usd=LIMITS["org"]),
    )
    budgets = make_budgets(context, settings)
    await context.sweeper.sweep()
    for step in range(200):
        await take_step(chance, clock, model, budgets, context, step)
        for kind, names in (("user", ("ann", "bob")), ("workspace", ("w1", "w2"))):
            for name in names:
                assert await account(budgets, f"{kind}:{name}") == model.sums(kind, name), step
        assert await account(budgets, "org:acme") == model.sums("org", "acme"), step
    told = 0
    for user in ("ann", "bob"):
        for kind, data in await events_of(context, f"usage:{user}"):
            told += data["cost_micro_usd"] if kind == "usage.recorded" else 0
    assert told == sum(one[2] for one in model.charges)
    clock.forward(1_000)
    await context.sweeper.sweep()
    assert (await account(budgets, "org:acme"))[1::2] == (0, 0)


async def take_step(chance, clock, model, budgets, context, step) -> None:
    """Do one thing on both sides; they agree on what becomes of it."""
    what = chance.choice(["reserve"] * 4 + ["commit"] * 3 + ["extend", "renew", "release", "wait"])
    now = clock.at_s
    if what == "wait":
        clock.forward(chance.choice([1, 5, 30]))
        model.expire(clock.at_s)
        await context.sweeper.sweep()
        return
    if what == "reserve" or not model.holds:
        user, workspace = chance.choice(["ann", "bob"]), chance.choice(["w1", "w2"])
        amount, tokens = chance.randint(0, 300), chance.randint(0, 80)
        ttl_s = chance.choice([10, 40])
        allowed = model.allows(user, workspace, amount, tokens)
        call = budgets.reserve(
            user,
            workspace,
            organisation="acme",
            estimated_micro_usd=amount,
            estimated_tokens=tokens,
            hold_id=f"h{step}",
            ttl_s=ttl_s,
        )
        if allowed:
            await call
            model.holds[f"h{step}"] = [user, workspace, amount, tokens, now + ttl_s, "open"]
            return
        with pytest.raises(OverBudget):
            await call
        return
    hold_id = chance.choice(list(model.holds))
    held = model.holds[hold_id]
    name = f"{held[0]}:{hold_id}"
    if what == "commit":
        cost, tokens = chance.randint(0, 200), chance.randint(0, 40)
        done = await budgets.commit(name, actual_micro_usd=cost, tokens_output=tokens)
        assert done.duplicate == (held[5] == "committed")
        if not done.duplicate:
            assert done.late == (held[5] != "open")
            model.charges.append((held[0], held[1], cost, tokens))
            held[5] = "committed"
    elif what == "release":
        assert await budgets.release(name) == (held[5] == "open")
        held[5] = "released" if held[5] == "open" else held[5]
    elif what == "renew":
        if held[5] != "open":
            with pytest.raises(Conflict):
                await budgets.renew(name, ttl_s=20)
            return
        await budgets.renew(name, ttl_s=20)
        held[4] = max(held[4], now + 20)
    else:
        await extend(chance, model, budgets, held, name, now)


async def extend(chance, model, budgets, held, name, now) -> None:
    """Ask for more, or for all of it anew where it expired."""
    amount, tokens = chance.randint(0, 150), chance.randint(0, 40)
    call = budgets.extend(name, more_micro_usd=amount, more_tokens=tokens, ttl_s=20)
    if held[5] in {"committed", "released"}:
        with pytest.raises(Conflict):
            await call
        return
    anew = held[5] == "expired"
    needs = (held[2] + amount, held[3] + tokens) if anew else (amount, tokens)
    if not model.allows(held[0], held[1], *needs):
        with pytest.raises(OverBudget):
            await call
        return
    await call
    held[2] += amount
    held[3] += tokens
    held[4], held[5] = max(held[4], now + 20), "open"
