"""Stores and logs on the real server of the test run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from channels.catalogue import Catalogue
from channels.ids import new_id
from services.context import Context
from services.database import Database
from services.event_log import EventLog
from services.store.keys import Keys
from services.store.port import Store
from services.store.tcp import TcpStore, TcpStoreOptions
from services.store.upstash import UpstashStore, UpstashStoreOptions

from ..postgres import PostgresServer
from ..rest_endpoint import RestEndpointServer
from ..servers import ValkeyServer

#: Short pauses: the tests break connections by the thousand.
QUICK = TcpStoreOptions(backoff_s=(0.001, 0.05))
QUICK_REST = UpstashStoreOptions(backoff_s=(0.001, 0.05), timeout_s=20.0)


@pytest.fixture
def keys() -> Keys:
    """The keys everything is found under."""
    return Keys("fw")


@pytest.fixture
async def tcp_store(valkey: ValkeyServer) -> AsyncIterator[TcpStore]:
    """An open store on the shared server, which is empty."""
    async with TcpStore(valkey.url, QUICK) as opened:
        yield opened


@pytest.fixture
def store(tcp_store: TcpStore) -> Store:
    """The same. A file whose tests need no subscriptions makes it ``any_store`` for all."""
    return tcp_store


@pytest.fixture
async def rest_store(endpoint: RestEndpointServer) -> AsyncIterator[UpstashStore]:
    """An open store on ``endpoint``."""
    async with UpstashStore(endpoint.url, endpoint.token, QUICK_REST) as opened:
        yield opened


@pytest.fixture(params=["tcp", "upstash"])
def any_store(request: pytest.FixtureRequest) -> Store:
    """An open store of each kind on the shared server: for what must not see a difference.

    Over REST the endpoint refuses scripts that touch a key they do not declare.
    """
    found: Store = request.getfixturevalue("tcp_store" if request.param == "tcp" else "rest_store")
    return found


@pytest.fixture
def context(any_store: Store, keys: Keys) -> Context:
    """What services are made with, on a store of each kind; every channel is allowed."""
    return Context(any_store, keys, Catalogue(allow_undeclared=True))


@pytest.fixture
async def log(store: Store, keys: Keys) -> EventLog:
    """The event logs on ``store``."""
    return EventLog(store, keys)


@pytest.fixture
async def tcp_log(tcp_store: TcpStore, keys: Keys) -> EventLog:
    """The same logs over TCP, for publications by the hundred: a request each takes its time."""
    return EventLog(tcp_store, keys)


@pytest.fixture(params=["sqlite", "postgresql"])
async def any_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of an empty database of each kind, with its tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'fanwire.db'}"
        async with Database(url) as database:
            await database.migrate()
        yield url
        return
    server: PostgresServer = request.getfixturevalue("shared_postgres")
    name = f"t_{new_id().replace('-', '_').lower()}"
    async with Database(server.url) as admin, admin.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(f'CREATE DATABASE "{name}"'))
    async with Database(server.database(name)) as database:
        await database.migrate()
    yield server.database(name)


@pytest.fixture
async def any_database(any_database_url: str) -> AsyncIterator[Database]:
    """An empty database of each kind, with its tables."""
    async with Database(any_database_url) as database:
        yield database
