"""Accounts that are lost: they begin with what the database has, and each event is in them once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.errors import DatabaseUnavailable
from channels.scope import Scope
from services.database import Database
from services.database.tables import USAGE_RECORDS, USERS, WORKSPACES
from services.store.port import Store
from services.usage import seeding, sums
from services.usage.sums import DaySums

from .conftest import Desk, DeskMaker

MONTH = "2027-01"
USER, WORKSPACE, ORG = Scope("user", "ann"), Scope("workspace", "w1"), Scope("org", "o")


async def record(desk: Desk, user: str = "ann", cost: int = 1) -> None:
    """Count a dollar, or so many."""
    await desk.usage.record_usage(user, "w1", 1, 0, cost, "writer", model="m", organisation="o")


async def dollars(desk: Desk, scope: Scope) -> int:
    """Return what the account of a scope in Redis has; it must be there."""
    account = await desk.store.execute("HGET", desk.keys.account(scope, MONTH), "c")
    assert isinstance(account, bytes)
    return int(account) // 1_000_000


async def lose(desk: Desk, *scopes: Scope) -> None:
    """Lose accounts."""
    await desk.store.execute("DEL", *(desk.keys.account(scope, MONTH) for scope in scopes))


class Outage:
    """A database that can be away."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = False
        begin = Database.begin

        @asynccontextmanager
        async def maybe(self_: Database, *, write: bool = True) -> AsyncIterator[object]:
            if self.away:
                raise DatabaseUnavailable("it is away")
            async with begin(self_, write=write) as connection:
                yield connection

        monkeypatch.setattr(Database, "begin", maybe)


async def test_a_lost_account_begins_with_what_the_database_has(desk: Desk) -> None:
    """For everybody it concerns; also with limits."""
    database = desk.context.database
    assert database is not None
    async with database.begin() as connection:
        await connection.execute(
            insert(USERS).values(id="ann", budget_limit_monthly_micro_usd=7, token_limit_daily=9)
        )
    await record(desk)
    await desk.sweep()
    await lose(desk, USER, WORKSPACE, ORG)
    await record(desk)
    assert [await dollars(desk, scope) for scope in (USER, WORKSPACE, ORG)] == [2, 2, 2]
    limits = await desk.store.execute("HMGET", desk.keys.account(USER, MONTH), "L", "D")
    assert limits == [b"7", b"9"]
    assert (await desk.usage.get_daily_usage("ann")).agents["writer"].requests == 2
    ttl = await desk.store.execute("PTTL", desk.keys.account(USER, MONTH))
    assert isinstance(ttl, int)
    assert ttl > 99 * 86_400_000


async def test_what_still_waits_comes_into_the_lost_account(desk: Desk) -> None:
    """When it is written: not lost, and not twice."""
    await record(desk)  # waits
    await lose(desk, USER, WORKSPACE)
    await record(desk)
    assert [await dollars(desk, scope) for scope in (USER, WORKSPACE, ORG)] == [1, 1, 2]
    await desk.sweep()
    assert [await dollars(desk, scope) for scope in (USER, WORKSPACE, ORG)] == [2, 2, 2]
    day = await desk.usage.get_daily_usage("ann")
    assert (day.requests, day.agents["writer"].requests, day.tokens_input) == (2, 2, 2)
    assert desk.usage.stats.settled_late == 2


async def test_what_was_written_and_did_not_leave_yet_is_there_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer died after its commit: the seed has the event, and settling sees that."""
    await record(desk)
    settle = desk.usage.writer._settle  # type: ignore[attr-defined]

    async def die(*_: object) -> tuple[int, int]:
        raise RuntimeError("killed")

    monkeypatch.setattr(type(desk.usage.writer), "_settle", die)
    with pytest.raises(RuntimeError):
        await desk.usage.drain("ann")
    await lose(desk, WORKSPACE)
    await record(desk)
    assert await dollars(desk, WORKSPACE) == 2
    monkeypatch.setattr(type(desk.usage.writer), "_settle", lambda _, *args: settle(*args))
    await desk.sweep()
    assert [await dollars(desk, scope) for scope in (USER, WORKSPACE, ORG)] == [2, 2, 2]


async def test_a_seed_that_read_too_early_is_read_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is settled between its reading and its writing would be in neither."""
    await record(desk)
    await lose(desk, WORKSPACE)
    read, raced = seeding.read_account, []

    async def slow(database: Database, scope: Scope, month: str) -> object:
        found = await read(database, scope, month)
        if scope == WORKSPACE and not raced:
            raced.append(scope)
            await desk.usage.drain("ann")
        return found

    monkeypatch.setattr(seeding, "read_account", slow)
    await record(desk)
    assert raced
    assert await dollars(desk, WORKSPACE) == 2
    await desk.sweep()
    assert await dollars(desk, WORKSPACE) == 2


async def test_sums_and_batch_are_of_one_moment(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What commits while an account is read is in neither, and comes when it is settled."""
    await record(desk)
    await lose(desk, WORKSPACE)
    read, settle = sums._read_days, desk.usage.writer._settle
    raced: list[Scope] = []

    async def die(*_: object) -> tuple[int, int]:
        raise RuntimeError("killed after the commit")

    async def slow(connection: AsyncConnection, scope: Scope, month: str) -> dict[str, DaySums]:
        if scope == WORKSPACE and not raced:
            raced.append(scope)
            monkeypatch.setattr(type(desk.usage.writer), "_settle", die)
            with pytest.raises(RuntimeError):
                await desk.usage.drain("ann")
            monkeypatch.setattr(type(desk.usage.writer), "_settle", lambda _, *args: settle(*args))
        return await read(connection, scope, month)

    monkeypatch.setattr(sums, "_read_days", slow)
    await record(desk)
    assert raced
    await desk.sweep()
    assert await dollars(desk, WORKSPACE) == 2
    assert await desk.usage.reconcile(WORKSPACE) == []


async def test_an_account_is_seeded_once_however_many_ask(tcp_desk: Desk) -> None:
    """Single flight: one claim and one seed a scope."""
    await asyncio.gather(*(record(tcp_desk) for _ in range(50)))
    assert tcp_desk.usage.stats.seeds == 3
    assert await dollars(tcp_desk, USER) == 50


async def test_while_the_database_is_away_it_is_counted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accounts that were lost begin without it, and have everything when it is back."""
    assert desk.context.database is not None
    await record(desk)
    await desk.sweep()
    outage = Outage(desk.context.database, monkeypatch)
    outage.away = True
    await record(desk)
    await lose(desk, USER, WORKSPACE)
    await record(desk)
    assert [await dollars(desk, scope) for scope in (USER, WORKSPACE, ORG)] == [1, 1, 3]
    assert not (await desk.usage.get_daily_usage("ann")).complete
    await desk.sweep()  # cannot write
    assert await desk.store.execute("XLEN", desk.keys.usage_pending("ann")) == 2
    outage.away = False
    desk.usage.seeder._retry_at = 0.0  # type: ignore[attr-defined]
    await desk.sweep()
    assert [await dollars(desk, scope) for scope in (USER, WORKSPACE, ORG)] == [3, 3, 3]
    day = await desk.usage.get_daily_usage("ann")
    assert day.complete
    assert (day.requests, day.agents["writer"].requests) == (3, 3)
    assert await desk.store.execute("XLEN", desk.keys.usage_pending("ann")) == 0
    for scope in (USER, WORKSPACE, ORG):
        assert await desk.usage.reconcile(scope) == []


async def test_an_account_that_began_without_the_database_is_completed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although nothing is counted in it: whoever asks what is left of a budget relies on it."""
    assert desk.context.database is not None
    await record(desk)
    await desk.sweep()
    await lose(desk, WORKSPACE)
    outage = Outage(desk.context.database, monkeypatch)
    outage.away = True
    await desk.usage.seeder.seed(WORKSPACE, MONTH)
    assert desk.usage.stats.provisional == 1
    await desk.sweep()
    # Not looked at all the time: there may be thousands.
    due = await desk.store.execute("ZRANGE", desk.keys.due(WORKSPACE.id), 0, 0, "WITHSCORES")
    assert float(due[-1] if not isinstance(due[0], list) else due[0][1]) >= desk.now * 1000 + 15_000  # type: ignore[index, arg-type] - RESP 2 or 3
    assert await desk.store.execute("HEXISTS", desk.keys.account(WORKSPACE, MONTH), "c") == 0
    outage.away = False
    desk.usage.seeder._retry_at = 0.0  # type: ignore[attr-defined]
    await desk.sweep()
    assert await dollars(desk, WORKSPACE) == 1
    assert await desk.store.execute("ZCARD", desk.keys.due("w1")) == 0


async def test_an_organisation_that_could_not_be_looked_up_is_found_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer finds it; its account gets what it lacks."""
    assert desk.context.database is not None
    async with desk.context.database.begin() as connection:
        await connection.execute(insert(WORKSPACES).values(id="w1", organisation_id="o"))
    await desk.usage.record_usage("bob", "w9", 1, 0, 1, "writer", organisation="o")
    outage = Outage(desk.context.database, monkeypatch)
    outage.away = True
    await desk.usage.record_usage("ann", "w1", 1, 0, 1, "writer")
    assert await dollars(desk, ORG) == 1
    outage.away = False
    desk.usage.seeder._retry_at = 0.0  # type: ignore[attr-defined]
    desk.usage.organisations._retry_at = 0.0  # type: ignore[attr-defined]
    await desk.sweep()
    assert await dollars(desk, ORG) == 2
    assert await desk.usage.reconcile(ORG) == []


@pytest.mark.parametrize("seed", [1, 2])
async def test_accounts_lost_at_random_under_load_are_right_in_the_end(
    tcp_store: Store, any_database: Database, desk_of: DeskMaker, seed: int
) -> None:
    """Counting, writing by two nodes, and losing accounts, all at once: each event once."""
    dice = random.Random(seed)
    desks = [desk_of(tcp_store, any_database) for _ in range(3)]
    users = [f"u{number}" for number in range(6)]
    scopes = [*(Scope("user", user) for user in users), WORKSPACE, ORG]
    spent = dict.fromkeys(users, 0)
    busy = True

    async def count(desk: Desk) -> None:
        for _ in range(80):
            user, cost = dice.choice(users), dice.randrange(1, 9)
            await record(desk, user, cost)
            spent[user] += cost
            if dice.random() < 0.1:  # as often as is counted, however slow the machine is
                await lose(desk, *dice.sample(scopes, 3))
            await asyncio.sleep(dice.random() * 0.002)

    async def write(desk: Desk) -> None:
        while busy:
            for user in dice.sample(users, 3):
                await desk.usage.drain(user)
            await asyncio.sleep(dice.random() * 0.01)

    others = [asyncio.create_task(work) for work in map(write, desks[1:])]
    await asyncio.gather(*(count(desk) for desk in desks for _ in range(2)))
    busy = False
    await asyncio.gather(*others)
    for desk in desks:
        for user in users:
            await desk.usage.drain(user)

    total = sum(spent.values())
    for user in users:
        await record(desks[0], user, 0)  # whatever is lost begins again
        assert await dollars(desks[0], Scope("user", user)) == spent[user]
    assert await dollars(desks[0], WORKSPACE) == total
    assert await dollars(desks[0], ORG) == total
    async with any_database.begin(write=False) as connection:
        rows = (await connection.execute(select(USAGE_RECORDS))).all()
    assert sum(row.cost_micro_usd for row in rows) == total * 1_000_000
    assert sum(desk.usage.stats.settled_late for desk in desks) > 0
    for user in users:
        await desks[0].usage.drain(user)
    for scope in scopes:
        assert await desks[0].usage.reconcile(scope) == []
