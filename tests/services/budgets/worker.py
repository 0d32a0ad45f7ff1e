"""One of several processes that spend from the same budgets: ``python -m ... URL WHAT ARGS``.

Says ``ready``, waits for a line, works, and prints what it has to say as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import redis.asyncio as redis_py
import uvloop

from benchmarks.seed_budget import SeedBudget, SeedBudgetExceededError
from channels.errors import FanwireError, OutcomeUnknown, OverBudget, StoreUnavailable
from services.budgets.settings import BudgetRule, BudgetSettings
from services.door import Services
from services.service_settings import ServiceSettings

#: A dollar for the user, fifty cents for the organisation "tight".
SETTINGS = BudgetSettings(
    user=BudgetRule(monthly_micro_usd=1_000_000),
    budgets={"org:tight": BudgetRule(monthly_micro_usd=500_000)},
)


def say(line: str) -> None:
    """Tell the test."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def reserve(services: Services, many: str, organisation: str) -> object:
    """Ask ``many`` times for a twentieth of a dollar, all at once; return how often it was had."""

    async def one() -> bool:
        try:
            await services.budgets.reserve(
                "ann", "w1", organisation=organisation, estimated_cost="0.05"
            )
        except OverBudget:
            return False
        return True

    return sum(await asyncio.gather(*(one() for _ in range(int(many)))))


async def seed(services: Services, many: str, url: str) -> object:
    """Do the same with the document's code: check, call, add."""
    client = redis_py.Redis.from_url(url)
    budget = SeedBudget(client, {"ann": 1.0})

    async def one() -> bool:
        try:
            await budget.enforce_budget("ann", 0.05)
        except SeedBudgetExceededError:
            return False
        await asyncio.sleep(0)  # the call that costs
        await budget.record_usage("ann", 0.05)
        return True

    try:
        return sum(await asyncio.gather(*(one() for _ in range(int(many)))))
    finally:
        await client.aclose()


async def storm(services: Services, many: str) -> object:
    """Reserve and commit under ids that every process uses."""

    async def one() -> int:
        hold = await services.budgets.reserve("ann", "w1", estimated_cost="0.5", hold_id="h1")
        done = await services.budgets.commit(hold, "0.25", event_id="e1")
        return not done.duplicate

    found = await asyncio.gather(*(one() for _ in range(int(many))), return_exceptions=True)
    return sum(one for one in found if isinstance(one, int))


async def hold(services: Services, many: str) -> object:
    """Hold what is to be had, and be killed."""
    for _ in range(int(many)):
        await services.budgets.reserve("ann", "w1", estimated_cost="0.05", ttl_s=1)
    say("holding")
    await asyncio.sleep(3600)
    return None


async def spend(services: Services, name: str, many: str) -> object:
    """Reserve and commit again and again while the server comes and goes.

    Returns what was charged for sure, and how often it was not known before asking again.
    """
    charged = doubts = 0
    for number in range(int(many)):
        hold_id = f"{name}-{number}"
        try:
            held = await _until_known(
                lambda hold_id=hold_id: services.budgets.reserve(  # type: ignore[misc]
                    "ann", "w1", estimated_cost="0.002", hold_id=hold_id, ttl_s=60
                )
            )
        except OverBudget:
            continue
        if number % 3 == 0:
            await _until_known(lambda held=held: services.budgets.release(held))  # type: ignore[misc]
            continue
        done = await _until_known(
            lambda held=held: services.budgets.commit(held, "0.001")  # type: ignore[misc]
        )
        charged += done.charged_micro_usd
        doubts += done.duplicate
    return {"charged": charged, "doubts": doubts}


async def _until_known(call):  # type: ignore[no-untyped-def]
    while True:
        try:
            return await call()
        except (StoreUnavailable, OutcomeUnknown):
            await asyncio.sleep(0.02)


WORK: dict[str, Callable[..., Awaitable[object]]] = {
    "reserve": reserve,
    "seed": seed,
    "storm": storm,
    "hold": hold,
    "spend": spend,
}


async def main(url: str, what: str, *arguments: str) -> None:
    """Connect, wait for the word, work."""
    async with Services.connect(url, settings=ServiceSettings(budgets=SETTINGS)) as services:
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        try:
            say(json.dumps(await WORK[what](services, *arguments)))
        except FanwireError as error:
            say(json.dumps(f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
