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
from services.context import Context
from services.database import Database
from services.events import Events
from services.follower import FollowerSettings
from services.redis_client import RedisClient
from services.semantic import entries as semantic_entries
from services.shared_follower import SharedFollower
from services.store.keys import Keys
from services.store.open_store import store_from_url
from services.store.port import Store
from services.workspace import Workspace

__all__ = ["Services"]


class Services:
    """The services of one application on one store.

    ``events`` publishes and reads back; ``follower`` delivers live publications without
    holes; ``redis`` is for the application's own keys; :meth:`for_workspace` has what belongs
    to one workspace. Use it as an async context manager: entering starts the follower's watch,
    leaving ends everything, the store included. What ends by itself is ended by whoever runs
    ``context.sweeper``: every hub does.
    """

    __slots__ = (
        "_tasks",
        "_wait",
        "auth_sessions",
        "catalogue",
        "context",
        "events",
        "follower",
        "keys",
        "redis",
        "store",
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
    ) -> None:
        """Make the services on ``store``, and on ``database``, which they close too.

        ``another`` makes one more store on the same Redis; ``redis.sync`` needs it.
        """
        self.store = store
        self.catalogue = catalogue or Catalogue()
        self.keys = Keys(prefix)
        self.context = Context(store, self.keys, self.catalogue, database=database)
        self.events = Events(self.context.log, self.catalogue)
        self.follower = SharedFollower(store, self.context.log, self.keys, follower)
        self.context.gate_waits.use(self.follower)
        self.context.semantic.use(self.follower)
        #: For the application's own keys.
        self.redis = RedisClient(store, another=another)
        self.auth_sessions = AuthSessions(self.context)
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
        )

    def for_workspace(self, workspace: str) -> Workspace:
        """Return the services of one workspace; costs nothing.

        Raises:
            BadRequest: ``workspace`` is not an id.
        """
        return Workspace(self.context, check_id(workspace, "workspace"))

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
            self.context.gate_waits.close()
            await self.context.semantic.close()
            await self.follower.close()
            await self.redis.close()
        finally:
            await self.store.close()
            if self.context.database is not None:
                await self.context.database.close()
