"""Transactions, migrations and outages of the database, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from channels.errors import DatabaseUnavailable, SettingsError
from services.database import Database
from services.database.tables import METADATA, USAGE_EVENTS, USERS

from ...postgres import PostgresServer


@pytest.mark.parametrize(
    "url", ["", "mysql://h/d", "redis://h", "postgresql+psycopg2://h/d", "no url", "://"]
)
def test_other_urls_are_refused(url: str) -> None:
    """The error names what is expected, and nothing of the URL but its scheme."""
    with pytest.raises(SettingsError, match=r"expected sqlite:///path or postgresql://"):
        Database(url)


def test_a_password_is_not_told() -> None:
    """Neither in the error nor in the object."""
    with pytest.raises(SettingsError) as caught:
        Database("mysql://user:geheim@h/d")
    assert "geheim" not in str(caught.value)
    assert "geheim" not in repr(Database("postgresql://user:geheim@h/d").url)


async def test_migrations_make_what_the_tables_say(any_database: Database) -> None:
    """Nothing is left to change after the last migration, and running them again is fine."""
    await any_database.migrate()
    async with any_database.begin() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True}), METADATA
            )
        )
    assert differences == []


async def test_several_processes_migrate_at_once(any_database_url: str, tmp_path: Path) -> None:
    """One of them makes the tables, the others find them."""
    url = any_database_url
    if url.startswith("sqlite"):
        url = f"sqlite:///{tmp_path / 'new' / 'fresh.db'}"
    databases = [Database(url) for _ in range(6)]
    await asyncio.gather(*(database.migrate() for database in databases))
    async with databases[0].begin(write=False) as connection:
        assert await connection.scalar(select(func.count()).select_from(USERS)) == 0
    for database in databases:
        await database.close()


async def test_a_failed_transaction_leaves_nothing(any_database: Database) -> None:
    """What was written before the error is gone."""

    async def fail() -> None:
        async with any_database.begin() as connection:
            await connection.execute(insert(USERS).values(id="ada"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with any_database.begin(write=False) as connection:
        assert (await connection.execute(select(USERS))).all() == []


async def test_a_cancelled_transaction_leaves_nothing(any_database: Database) -> None:
    """And its connection serves the next one."""
    written = asyncio.Event()

    async def write() -> None:
        async with any_database.begin() as connection:
            await connection.execute(insert(USERS).values(id="ada"))
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with any_database.begin() as connection:
        await connection.execute(insert(USERS).values(id="ada"))


async def test_writers_wait_for_each_other(any_database: Database) -> None:
    """Fifty that read and then write lose nothing, and none fails."""
    async with any_database.begin() as connection:
        await connection.execute(insert(USERS).values(id="ada", token_limit_daily=0))

    async def add() -> None:
        async with any_database.begin() as connection:
            query = select(USERS.c.token_limit_daily).with_for_update()
            value = await connection.scalar(query)
            await connection.execute(update(USERS).values(token_limit_daily=value + 1))

    await asyncio.gather(*(add() for _ in range(50)))
    async with any_database.begin(write=False) as connection:
        assert await connection.scalar(select(USERS.c.token_limit_daily)) == 50


async def test_constraints_hold(any_database: Database) -> None:
    """A second event of the same id and a negative limit are refused as what they are."""
    event = {
        "id": "e1",
        "kind": "usage",
        "user_id": "ada",
        "workspace_id": "w1",
        "tokens_input": 2**53 - 1,
        "tokens_output": 0,
        "cost_micro_usd": 2**53 - 1,
        "requests": 1,
        "batch": 1,
        "date": datetime.now(UTC).date(),
        "occurred_at": datetime.now(UTC),
        "recorded_at": datetime.now(UTC),
    }
    async with any_database.begin() as connection:
        await connection.execute(insert(USAGE_EVENTS).values(event))
    with pytest.raises(IntegrityError):
        async with any_database.begin() as connection:
            await connection.execute(insert(USAGE_EVENTS).values(event))
    with pytest.raises(IntegrityError):
        async with any_database.begin() as connection:
            await connection.execute(insert(USERS).values(id="eve", token_limit_daily=-1))
    async with any_database.begin(write=False) as connection:
        assert await connection.scalar(select(USAGE_EVENTS.c.cost_micro_usd)) == 2**53 - 1


async def test_without_tables_it_says_so(tmp_path: Path) -> None:
    """A database that nobody migrated is not available, whatever the driver calls it."""
    async with Database(f"sqlite:///{tmp_path / 'empty.db'}") as database:

        async def read() -> None:
            async with database.begin(write=False) as connection:
                await connection.execute(select(USERS))

        with pytest.raises(DatabaseUnavailable, match="no such table"):
            await read()


async def test_an_outage_is_told_and_ends(own_postgres: PostgresServer) -> None:
    """Killed in a transaction: unavailable, nothing stays; afterwards it works by itself."""
    async with Database(own_postgres.url) as database:
        await database.migrate()

        async def write() -> None:
            async with database.begin() as connection:
                await connection.execute(insert(USERS).values(id="ada"))
                own_postgres.kill()
                await connection.execute(insert(USERS).values(id="bob"))

        with pytest.raises(DatabaseUnavailable):
            await write()
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
        own_postgres.start()
        await database.ping()
        async with database.begin(write=False) as connection:
            assert (await connection.execute(select(USERS))).all() == []


async def test_the_file_is_its_owners(tmp_path: Path) -> None:
    """People and money are in it; a path that cannot be is an unavailable database."""
    path = tmp_path / "deep" / "fanwire.db"
    async with Database(f"sqlite:///{path}") as database:
        await database.migrate()
        files = [file for file in path.parent.iterdir() if file.name.startswith("fanwire.db")]
        assert {file.stat().st_mode & 0o077 for file in files} == {0}
    async with Database("sqlite:////proc/nowhere/f.db") as database:
        with pytest.raises(DatabaseUnavailable):
            await database.migrate()


async def test_an_unreachable_database_is_unavailable(tmp_path: Path) -> None:
    """A closed port and a directory that cannot be are told alike."""
    for url in ("postgresql://u@127.0.0.1:1/d", "sqlite:////proc/nowhere/f.db"):
        async with Database(url) as database:
            with pytest.raises(DatabaseUnavailable):
                await database.ping()
