"""What the caches of all workspaces in a process hold in common."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from channels.errors import StoreError
from services.database import Database
from services.shared_follower import SharedFollower
from services.store.port import Store

from .cache_store import CacheStore
from .fill_waits import FillWaits
from .local_cache import LocalCache
from .settings import CacheSettings
from .stats import CacheStats

if TYPE_CHECKING:
    from .memory import Memory

__all__ = ["Shared"]


class Shared:
    """The parts, the tasks, and which workspaces are followed."""

    __slots__ = (
        "_janitor",
        "_tapped",
        "_tasks",
        "cache_store",
        "closed",
        "database",
        "follower",
        "local",
        "settings",
        "stats",
        "store",
        "waits",
    )

    def __init__(
        self,
        *,
        store: Store,
        cache_store: CacheStore,
        waits: FillWaits,
        local: LocalCache,
        settings: CacheSettings,
        stats: CacheStats,
        database: Database | None,
    ) -> None:
        self.store = store
        self.cache_store = cache_store
        self.waits = waits
        self.local = local
        self.settings = settings
        self.stats = stats
        self.database = database
        self.follower: SharedFollower | None = None
        self.closed = False
        self._tapped: set[Memory] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._janitor: asyncio.TimerHandle | None = None

    def use(self, follower: SharedFollower) -> None:
        """Have invalidations heard through ``follower``."""
        if self.store.traits.subscriptions:
            self.follower = follower
            self.store.on_state(self._on_state)

    def _on_state(self, ready: bool) -> None:  # noqa: FBT001 - the store's callback
        if not ready:
            for memory in self._tapped:
                memory.on_doubt()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run ``work`` in the background, until it ends or everything is closed."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- who is followed -------------------------------------------------------------------

    def tapped(self, memory: Memory) -> None:
        """Look after a memory whose workspace is followed now."""
        self._tapped.add(memory)
        if self._janitor is None and not self.closed:
            self._janitor = asyncio.get_running_loop().call_later(
                self.settings.idle_s / 4, self._clean
            )

    def _clean(self) -> None:
        """Stop following workspaces that nobody asks for."""
        self._janitor = None
        idle_since = time.monotonic() - self.settings.idle_s
        for memory in list(self._tapped):
            if memory.used < idle_since:
                self.spawn(self._leave(memory), "fanwire-cache-leave")
        if self._tapped and not self.closed:
            self._janitor = asyncio.get_running_loop().call_later(
                self.settings.idle_s / 4, self._clean
            )

    async def _leave(self, memory: Memory) -> None:
        self._tapped.discard(memory)
        with contextlib.suppress(StoreError):
            await memory.untap()

    async def close(self) -> None:
        """End every task; wake everybody who waits."""
        self.closed = True
        if self._janitor is not None:
            self._janitor.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for memory in list(self._tapped):
            await self._leave(memory)
        await self.waits.close()
