"""What each operation costs where commands are billed, and that all of them tell or do nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from channels.errors import OverBudget, StoreRefused
from channels.scope import Scope

from ..accounts import calls, context_of
from .support import USD, make_budgets, rules

Operation = Callable[[Any, Any], Awaitable[object]]
WHO = {"organisation": "acme"}


async def denied(budgets, _hold) -> None:
    """Ask for what there is not."""
    with pytest.raises(OverBudget):
        await budgets.reserve("ann", "w1", **WHO, estimated_cost=2)


#: By operation: the scripts it runs, and all commands with theirs inside. Three budgets, a
#: channel that was told of within this second.
COSTS: dict[str, tuple[Operation, int, int]] = {
    "reserve": (
        lambda budgets, _: budgets.reserve("ann", "w1", **WHO, estimated_cost="0.1"),
        1,
        14,
    ),
    "reserve, user and workspace": (
        lambda budgets, _: budgets.reserve("ann", "w1", organisation="", estimated_cost="0.1"),
        1,
        12,
    ),
    "reserve, denied": (denied, 1, 5),
    "extend": (lambda budgets, hold: budgets.extend(hold, "0.1"), 1, 14),
    "renew": (lambda budgets, hold: budgets.renew(hold), 1, 2),
    "release": (lambda budgets, hold: budgets.release(hold), 1, 14),
    "commit": (lambda budgets, hold: budgets.commit(hold, "0.05"), 1, 20),
    "check, one budget": (lambda budgets, _: budgets.check_budget("ann", "0.1"), 0, 1),
    "check, three budgets": (
        lambda budgets, _: budgets.check_budget("ann", "0.1", workspace="w1", **WHO),
        0,
        3,
    ),
    "get_budget": (lambda budgets, _: budgets.get_budget("user:ann"), 0, 1),
}


@pytest.mark.parametrize("name", COSTS)
async def test_an_operation_costs(valkey, tcp_store, keys, clock, name):
    """So many commands, in one round trip."""
    operation, scripts, commands = COSTS[name]
    context = context_of(tcp_store, keys, clock)
    budgets = make_budgets(context, rules(user=USD, workspace=USD, org=USD))
    warm = await budgets.reserve("ann", "w1", **WHO, estimated_cost="0.01")
    await budgets.commit(warm, "0.01")
    hold = await budgets.reserve("ann", "w1", **WHO, estimated_cost="0.1")
    for script in ("extend", "renew", "release"):
        other = await budgets.reserve("ann", "w1", **WHO, estimated_cost="0.1")
        await getattr(budgets, script)(other)
        await budgets.release(other)
    before = calls(valkey)
    await operation(budgets, hold)
    after = calls(valkey)
    spent = {name: after[name] - before.get(name, 0) for name in after}
    ran = spent.pop("evalsha", 0)
    assert (ran, ran + sum(spent.values())) == (scripts, commands), {
        name: many for name, many in spent.items() if many
    }


async def dump(store) -> dict[bytes, Any]:
    """Return everything there is but what the sweeper is told."""
    return {
        key: await store.execute("DUMP", key)
        for key in await store.execute("KEYS", "*")
        if not key.endswith(b"{hub}:roots")
    }


async def test_what_cannot_be_told_does_not_happen(context, budgets):
    """The log is no log: every change is refused, and nothing at all was written."""
    hold = await budgets.reserve("ann", "w1", organisation="acme", estimated_cost="0.1", ttl_s=60)
    log = context.keys.log(context.catalogue.find("usage:ann"))
    await context.store.execute("SET", log, "no log")
    before = await dump(context.store)
    for call in (
        lambda: budgets.reserve("ann", "w1", organisation="acme", estimated_cost="0.1"),
        lambda: budgets.extend(hold, "0.1"),
        lambda: budgets.release(hold),
        lambda: budgets.commit(hold, "0.1"),
    ):
        with pytest.raises(StoreRefused):
            await call()
    assert await dump(context.store) == before


async def test_keys_name_the_tenant(context, budgets):
    """Each key has the root of who it belongs to; no script builds one."""
    await budgets.commit(
        await budgets.reserve("ann", "w1", organisation="acme", estimated_cost="0.1"), "0.1"
    )
    found = {key.decode() for key in await context.store.execute("KEYS", "fw:*")}
    accounts = {
        context.keys.account(scope, "2027-01")
        for scope in (Scope("user", "ann"), Scope("workspace", "w1"), Scope("org", "acme"))
    }
    assert accounts <= found
    rest = {key for key in found - accounts if "{hub}" not in key}
    assert all(key.startswith("fw:{ann}:") for key in rest), rest
