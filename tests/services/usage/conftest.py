"""Usage on every store and every database, in a time that the test tells."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from channels.catalogue import Catalogue
from services.clock import Clock
from services.context import Context
from services.database import Database
from services.store.keys import Keys
from services.store.port import Store
from services.usage.settings import UsageSettings
from services.usage.usage_tracker import UsageTracker


class Desk:
    """A tracker and what it works with; ``now`` is Unix time in seconds."""

    def __init__(
        self, store: Store, keys: Keys, database: Database | None, settings: UsageSettings
    ) -> None:
        self.now = 1_800_000_000.0  # 2027-01-15 08:00 UTC
        self.store = store
        self.keys = keys
        clock = Clock(store, now=lambda: self.now)
        self.context = Context(store, keys, Catalogue(), clock=clock, database=database)
        self.usage = UsageTracker(self.context, settings)

    def at(self, text: str) -> None:
        """Let it be this time, ISO 8601."""
        self.now = datetime.fromisoformat(text).timestamp()

    async def sweep(self) -> None:
        """Let what is due end: what waits is written."""
        self.now += 60
        await self.context.sweeper.sweep()


DeskMaker = Callable[..., Desk]


@pytest.fixture
def desk_of(keys: Keys) -> DeskMaker:
    """Return a function that makes a desk: ``desk_of(store, database, time_zone=...)``."""

    def make(store: Store, database: Database | None, **settings: object) -> Desk:
        return Desk(store, keys, database, UsageSettings(**settings))  # type: ignore[arg-type] - named by tests

    return make


@pytest.fixture
def desk(any_store: Store, any_database: Database, desk_of: DeskMaker) -> Desk:
    """A desk on each store and each database."""
    return desk_of(any_store, any_database)


@pytest.fixture
def tcp_desk(tcp_store: Store, any_database: Database, desk_of: DeskMaker) -> Desk:
    """A desk over TCP, on each database: for many calls."""
    return desk_of(tcp_store, any_database)
