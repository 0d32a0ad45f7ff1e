"""The database: SQLite in a file, or PostgreSQL, by its URL.

    async with Database("sqlite:///.fanwire/fanwire.db") as database:
        async with database.begin() as connection:
            await connection.execute(select(USERS))

``postgresql://`` (and ``postgres://``, as hosters write it) is PostgreSQL through asyncpg,
Supabase's included; ``sqlite://`` alone is a database in memory, for tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import Connection
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import URL, event, make_url, text
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from channels.errors import DatabaseUnavailable
from services.database.address import DRIVERS, check_database_url
from services.database.sqlite_threads import SqliteThreads

__all__ = ["Database"]

_MIGRATIONS = Path(__file__).parent / "migrations"
#: Seconds a connection may take, and a writer of SQLite waits for another: less than the writer of
#: usage has, for the driver cannot be called off while it waits.
_PATIENCE_S: Final = 5.0
_LOCKED_S: Final = 3.0
#: Any number, the same in every process: who holds it migrates.
_MIGRATION_LOCK: Final = 4_707_466_917


class Database:
    """One database. Connections are made when they are needed; the constructor does no I/O."""

    __slots__ = ("_threads", "engine", "url")

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        """Make one.

        Raises:
            SettingsError: the URL is not one of SQLite or PostgreSQL.
        """
        self.url = _checked(url)
        self._threads = SqliteThreads()
        #: SQLAlchemy's, for what :meth:`begin` does not offer.
        self.engine = _engine(self.url, pool_size, self._threads)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.url.get_backend_name()

    @asynccontextmanager
    async def begin(self, *, write: bool = True) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction; it is committed at the end, rolled back by an exception.

        One that only reads says so: SQLite has one writer at a time.

        Raises:
            DatabaseUnavailable: it could not be reached, broke off, or could not do it for a
                reason that is not in the data (a full disk, a deadlock, a standby). Whether a
                transaction that was being committed then stands, is not known.
            DBAPIError: it refuses the data, or the statement is wrong.
        """
        try:
            async with self.engine.connect() as connection:
                if self.dialect == "sqlite":
                    # A reader that turns writer would fail at once instead of waiting.
                    begin = "BEGIN IMMEDIATE" if write else "BEGIN"
                    await connection.exec_driver_sql(begin)
                yield connection
                await connection.commit()
        except IntegrityError:
            raise
        except ProgrammingError as error:
            if "UndefinedTable" in str(error):
                raise DatabaseUnavailable("the database has no tables yet: migrate it") from error
            raise
        except (OperationalError, InterfaceError, PoolTimeout, OSError, TimeoutError) as error:
            raise _unavailable(error) from error
        except DBAPIError as error:
            if _is_about_data(error):
                raise
            raise _unavailable(error) from error

    async def ping(self) -> None:
        """Return when the database answers.

        Raises:
            DatabaseUnavailable: it does not.
        """
        async with self.begin(write=False) as connection:
            await connection.execute(text("SELECT 1"))

    async def migrate(self, revision: str = "head") -> None:
        """Bring the tables to ``revision``; several processes may do so at once.

        Raises:
            DatabaseUnavailable: it could not be reached.
        """
        if self.dialect == "sqlite" and self.url.database:
            await asyncio.to_thread(_make_file, Path(self.url.database))
        async with self.begin() as connection:
            if self.dialect == "postgresql":
                lock = text("SELECT pg_advisory_xact_lock(:lock)")
                await connection.execute(lock, {"lock": _MIGRATION_LOCK})
            await connection.run_sync(_migrate, revision)

    async def revision(self) -> str:
        """Return the revision that the tables are at; empty where there are none.

        Raises:
            DatabaseUnavailable: it could not be reached.
        """
        if self.dialect == "sqlite" and self.url.database:
            there = await asyncio.to_thread(Path(self.url.database).exists)
            if not there:
                return ""  # looking must not make a file
        async with self.begin(write=False) as connection:
            return await connection.run_sync(_revision)

    @staticmethod
    def newest() -> str:
        """Return the newest revision there is."""
        from alembic.script import ScriptDirectory  # noqa: PLC0415 - see _migrate

        return ScriptDirectory(str(_MIGRATIONS)).get_current_head() or ""

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
        await self._threads.join()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _checked(text: str) -> URL:
    url = make_url(check_database_url(text))
    return url.set(drivername=DRIVERS[url.drivername])


def _engine(url: URL, pool_size: int, threads: SqliteThreads) -> AsyncEngine:
    if url.get_backend_name() == "postgresql":
        return create_async_engine(
            url,
            pool_size=pool_size,
            pool_pre_ping=True,
            pool_timeout=_PATIENCE_S,
            connect_args={"timeout": _PATIENCE_S, "command_timeout": 60},
        )
    arguments = {"timeout": _LOCKED_S, "async_creator_fn": threads.connect}
    options: dict[str, Any] = {"connect_args": arguments}
    if url.database in (None, "", ":memory:"):
        options["poolclass"] = StaticPool  # each connection would have a memory of its own
    engine = create_async_engine(url, **options)
    event.listen(engine.sync_engine, "connect", _tune_sqlite)
    return engine


def _make_file(path: Path) -> None:
    """Make the file, readable by its owner alone: people and money are in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise _unavailable(error) from error


def _tune_sqlite(connection: Connection, _record: object) -> None:
    # The driver would begin transactions by itself, and too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    # Readers go on beside the writer; a commit that returned survives a crash of the process.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return DatabaseUnavailable(f"the database is not available: {type(cause).__name__}: {cause}")


def _is_about_data(error: DBAPIError) -> bool:
    """Tell whether other data would be taken: SQLSTATE 22 and 23, on SQLite the class alone."""
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, DataError) if state is None else state.startswith(("22", "23"))


def _migrate(connection: Any, revision: str) -> None:  # noqa: ANN401 - SQLAlchemy's, synchronous
    # Not needed but for this, and it takes a while to load.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revision(connection: Any) -> str:  # noqa: ANN401 - SQLAlchemy's, synchronous
    from alembic.migration import MigrationContext  # noqa: PLC0415 - see _migrate

    return MigrationContext.configure(connection).get_current_revision() or ""
