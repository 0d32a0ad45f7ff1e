"""The caches of a process: what those of all workspaces share."""

from __future__ import annotations

from weakref import WeakValueDictionary

from channels.catalogue import HUB_CACHE, WORKSPACE, Catalogue
from services.changes import Changes
from services.clock import Clock
from services.database import Database
from services.shared_follower import SharedFollower
from services.store.keys import Keys
from services.store.port import Store

from .cache_manager import CacheManager
from .cache_store import CacheStore
from .fill_waits import FillWaits
from .llm_cache import LlmCache
from .local_cache import LocalCache
from .settings import CacheSettings
from .shared import Shared
from .stats import CacheStats, LlmStats

__all__ = ["Caches"]


class Caches:
    """Makes the cache of each workspace, once, and looks after them. No I/O in the constructor."""

    __slots__ = ("_catalogue", "_managers", "llm_stats", "shared", "stats")

    def __init__(
        self,
        store: Store,
        keys: Keys,
        catalogue: Catalogue,
        changes: Changes,
        clock: Clock,
        *,
        settings: CacheSettings | None = None,
        database: Database | None = None,
    ) -> None:
        settings = settings or CacheSettings()
        #: What was counted since the start.
        self.stats = CacheStats()
        self.llm_stats = LlmStats()
        self.shared = Shared(
            store=store,
            cache_store=CacheStore(store, keys, changes, clock, settings, self.stats),
            waits=FillWaits(store),
            local=LocalCache(settings.local_entries, settings.local_bytes, self.stats),
            settings=settings,
            stats=self.stats,
            database=database,
        )
        self._catalogue = catalogue
        self._managers: WeakValueDictionary[str, CacheManager] = WeakValueDictionary()

    def use(self, follower: SharedFollower) -> None:
        """Have invalidations heard through ``follower``; without one memory is not used."""
        self.shared.use(follower)

    def of_workspace(self, workspace: str) -> CacheManager:
        """Return the cache of a workspace; ``workspace`` is an id."""
        found = self._managers.get(workspace)
        if found is None:
            channel = self._catalogue.find(WORKSPACE.name(workspace=workspace))
            found = self._managers[workspace] = CacheManager(self.shared, channel, workspace)
        return found

    def llm(self, workspace: str) -> LlmCache:
        """Return the cache of a workspace's answers of language models."""
        policy = self.shared.settings.llm
        return LlmCache(self.of_workspace(workspace), policy, self.llm_stats)

    @property
    def common(self) -> CacheManager:
        """The cache for what belongs to no workspace."""
        channel = self._catalogue.find(HUB_CACHE.name())
        found = self._managers.get(channel.root)
        if found is None:
            found = self._managers[channel.root] = CacheManager(self.shared, channel, "")
        return found

    async def close(self) -> None:
        """End loads and waits; nothing is remembered any more."""
        await self.shared.close()
