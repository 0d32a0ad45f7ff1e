"""What was used is counted once, for everybody it concerns, to the micro-dollar."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
import redis.asyncio as redis_py
from sqlalchemy import insert, select

from benchmarks.seed_usage import SeedUsage
from channels.errors import (
    BadRequest,
    Conflict,
    LimitExceeded,
    OutcomeUnknown,
    StoreRefused,
    StoreUnavailable,
)
from channels.scope import Scope
from services.database import Database
from services.database.tables import ORGANISATIONS, USAGE_EVENTS, USAGE_RECORDS, USERS, WORKSPACES
from services.store.port import Store
from tests.rest_endpoint import RestEndpointServer
from tests.servers import ValkeyServer

from .conftest import Desk, DeskMaker

MONTH = "2027-01"
DAY = "2027-01-15"


async def events_of(desk: Desk, name: str) -> list[dict[str, object]]:
    """Return the events of a channel."""
    page = await desk.context.log.read(desk.context.catalogue.find(name))
    return [
        json.loads(publication.wire)["push"]["pub"]["data"] for publication in page.publications
    ]


async def micro_usd_of(desk: Desk, scope: Scope) -> int:
    """Return what a scope used in the month, by Redis."""
    return (await desk.usage.get_scope_monthly(scope, MONTH)).cost_micro_usd


async def test_it_counts_for_user_workspace_and_organisation(desk: Desk) -> None:
    """With agents, models and workspaces of the user; and once more in the database."""
    usage = desk.usage
    await usage.record_usage("ann", "w1", 100, 20, "0.0123", "writer", model="m", organisation="o")
    await usage.record_usage("ann", "w2", 1, 2, Decimal("0.5"), "critic", organisation="o")
    await usage.record_usage("bob", "w1", 5, 5, 1, "writer", model="m", organisation="o")

    day = await usage.get_daily_usage("ann")
    assert (day.date, day.tokens_input, day.tokens_output, day.requests) == (DAY, 101, 22, 2)
    assert day.cost_micro_usd == 512_300
    assert day.cost_usd == 0.5123
    assert day.agents["writer"].cost_micro_usd == 12_300
    assert day.agents["critic"].requests == 1
    assert day.models.keys() == {"m"}
    assert day.workspaces["w2"].tokens_output == 2
    assert (await usage.get_monthly_usage("ann")).cost_micro_usd == 512_300
    assert (await usage.get_workspace_usage("w1", DAY, DAY)).cost_micro_usd == 1_012_300
    assert (await usage.get_organisation_usage("o", DAY, DAY)).tokens_input == 106

    await desk.sweep()
    database = desk.context.database
    assert database is not None
    async with database.begin(write=False) as connection:
        rows = (await connection.execute(select(USAGE_RECORDS).order_by("user_id", "agent"))).all()
        assert [(row.user_id, row.agent, row.cost_micro_usd) for row in rows] == [
            ("ann", "critic", 500_000),
            ("ann", "writer", 12_300),
            ("bob", "writer", 1_000_000),
        ]
        assert len((await connection.execute(select(USAGE_EVENTS))).all()) == 3
    top = await usage.top_users(workspace="w1", since=DAY, until=DAY)
    assert [(one.user, one.cost_micro_usd) for one in top] == [("bob", 1_000_000), ("ann", 12_300)]
    assert await desk.store.execute("XLEN", desk.keys.usage_pending("ann")) == 0
    assert await desk.store.execute("ZCARD", desk.keys.due("ann")) == 0
    assert usage.stats.written == 3


async def test_it_tells_the_user(desk: Desk) -> None:
    """Of each use once; with the event's id."""
    for _ in range(2):
        await desk.usage.record_usage("ann", "w1", 3, 4, "0.1", "writer", event_id="e1", model="m")
    (event,) = await events_of(desk, "usage:ann")
    assert (event["type"], event["id"], event["subject"]) == ("usage.recorded", "e1", "ann")
    assert event["data"] == {
        "user": "ann",
        "workspace": "w1",
        "tokens_input": 3,
        "tokens_output": 4,
        "cost_micro_usd": 100_000,
        "agent": "writer",
        "model": "m",
    }


async def test_an_event_is_counted_once(desk: Desk) -> None:
    """However often it comes, also when it comes again after it was written."""
    first = await desk.usage.record_usage("ann", "w1", 3, 4, "0.1", "writer", event_id="e1")
    await desk.sweep()
    again = await asyncio.gather(
        *(
            desk.usage.record_usage("ann", "w1", 3, 4, "0.1", "writer", event_id="e1")
            for _ in range(5)
        )
    )
    assert not first.duplicate
    assert all(recorded.duplicate for recorded in again)
    await desk.sweep()
    assert await micro_usd_of(desk, Scope("workspace", "w1")) == 100_000
    assert (await desk.usage.get_daily_usage("ann")).requests == 1
    assert desk.usage.stats.duplicates == 5


async def test_ids_of_events_are_the_users_own(desk: Desk) -> None:
    """Two users may use the same one: both are counted, in the database too."""
    for user in ("ann", "bob"):
        await desk.usage.record_usage(user, "w1", 1, 1, 1, "writer", event_id="e1")
    await desk.sweep()
    top = await desk.usage.top_users(workspace="w1", since=DAY, until=DAY)
    assert {one.user for one in top} == {"ann", "bob"}


async def test_an_id_that_was_used_for_something_else_is_refused(desk: Desk) -> None:
    """The second amount is neither counted nor taken for the first."""
    await desk.usage.record_usage("ann", "w1", 3, 4, "0.1", "writer", event_id="e1")
    with pytest.raises(Conflict):
        await desk.usage.record_usage("ann", "w1", 3, 4, "0.2", "writer", event_id="e1")
    assert await micro_usd_of(desk, Scope("user", "ann")) == 100_000


async def test_an_event_that_comes_again_after_days_is_taken_back(desk: Desk) -> None:
    """Redis forgot it and counts it again; the database knows it, and Redis is put right."""
    await desk.usage.record_usage("ann", "w1", 3, 4, "0.1", "writer", event_id="e1")
    await desk.sweep()
    await desk.store.execute("DEL", desk.keys.usage_op("ann", "e1"))
    await desk.usage.record_usage("ann", "w1", 3, 4, "0.1", "writer", event_id="e1")
    assert await micro_usd_of(desk, Scope("user", "ann")) == 200_000
    await desk.sweep()
    for scope in (Scope("user", "ann"), Scope("workspace", "w1")):
        assert await micro_usd_of(desk, scope) == 100_000
        assert await desk.usage.reconcile(scope) == []
    assert (await desk.usage.get_daily_usage("ann")).agents["writer"].requests == 1


async def test_a_correction_is_an_event_with_amounts_of_either_sign(desk: Desk) -> None:
    """A refund takes away, once, in Redis and in the database, and is told."""
    usage = desk.usage
    await usage.record_usage("ann", "w1", 300, 400, "0.1", "writer")
    for _ in range(2):
        await usage.correct(
            "ann", "w1", correction_id="c1", reason="refund", cost_usd="-0.04", tokens_input=-300
        )
    await desk.sweep()
    for scope in (Scope("user", "ann"), Scope("workspace", "w1")):
        day = await usage.get_scope_daily(scope)
        assert (day.cost_micro_usd, day.tokens_input, day.requests) == (60_000, 0, 1)
        assert await usage.reconcile(scope) == []
    (_, event) = await events_of(desk, "usage:ann")
    assert event["type"] == "usage.corrected"
    assert event["data"]["cost_micro_usd"] == -40_000  # type: ignore[index] - JSON
    database = desk.context.database
    assert database is not None
    async with database.begin(write=False) as connection:
        kinds = await connection.execute(select(USAGE_EVENTS.c.kind).order_by("kind"))
        assert kinds.scalars().all() == ["correction", "usage"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens_input": -1},
        {"tokens_output": 2**53},
        {"tokens_input": 1.5},
        {"tokens_input": True},
        {"cost_usd": -0.1},
        {"cost_usd": float("nan")},
        {"cost_usd": Decimal("Infinity")},
        {"cost_usd": "ten"},
        {"cost_usd": 10**10},
        {"cost_micro_usd": -1},
        {"requests": -1},
        {"user_id": "a:b"},
        {"workspace_id": "w}"},
        {"workspace_id": ""},
        {"organisation": "o:1"},
        {"event_id": "e 1"},
        {"event_id": ""},
        {"agent_type": "a\0b"},
        {"model": "m" * 129},
        {"model": "\ud800"},
        {"occurred_at": datetime(2027, 1, 1)},  # noqa: DTZ001 - the naive time is the point
        {"occurred_at": datetime(2027, 1, 15, 8, 6, tzinfo=UTC)},
        {"occurred_at": datetime(1999, 1, 1, tzinfo=UTC)},
    ],
    ids=repr,
)
async def test_what_cannot_be_counted_is_refused(
    tcp_store: Store, desk_of: DeskMaker, wrong: dict[str, object]
) -> None:
    """With what was expected and what came; nothing is written."""
    desk = desk_of(tcp_store, None)
    call = {
        "user_id": "ann",
        "workspace_id": "w1",
        "tokens_input": 1,
        "tokens_output": 1,
        "cost_usd": 1,
        "agent_type": "writer",
    }
    with pytest.raises(BadRequest, match="must"):
        await desk.usage.record_usage(**(call | wrong))  # type: ignore[arg-type] - wrong on purpose
    assert await tcp_store.execute("DBSIZE") == 0


async def test_sums_that_no_number_holds_are_refused(desk: Desk) -> None:
    """Whatever the sum that would be too large: nothing is counted anywhere."""
    usage = desk.usage
    await usage.record_usage("ann", "w1", 2**53 - 1, 0, 0, "writer")
    assert (await usage.get_daily_usage("ann")).tokens_input == 2**53 - 1
    with pytest.raises(LimitExceeded, match="workspace:w1"):
        await usage.record_usage("bob", "w1", 1, 0, 0, "writer")
    assert (await usage.get_daily_usage("bob")).tokens_input == 0


async def test_names_beyond_the_bound_are_counted_together(
    tcp_store: Store, any_database: Database, desk_of: DeskMaker
) -> None:
    """The sums stay exact, and the database knows every name."""
    desk = desk_of(tcp_store, any_database, names=3)
    for number in range(6):
        await desk.usage.record_usage("ann", "w1", 1, 0, "0.1", f"agent {number}")
    await desk.usage.record_usage("ann", "w1", 1, 0, "0.1", "agent 1")
    day = await desk.usage.get_daily_usage("ann")
    assert day.agents.keys() == {"agent 0", "agent 1", "agent 2", "other"}
    assert sum(agent.cost_micro_usd for agent in day.agents.values()) == day.cost_micro_usd
    assert day.agents["other"].requests == 3
    await desk.sweep()
    await tcp_store.execute("DEL", desk.keys.account(Scope("user", "ann"), MONTH))
    assert len((await desk.usage.get_daily_usage("ann")).agents) == 7 - 1


async def test_the_organisation_is_looked_up(desk: Desk) -> None:
    """In the database, once a minute; who names another one, or none, is believed."""
    database = desk.context.database
    assert database is not None
    async with database.begin() as connection:
        await connection.execute(insert(WORKSPACES).values(id="w1", organisation_id="acme"))
    await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer", organisation="")
    assert await micro_usd_of(desk, Scope("org", "acme")) == 1_000_000
    assert await micro_usd_of(desk, Scope("workspace", "w1")) == 2_000_000


async def test_the_billing_zone_decides_day_and_month(
    tcp_store: Store, any_database: Database, desk_of: DeskMaker
) -> None:
    """By when it occurred: at a month's end, and on the day that has 25 hours."""
    desk = desk_of(tcp_store, any_database, time_zone="Europe/Berlin")
    usage = desk.usage

    async def record(at: str) -> str:
        desk.at(at)
        return (await usage.record_usage("ann", "w1", 1, 0, 1, "writer")).day

    assert await record("2026-10-24T21:59:59+00:00") == "2026-10-24"
    assert await record("2026-10-24T22:00:00+00:00") == "2026-10-25"
    assert await record("2026-10-25T22:59:59+00:00") == "2026-10-25"
    assert await record("2026-10-25T23:00:00+00:00") == "2026-10-26"
    assert await record("2026-10-31T22:59:59+00:00") == "2026-10-31"
    assert await record("2026-10-31T23:00:00+00:00") == "2026-11-01"
    late = await usage.record_usage(
        "ann",
        "w1",
        1,
        0,
        1,
        "writer",
        occurred_at=datetime(2026, 10, 31, 23, 30, tzinfo=UTC) - timedelta(minutes=31),
    )
    assert late.day == "2026-10-31"
    await desk.sweep()
    assert (await usage.get_daily_usage("ann", "2026-10-25")).requests == 2
    assert (await usage.get_monthly_usage("ann", "2026-10")).requests == 6
    assert (await usage.get_monthly_usage("ann", "2026-11")).requests == 1
    report = await usage.get_usage("ann", "2026-10-24", "2026-11-01")
    assert [(day.date[5:], day.requests) for day in report.days] == [
        ("10-24", 1),
        ("10-25", 2),
        ("10-26", 1),
        ("10-31", 2),
        ("11-01", 1),
    ]


async def test_what_occurred_long_ago_counts_in_its_month(desk: Desk) -> None:
    """Also where Redis has nothing of it any more: it begins from the database."""
    at = datetime(2024, 2, 29, 12, tzinfo=UTC)
    await desk.usage.record_usage("ann", "w1", 1, 0, 1, "writer", occurred_at=at)
    await desk.sweep()
    await desk.store.execute("DEL", desk.keys.account(Scope("user", "ann"), "2024-02"))
    await desk.usage.record_usage("ann", "w1", 1, 0, 1, "writer", occurred_at=at)
    report = await desk.usage.get_monthly_usage("ann", "2024-02")
    assert (report.cost_micro_usd, report.source) == (2_000_000, "redis")


@pytest.mark.parametrize("after", [0, 1])
async def test_a_lost_reply_is_no_second_charge(
    tcp_desk: Desk, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Whether the script ran or not when its outcome became unknown, it is run again by its id."""
    desk, run, lost = tcp_desk, tcp_desk.store.run, []
    await desk.usage.record_usage("ann", "w1", 1, 0, 1, "writer")

    async def lose(script, keys, args, *, timeout_s=None):  # type: ignore[no-untyped-def] - as the store's
        if script.name == "usage_record" and not lost:
            lost.append(script)
            if after:
                await run(script, keys, args)
            raise OutcomeUnknown("the reply was lost")
        return await run(script, keys, args, timeout_s=timeout_s)

    monkeypatch.setattr(type(desk.store), "run", lambda _, *args, **named: lose(*args, **named))
    recorded = await desk.usage.record_usage("ann", "w1", 1, 0, 1, "writer")
    assert recorded.duplicate is bool(after)
    assert await micro_usd_of(desk, Scope("user", "ann")) == 2_000_000


async def test_what_stays_unknown_says_by_which_id_it_may_be_repeated(
    tcp_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a caller who gave none can."""

    async def lose(*_: object, **__: object) -> None:
        raise OutcomeUnknown("the reply was lost")

    monkeypatch.setattr(type(tcp_desk.store), "run", lose)
    with pytest.raises(OutcomeUnknown, match="event_id='e1'"):
        await tcp_desk.usage.record_usage("ann", "w1", 1, 0, 1, "writer", event_id="e1")


async def test_a_server_that_takes_no_writes_changes_nothing(
    tcp_desk: Desk, valkey: ValkeyServer
) -> None:
    """The event comes first: an error means that nothing was counted."""
    await tcp_desk.usage.record_usage("ann", "w1", 1, 0, 1, "writer")
    before = await tcp_desk.store.execute(
        "HGETALL", tcp_desk.keys.account(Scope("user", "ann"), MONTH)
    )
    log = tcp_desk.keys.log(tcp_desk.context.catalogue.find("usage:ann"))
    await tcp_desk.store.execute("DEL", log)
    await tcp_desk.store.execute("SET", log, "no stream")
    with pytest.raises(StoreRefused):
        await tcp_desk.usage.record_usage("ann", "w1", 1, 0, 1, "writer", event_id="e2")
    after = await tcp_desk.store.execute(
        "HGETALL", tcp_desk.keys.account(Scope("user", "ann"), MONTH)
    )
    assert after == before
    assert await tcp_desk.store.execute("EXISTS", tcp_desk.keys.usage_op("ann", "e2")) == 0


async def test_a_limit_that_is_reached_is_noticed_until_it_is_told(desk: Desk) -> None:
    """By whoever counts next; a teller that fails makes nobody else fail."""
    database = desk.context.database
    assert database is not None
    async with database.begin() as connection:
        await connection.execute(
            insert(USERS).values(id="ann", budget_limit_monthly_micro_usd=1_000_000)
        )
        await connection.execute(insert(WORKSPACES).values(id="w1", token_limit_daily=10))
        await connection.execute(insert(ORGANISATIONS).values(id="o"))
    told: list[tuple[str, str, str, str]] = []
    broken = True

    async def tell(scope: Scope, month: str, day: str, user: str) -> None:
        if broken:
            raise StoreUnavailable("not now")
        told.append((str(scope), month, day, user))
        mark = ("T", 50) if scope.kind == "user" else (f"{day[-2:]}:T", 50)
        await desk.store.execute("HSET", desk.keys.account(scope, month), *mark)

    desk.context.thresholds.use(tell)

    async def record(cost: str, tokens: int) -> list[str]:
        told.clear()
        await desk.usage.record_usage("ann", "w1", tokens, 0, cost, "writer", organisation="o")
        return [scope for scope, *_ in told]

    assert await record("0.49", 4) == []
    await record("0.01", 1)
    assert desk.usage.stats.untold == 2
    broken = False
    assert await record("0", 1) == ["user:ann", "workspace:w1"]
    assert await record("0.1", 1) == []
    assert told == []
    assert await record("0.19", 1) == ["workspace:w1"]
    assert await record("0.01", 0) == ["user:ann", "workspace:w1"]
    assert told[0][1:] == (MONTH, DAY, "ann")


async def test_without_a_database_redis_counts_alone(any_store: Store, desk_of: DeskMaker) -> None:
    """Nothing waits for a writer that does not come."""
    desk = desk_of(any_store, None)
    await desk.usage.record_usage("ann", "w1", 1, 2, 1, "writer")
    assert (await desk.usage.get_daily_usage("ann")).cost_micro_usd == 1_000_000
    assert (await desk.usage.get_daily_usage("bob")).requests == 0
    assert await any_store.execute("EXISTS", desk.keys.usage_pending("ann")) == 0
    assert await any_store.execute("EXISTS", desk.keys.due("ann")) == 0
    assert await desk.usage.top_users(workspace="w1", since=DAY, until=DAY) == []
    assert await desk.usage.reconcile(Scope("user", "ann")) == []


async def test_reports_are_plain_json(desk: Desk) -> None:
    """With the keys of the code that Fanwire began from."""
    await desk.usage.record_usage("ann", "w1", 1, 2, "0.25", "writer")
    day = json.loads(msgspec.json.encode(await desk.usage.get_daily_usage("ann")))
    assert {"date", "tokens_input", "tokens_output", "cost_usd", "requests"} <= day.keys()
    month = json.loads(msgspec.json.encode(await desk.usage.get_monthly_usage("ann")))
    assert (month["month"], month["cost_usd"]) == (MONTH, 0.25)


@pytest.mark.parametrize(
    "wrong", [("ann", "2027-13-01", DAY), ("ann", DAY, "2027-01-14"), ("ann", "2020-01-01", DAY)]
)
async def test_reports_of_no_range_are_refused(tcp_desk: Desk, wrong: tuple[str, str, str]) -> None:
    """Of days that are none, the wrong way round, or too many."""
    with pytest.raises(BadRequest):
        await tcp_desk.usage.get_usage(*wrong)


async def test_what_a_record_costs(
    endpoint: RestEndpointServer, rest_store: Store, any_database: Database, desk_of: DeskMaker
) -> None:
    """One request; 15 commands of which each is billed, for a user, a workspace and an org."""
    desk = desk_of(rest_store, any_database)

    async def record() -> None:
        await desk.usage.record_usage("ann", "w1", 1, 2, 1, "writer", model="m", organisation="o")

    await record()
    with endpoint.bill() as bill:
        await record()
    assert bill.commands == 15
    assert endpoint.app.database.global_locks == 0
    with endpoint.bill() as bill:
        await desk.usage.record_usage("ann", "w1", 1, 2, 1, "writer", organisation="")
    assert bill.commands == 13


async def test_the_code_it_began_from_loses_what_this_keeps(
    tcp_desk: Desk, valkey: ValkeyServer
) -> None:
    """A retry counts twice, money drifts, a day in the table is its last call: not so here."""
    table: dict[tuple[str, str], dict[str, object]] = {}
    async with redis_py.Redis.from_url(valkey.url) as redis:
        seed = SeedUsage(redis, table)
        for number in range(100):
            await seed.record_usage("ann", f"w{number % 2}", 1, 1, 0.0000011, "writer")
        await seed.record_usage("ann", "w1", 1, 1, 0.0000011, "writer")  # the retry of the last
        (today,) = {date for _, date in table}
        theirs = await seed.get_daily_usage("ann", today)
    assert theirs["requests"] == 101
    assert theirs["cost_usd"] != 0.00011
    assert table["ann", today]["tokens_input"] == 1

    desk = tcp_desk
    for number in range(100):
        await desk.usage.record_usage(
            "ann", f"w{number % 2}", 1, 1, "0.000011", "writer", event_id=f"e{number}"
        )
    await desk.usage.record_usage("ann", "w1", 1, 1, "0.000011", "writer", event_id="e99")
    await desk.sweep()
    ours = await desk.usage.get_daily_usage("ann")
    assert (ours.requests, ours.cost_usd, ours.tokens_input) == (100, 0.0011, 100)
    await desk.store.execute("DEL", desk.keys.account(Scope("user", "ann"), MONTH))
    assert (await desk.usage.get_daily_usage("ann")).tokens_input == 100
