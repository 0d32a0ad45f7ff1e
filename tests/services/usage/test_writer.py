"""What waits in Redis comes into the database, once, whatever dies and whatever is in it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from sqlalchemy import func, select, text

from channels.errors import DatabaseUnavailable, StoreRefused
from channels.scope import Scope
from services.database import Database
from services.database.tables import USAGE_EVENTS, USAGE_RECORDS
from services.store.port import Store
from services.usage import writer as writer_module

from .conftest import Desk, DeskMaker
from .test_seeding import Outage


async def rows(desk: Desk) -> tuple[int, int, int]:
    """Return how many events and rows of sums there are, and the sum of requests."""
    assert desk.context.database is not None
    async with desk.context.database.begin(write=False) as connection:
        events = (await connection.execute(select(func.count()).select_from(USAGE_EVENTS))).scalar()
        sums = select(func.count(), func.sum(USAGE_RECORDS.c.requests))
        count, requests = (await connection.execute(sums)).one()
    return int(events or 0), int(count), int(requests or 0)


async def test_users_share_a_transaction(tcp_desk: Desk) -> None:
    """Those who come while one commits go into the next one together."""
    desk = tcp_desk
    for number in range(40):
        await desk.usage.record_usage(f"u{number}", "w1", 1, 1, 1, "writer")
    await asyncio.gather(*(desk.usage.drain(f"u{number}") for number in range(40)))
    assert await rows(desk) == (40, 40, 40)
    assert desk.usage.stats.batches <= 3


async def test_more_than_a_page_is_written(tcp_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page after page, also where a look is over before it is done."""
    monkeypatch.setattr(writer_module, "_PAGE", 10)
    monkeypatch.setattr(writer_module, "_PAGES", 2)
    for _ in range(35):
        await tcp_desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    await tcp_desk.sweep()
    assert (await rows(tcp_desk))[0] == 20
    await tcp_desk.sweep()
    assert await rows(tcp_desk) == (35, 1, 35)


async def test_nodes_that_write_the_same_at_once_write_it_once(
    tcp_store: Store, any_database: Database, desk_of: DeskMaker
) -> None:
    """A claim that ran out does no harm."""
    desks = [desk_of(tcp_store, any_database) for _ in range(4)]
    for _ in range(50):
        await desks[0].usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    await asyncio.gather(*(desk.usage.drain("ann") for desk in desks))
    assert await rows(desks[0]) == (50, 1, 50)
    account = desks[0].keys.account(Scope("user", "ann"), "2027-01")
    assert await tcp_store.execute("HMGET", account, "15:n", "15:p") == [b"50", b"0"]


async def test_what_nobody_can_read_is_set_aside(desk: Desk) -> None:
    """It is kept, blocks nothing, and is counted."""
    await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    pending = desk.keys.usage_pending("ann")
    await desk.store.execute("XADD", pending, "*", "e", "[]", "g", "x 1")
    await desk.store.execute("XADD", pending, "*", "strange", "entry")
    await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    await desk.sweep()
    assert await rows(desk) == (2, 1, 2)
    assert await desk.store.execute("XLEN", pending) == 0
    assert await desk.store.execute("XLEN", desk.keys.usage_dead("ann")) == 2
    assert desk.usage.stats.dead == 2


async def test_what_the_database_refuses_is_set_aside(
    tcp_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its batch are written."""
    desk = tcp_desk
    if desk.context.database is None or desk.context.database.dialect != "postgresql":
        pytest.skip("SQLite takes text of any length")
    for number in range(5):
        await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer", event_id=f"e{number}")
    entries = await desk.store.execute("XRANGE", desk.keys.usage_pending("ann"), "-", "+")
    assert isinstance(entries, list)
    entry = entries[2][1][1].replace(b'"writer"', b'"' + b"x" * 300 + b'"')  # type: ignore[index, union-attr] - RESP
    await desk.store.execute("XADD", desk.keys.usage_pending("ann"), "*", "e", entry, "g", "x 1")
    await desk.store.execute("XDEL", desk.keys.usage_pending("ann"), entries[2][0])  # type: ignore[index] - RESP
    await desk.sweep()
    assert await rows(desk) == (4, 1, 4)
    assert await desk.store.execute("XLEN", desk.keys.usage_dead("ann")) == 1


@pytest.mark.parametrize(
    "state",
    [
        "25006",  # a standby that only reads
        "40P01",  # a deadlock
        "42501",  # no permission
        "53100",  # a full disk
        "57014",  # statement_timeout
    ],
)
async def test_a_database_that_can_write_nothing_is_waited_for(tcp_desk: Desk, state: str) -> None:
    """What says nothing about an entry must not set it aside: it would never be written."""
    desk, database = tcp_desk, tcp_desk.context.database
    if database is None or database.dialect != "postgresql":
        pytest.skip("SQLite has no such states")
    async with database.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
                f"EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"
            )
        )
        await connection.execute(
            text(
                "CREATE TRIGGER trouble BEFORE INSERT ON usage_events "
                "FOR EACH ROW EXECUTE FUNCTION trouble()"
            )
        )
    await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    with pytest.raises(DatabaseUnavailable):
        await desk.usage.drain("ann")
    await desk.sweep()
    assert await desk.store.execute("XLEN", desk.keys.usage_dead("ann")) == 0
    assert await desk.store.execute("XLEN", desk.keys.usage_pending("ann")) == 2
    async with database.begin() as connection:
        await connection.execute(text("DROP TRIGGER trouble ON usage_events"))
    await desk.sweep()
    assert await rows(desk) == (2, 1, 2)


@pytest.mark.parametrize("dies", ["before the commit", "after the commit", "after settling"])
async def test_a_writer_that_dies_loses_and_doubles_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    """Wherever it stood: the next one finds it."""
    for _ in range(3):
        await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    write, settle = writer_module.write_batch, desk.usage.writer._settle  # type: ignore[attr-defined]

    async def dying_write(*args: object) -> object:
        if dies == "after the commit":
            await write(*args)  # type: ignore[arg-type] - as it is called
        raise asyncio.CancelledError

    async def dying_settle(_: object, *args: object) -> tuple[int, int]:
        await settle(*args)
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        if dies == "after settling":
            patched.setattr(type(desk.usage.writer), "_settle", dying_settle)
        else:
            patched.setattr(writer_module, "write_batch", dying_write)
        with pytest.raises(asyncio.CancelledError):
            await desk.usage.drain("ann")
    await desk.sweep()
    assert await rows(desk) == (3, 1, 3)
    assert await desk.store.execute("XLEN", desk.keys.usage_pending("ann")) == 0
    for scope in (Scope("user", "ann"), Scope("workspace", "w1")):
        assert (await desk.usage.get_scope_daily(scope)).requests == 3
        assert await desk.usage.reconcile(scope) == []


async def test_who_shared_a_transaction_that_broke_off_is_told(
    tcp_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever for what somebody else began."""
    desk, begun, write = tcp_desk, asyncio.Event(), writer_module.write_batch
    for user in ("ann", "bob"):
        await desk.usage.record_usage(user, "w1", 1, 1, 1, "writer")

    async def hang(*_: object) -> object:
        begun.set()
        return await asyncio.Event().wait()

    monkeypatch.setattr(writer_module, "write_batch", hang)
    first = asyncio.create_task(desk.usage.drain("ann"))
    await begun.wait()
    second = asyncio.create_task(desk.usage.drain("bob"))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    monkeypatch.setattr(writer_module, "write_batch", write)
    await asyncio.wait([second], timeout=1)
    if not second.done():
        second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await desk.usage.drain("bob")
    await desk.usage.drain("ann")
    assert await rows(desk) == (2, 2, 2)


async def test_a_root_is_put_off_while_the_database_is_away(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays due, the sweeper goes on, and nothing is asked of the database meanwhile."""
    assert desk.context.database is not None
    outage = Outage(desk.context.database, monkeypatch)
    await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer", organisation="")
    await desk.usage.record_usage("bob", "w1", 1, 1, 1, "writer", organisation="")
    outage.away = True
    await desk.sweep()
    assert await desk.store.execute("ZCARD", desk.keys.due("ann")) == 1
    assert sum("waits for the database" in message for message in caplog.messages) <= 2
    assert not any(record.exc_info for record in caplog.records)
    with pytest.raises(DatabaseUnavailable):
        await desk.usage.drain("ann")
    outage.away = False
    await desk.sweep()  # one of them tries it
    await desk.sweep()
    assert (await rows(desk))[0] == 2


async def test_a_database_that_hangs_holds_up_nothing_else(
    tcp_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some wait for it once; the others are put off, and so what is due ends in time."""
    desk, tried = tcp_desk, 0

    async def hang(*_: object) -> object:
        nonlocal tried
        tried += 1
        return await asyncio.Event().wait()

    for number in range(50):
        await desk.usage.record_usage(f"u{number}", "w1", 1, 1, 1, "writer", organisation="")
    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "write_batch", hang)
        patched.setattr(writer_module, "_LOOK_S", 0.2)
        async with asyncio.timeout(20):
            await desk.sweep()
            assert 1 <= tried <= 4
            tried = 0
            await desk.sweep()  # they are due again, and one of them tries
            assert 1 <= tried <= 4
    assert await rows(desk) == (0, 0, 0)
    for _ in range(5):
        await desk.sweep()
    assert await rows(desk) == (50, 50, 50)


async def test_a_full_redis_is_emptied(tcp_desk: Desk) -> None:
    """What waited for the database is what filled it: it must be able to leave."""
    desk, config = tcp_desk, ("CONFIG", "SET", "maxmemory")
    for number in range(3):
        await desk.usage.record_usage(f"u{number}", "w1", 1, 1, 1, "writer")
    # An entry that is in no account: settling has something to add.
    entry = await desk.store.execute("XRANGE", desk.keys.usage_pending("u0"), "-", "+")
    text = entry[0][1][1].replace(b'["', b'["other-')  # type: ignore[index, union-attr] - RESP
    await desk.store.execute("XADD", desk.keys.usage_pending("u0"), "*", "e", text, "g", "x 1")
    await desk.store.execute(*config, "1")
    try:
        with pytest.raises(StoreRefused):
            await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
        for _ in range(2):
            with contextlib.suppress(StoreRefused):
                await desk.sweep()
        for number in range(3):
            pending = desk.keys.usage_pending(f"u{number}")
            assert await desk.store.execute("XLEN", pending) == 0
    finally:
        await desk.store.execute(*config, "0")
    assert (await rows(desk))[0] == 4
    assert (await desk.usage.get_daily_usage("u0")).requests == 2


async def test_a_user_who_records_all_the_time_is_registered_rarely(tcp_desk: Desk) -> None:
    """So that recording costs one command; and never too late to be found."""
    desk = tcp_desk
    await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    await desk.store.execute("CONFIG", "RESETSTAT")
    for _ in range(20):
        desk.now += 0.05
        await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    info = await desk.store.execute("INFO", "commandstats")
    assert isinstance(info, bytes)
    (line,) = [one for one in info.decode().splitlines() if one.startswith("cmdstat_zadd")]
    assert line.partition("calls=")[2].split(",")[0] == "20"  # all of them in the script
    desk.now += 1.0
    await desk.usage.record_usage("ann", "w1", 1, 1, 1, "writer")
    found = await desk.store.execute("ZSCORE", desk.keys.due_roots(), "ann")
    assert found is not None
    await desk.sweep()
    assert (await rows(desk))[0] == 22
