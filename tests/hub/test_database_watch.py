"""The hub makes its tables, works without the database, and says how it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import select

from hub.database_watch import DatabaseWatch
from services.database import Database
from services.database.tables import USERS

from ..postgres import PostgresServer
from ..servers import ValkeyServer
from .serving import open_settings, served


async def until(watch: DatabaseWatch, *, well: bool) -> None:
    """Wait until the watch says so."""
    async with asyncio.timeout(10):
        while bool(watch.trouble) == well:  # noqa: ASYNC110 - it tells nobody when it looks
            await asyncio.sleep(0.01)


async def test_tables_are_made_when_the_database_comes(own_postgres: PostgresServer) -> None:
    """The hub is up first; an outage later is told too, and its end."""
    url = own_postgres.url
    own_postgres.stop()
    async with Database(url) as database:
        watch = DatabaseWatch(database, migrate=True, again_s=(0.01, 0.05), every_s=0.05)
        task = asyncio.create_task(watch.run())
        await until(watch, well=False)
        own_postgres.start()
        await until(watch, well=True)
        async with database.begin(write=False) as connection:
            assert (await connection.execute(select(USERS))).all() == []
        own_postgres.kill()
        await until(watch, well=False)
        assert "not available" in watch.trouble
        own_postgres.start()
        await until(watch, well=True)
        task.cancel()
        await asyncio.wait([task])


async def test_without_migrating_missing_tables_stay_missing(tmp_path: Path) -> None:
    """Operators who change tables themselves are left alone."""
    async with Database(f"sqlite:///{tmp_path / 'f.db'}") as database:
        watch = DatabaseWatch(database, migrate=False, every_s=0.01)
        task = asyncio.create_task(watch.run())
        await until(watch, well=True)
        assert await database.revision() == ""
        task.cancel()
        await asyncio.wait([task])


async def test_a_hub_without_its_database_is_ready_and_says_so(valkey: ValkeyServer) -> None:
    """Streaming needs no SQL: clients are not sent elsewhere, operators are warned."""
    away = open_settings(valkey.url, database_url="postgresql://u@127.0.0.1:1/d")
    async with served(away) as hub, hub.client() as client:
        answer = (await client.get("/health/ready")).json()
        assert answer["ready"] is True
        assert any("database" in warning for warning in answer["warnings"])


async def test_a_hub_makes_its_tables(valkey: ValkeyServer, tmp_path: Path) -> None:
    """And has no warning then."""
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    async with served(open_settings(valkey.url, database_url=url)) as hub:
        assert hub.hub.database_watch is not None
        await until(hub.hub.database_watch, well=True)
        assert not any("database" in warning for warning in hub.hub.warnings)
    async with Database(url) as database:
        assert await database.revision() == Database.newest()
