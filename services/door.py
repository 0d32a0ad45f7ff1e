"""The one door to the services of an application.

    async with Services.connect("redis://localhost:6379") as services:
        await services.events.publish("session:w1:s1", SessionCreated(...))

Everything shares one store, so a process has one command connection and one subscription
connection, however many services it uses. There is no module-level state: two doors in one
process are two applications.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from channels.catalogue import Catalogue
from channels.errors import StoreError
from channels.ids import check_id
from services import approvals, auth_sessions, onboarding, session_manager
from services.auth_sessions import AuthSessions
from services.budgets.budgets import install as install_budgets
from services.caching.cache_manager import CacheManager
from services.context import Context
from services.database import Database
from services.events import Events
from services.follower import FollowerSettings
from services.limits.rate_limiter import RateLimiter
from services.redis_client import RedisClient
from services.semantic import entries as semantic_entries
from services.service_settings import ServiceSettings
from services.shared_follower import SharedFollower
from services.store.keys import Keys
from services.store.open_store import store_from_url
from services.store.port import Store
from services.usage.usage_tracker import UsageTracker
from services.workspace import Workspace

__all__ = ["Services"]

_DEFAULTS = ServiceSettings()


class Services:
    """The services of one application on one store.

    ``events`` publishes and reads back; ``follower`` delivers live publications without
    holes; ``redis`` is for the application's own keys; :meth:`for_workspace` has what belongs
    to one workspace; ``rate_limiter`` says how often something may be done. Use it as an async
    context manager: entering starts the follower's watch, leaving ends everything, the store
    included. What ends by itself is ended by whoever runs ``context.sweeper``: every hub does.
    """

    __slots__ = (
        "_tasks",
        "_wait",
        "auth_sessions",
        "budgets",
        "catalogue",
        "context",
        "events",
        "follower",
        "keys",
        "rate_limiter",
        "redis",
        "store",
        "usage",
    )

    def __init__(
        self,
        store: Store,
        *,
        catalogue: Catalogue | None = None,
        prefix: str = "fw",
        follower: FollowerSettings | None = None,
        wait: bool = True,
        another: Callable[[], Store] | None = None,
        database: Database | None = None,
        settings: ServiceSettings = _DEFAULTS,
    ) -> None:
        """Make the services on ``store``, and on ``database``, which they close too.

        ``another`` makes one more store on the same Redis; ``redis.sync`` needs it.
        """
        self.store = store
        self.catalogue = catalogue or Catalogue()
        self.keys = Keys(prefix)
        self.context = Context(
            store, self.keys, self.catalogue, database=database, cache=settings.cache
        )
        self.events = Events(self.context.log, self.catalogue)
        self.follower = SharedFollower(store, self.context.log, self.keys, follower)
        self.context.gate_waits.use(self.follower)
        self.context.caches.use(self.follower)
        self.context.semantic.use(self.follower)
        #: For the application's own keys.
        self.redis = RedisClient(store, another=another)
        self.auth_sessions = AuthSessions(self.context)
        self.usage = UsageTracker(self.context, settings.usage)
        self.budgets = install_budgets(
            self.context, self.usage, settings.budgets, price=settings.price
        )
        self.rate_limiter = RateLimiter(
            self.context,
            policies=settings.limits.all_policies(),
            plan_of=settings.plan_of,
            remembered=settings.limits.remembered,
        )
        for service in (session_manager, approvals, auth_sessions, onboarding, semantic_entries):
            service.install(self.context)
        self._wait = wait
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        token: str | None = None,
        catalogue: Catalogue | None = None,
        prefix: str = "fw",
        wait: bool = True,
        database_url: str | None = None,
        settings: ServiceSettings = _DEFAULTS,
    ) -> Services:
        """Return the services on the Redis at ``url``; connecting begins on entry.

        ``database_url`` (``sqlite:///path``, ``postgresql://...``) is where people, workspaces
        and what they used are kept; its tables are there (``Database.migrate``).

        An ``https://`` address is Upstash's REST API, and ``token`` opens it; there the
        follower hears nothing (``store.traits``).

        Entering waits for the server and raises ``StoreUnavailable`` when it is away; with
        ``wait`` off it does not, and ``store.ready`` tells.

        Raises:
            SettingsError: a URL is not one that a store or the database understands.
        """

        def another() -> Store:
            return store_from_url(url, token)

        return cls(
            another(),
            catalogue=catalogue,
            prefix=prefix,
            wait=wait,
            another=another,
            database=Database(database_url) if database_url else None,
            settings=settings,
        )

    def for_workspace(self, workspace: str) -> Workspace:
        """Return the services of one workspace; costs nothing.

        Raises:
            BadRequest: ``workspace`` is not an id.
        """
        return Workspace(self.context, check_id(workspace, "workspace"))

    @property
    def cache(self) -> CacheManager:
        """Cached values that belong to no workspace."""
        return self.context.caches.common

    async def __aenter__(self) -> Self:
        await self.store.open(wait=self._wait)
        if self._wait:
            # Before anything is given an end: this machine's own clock may be hours off.
            with contextlib.suppress(StoreError):
                await self.context.clock.measure()
        self._tasks = [
            asyncio.create_task(self.follower.run(), name="fanwire-follower"),
            asyncio.create_task(self.context.clock.run(), name="fanwire-clock"),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tasks, self._tasks = self._tasks, []
        try:
            if tasks:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            await self.rate_limiter.close()
            self.context.gate_waits.close()
            await self.context.caches.close()
            await self.context.semantic.close()
            await self.follower.close()
            await self.redis.close()
        finally:
            await self.store.close()
            if self.context.database is not None:
                await self.context.database.close()
