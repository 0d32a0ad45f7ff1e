"""Stores and logs on the real server of the test run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.event_log import EventLog
from services.store.keys import Keys
from services.store.tcp import TcpStore, TcpStoreOptions

from ..servers import ValkeyServer

#: Short pauses: the tests break connections by the thousand.
QUICK = TcpStoreOptions(backoff_s=(0.001, 0.05))


@pytest.fixture
def keys() -> Keys:
    """The keys everything is found under."""
    return Keys("fw")


@pytest.fixture
async def store(valkey: ValkeyServer) -> AsyncIterator[TcpStore]:
    """An open store on the shared server, which is empty."""
    async with TcpStore(valkey.url, QUICK) as opened:
        yield opened


@pytest.fixture
async def log(store: TcpStore, keys: Keys) -> EventLog:
    """The event logs on ``store``."""
    return EventLog(store, keys)
