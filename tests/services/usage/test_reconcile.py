"""Redis and the database are compared, and Redis is put right by what differs."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import update

from channels.scope import Scope
from services.database.tables import USAGE_RECORDS
from services.usage import reconcile as reconcile_module

from .conftest import Desk

MONTH, DAY = "2027-01", "2027-01-15"
USER, WORKSPACE, ORG = Scope("user", "ann"), Scope("workspace", "w1"), Scope("org", "o")


async def record(desk: Desk, cost: int = 1) -> None:
    """Count some dollars."""
    await desk.usage.record_usage("ann", "w1", 10, 5, cost, "writer", model="m", organisation="o")


async def falsify(desk: Desk, scope: Scope, by: int) -> None:
    """Change what Redis has, behind our back."""
    account = desk.keys.account(scope, MONTH)
    for field in ("c", f"{DAY[-2:]}:c"):
        await desk.store.execute("HINCRBY", account, field, by)


async def corrections(desk: Desk, channel: str) -> list[dict[str, object]]:
    """Return the data of the corrections that were told."""
    page = await desk.context.log.read(desk.context.catalogue.find(channel))
    events = [json.loads(one.wire)["push"]["pub"]["data"] for one in page.publications]
    return [event["data"] for event in events if event["type"] == "usage.corrected"]


@pytest.mark.parametrize(
    ("scope", "channel"), [(USER, "usage:ann"), (WORKSPACE, "workspace:w1"), (ORG, "org:o")]
)
@pytest.mark.parametrize("by", [7, -7])
async def test_what_differs_is_corrected_and_told_once(
    desk: Desk, scope: Scope, channel: str, by: int
) -> None:
    """By the difference; a second comparison finds nothing."""
    await record(desk)
    await desk.sweep()
    await falsify(desk, scope, by)
    (found,) = await desk.usage.reconcile(scope)
    assert (found.day, found.corrected) == (DAY, True)
    assert (found.counted[0], found.stored[0]) == (1_000_000 + by, 1_000_000)
    assert await desk.usage.reconcile(scope) == []
    (told,) = await corrections(desk, channel)
    assert (told["scope"], told["cost_micro_usd"], told["reason"]) == (
        str(scope),
        -by,
        "reconciled",
    )
    await record(desk)
    report = await desk.usage.get_scope_monthly(scope, MONTH)
    assert (report.cost_micro_usd, report.requests) == (2_000_000, 2)
    assert await desk.store.execute("HGET", desk.keys.account(scope, MONTH), "c") == b"2000000"


async def test_the_breakdown_is_put_right_too(desk: Desk) -> None:
    """Names that the database does not know go."""
    await record(desk)
    await desk.sweep()
    await falsify(desk, USER, 5)
    account = desk.keys.account(USER, MONTH)
    await desk.store.execute("HSET", account, "15:a:ghost", "5 0 0 0", "15:a", 2)
    assert len(await desk.usage.reconcile(USER)) == 1
    day = await desk.usage.get_daily_usage("ann")
    assert day.agents.keys() == {"writer"}
    assert day.agents["writer"].cost_micro_usd == 1_000_000


async def test_a_day_on_which_something_waits_is_left_alone(desk: Desk) -> None:
    """It is in Redis and not in the database, and that is right."""
    await record(desk)
    (found,) = await desk.usage.reconcile(USER)
    assert not found.corrected
    assert (await desk.usage.get_daily_usage("ann")).cost_micro_usd == 1_000_000
    assert await corrections(desk, "usage:ann") == []
    await desk.sweep()
    assert await desk.usage.reconcile(USER) == []


async def test_what_is_counted_while_it_is_compared_is_not_lost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is another one when the correction comes, so it is compared again."""
    await record(desk)
    await desk.sweep()
    await falsify(desk, WORKSPACE, 7)
    read, raced = reconcile_module.read_account, []

    async def slow(*args: object) -> object:
        found = await read(*args)  # type: ignore[arg-type] - as it is called
        if not raced:
            raced.append(1)
            await record(desk)
            await desk.usage.drain("ann")
        return found

    monkeypatch.setattr(reconcile_module, "read_account", slow)
    (found,) = await desk.usage.reconcile(WORKSPACE)
    assert found.corrected
    report = await desk.usage.get_scope_monthly(WORKSPACE, MONTH)
    assert report.cost_micro_usd == 2_000_000


async def test_a_corrected_day_takes_what_a_lost_account_had_waiting_once(desk: Desk) -> None:
    """Its entries belong to a generation that is gone; they are written, and not settled yet."""
    await record(desk)  # waits, of the first generation
    await desk.store.execute("DEL", desk.keys.account(WORKSPACE, MONTH))
    await record(desk, 0)
    settle = desk.usage.writer._settle  # type: ignore[attr-defined]

    async def compare_first(_: object, *args: object) -> tuple[int, int]:
        # Something of the present generation is pending, so nothing is corrected.
        for found in await desk.usage.reconcile(WORKSPACE):
            assert not found.corrected
        return await settle(*args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(desk.usage.writer), "_settle", compare_first)
        await desk.usage.drain("ann")
    assert (await desk.usage.get_scope_monthly(WORKSPACE, MONTH)).cost_micro_usd == 1_000_000
    assert await desk.usage.reconcile(WORKSPACE) == []


async def test_a_day_corrected_between_commit_and_settling_is_right_after_it(desk: Desk) -> None:
    """Only a lost generation waits: the correction brings it, and settling sees that it did."""
    await record(desk)
    await desk.store.execute("DEL", desk.keys.account(WORKSPACE, MONTH))
    await desk.usage.seeder.seed(WORKSPACE, MONTH)
    settle = desk.usage.writer._settle  # type: ignore[attr-defined]

    async def compare_first(_: object, *args: object) -> tuple[int, int]:
        (found,) = await desk.usage.reconcile(WORKSPACE)
        assert found.corrected
        return await settle(*args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(desk.usage.writer), "_settle", compare_first)
        await desk.usage.drain("ann")
    assert (await desk.usage.get_scope_monthly(WORKSPACE, MONTH)).cost_micro_usd == 1_000_000
    assert await desk.usage.reconcile(WORKSPACE) == []


async def test_the_database_decides(desk: Desk) -> None:
    """Whoever changes its sums changes what is reported."""
    await record(desk)
    await desk.sweep()
    assert desk.context.database is not None
    async with desk.context.database.begin() as connection:
        await connection.execute(update(USAGE_RECORDS).values(cost_micro_usd=5))
    for scope in (USER, WORKSPACE, ORG):
        (found,) = await desk.usage.reconcile(scope)
        assert found.corrected
        assert (await desk.usage.get_scope_monthly(scope, MONTH)).cost_micro_usd == 5
