"""The one door to the services of an application.

    async with Services.connect("redis://localhost:6379") as services:
        await services.events.publish("session:w1:s1", SessionCreated(...))

Everything shares one store, so a process has one command connection and one subscription
connection, however many services it uses. There is no module-level state: two doors in one
process are two applications.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from channels.catalogue import Catalogue
from services.event_log import EventLog
from services.events import Events
from services.follower import Follower, FollowerSettings
from services.store.keys import Keys
from services.store.port import Store
from services.store.tcp import TcpStore

__all__ = ["Services"]


class Services:
    """The services of one application on one store.

    ``events`` publishes and reads back; ``follower`` delivers live publications without
    holes. Use it as an async context manager: entering starts the follower's watch, leaving
    ends everything, the store included.
    """

    __slots__ = ("_wait", "_watch", "catalogue", "events", "follower", "keys", "store")

    def __init__(
        self,
        store: Store,
        *,
        catalogue: Catalogue | None = None,
        prefix: str = "fw",
        follower: FollowerSettings | None = None,
        wait: bool = True,
    ) -> None:
        self.store = store
        self.catalogue = catalogue or Catalogue()
        self.keys = Keys(prefix)
        log = EventLog(store, self.keys)
        self.events = Events(log, self.catalogue)
        self.follower = Follower(store, log, self.keys, follower)
        self._wait = wait
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        catalogue: Catalogue | None = None,
        prefix: str = "fw",
        wait: bool = True,
    ) -> Services:
        """Return the services on the Redis at ``url``; connecting begins on entry.

        Entering waits for the server and raises ``StoreUnavailable`` when it is away; with
        ``wait`` off it does not, and ``store.ready`` tells.

        Raises:
            SettingsError: the URL is not one that a store understands.
        """
        return cls(TcpStore(url), catalogue=catalogue, prefix=prefix, wait=wait)

    async def __aenter__(self) -> Self:
        await self.store.open(wait=self._wait)
        self._watch = asyncio.create_task(self.follower.run(), name="fanwire-follower")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        watch, self._watch = self._watch, None
        try:
            if watch is not None:
                watch.cancel()
                await asyncio.wait({watch})
            await self.follower.close()
        finally:
            await self.store.close()
