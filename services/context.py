"""What every service is made with: one store, and what all of them do alike."""

from __future__ import annotations

from channels.catalogue import Catalogue
from services.approval_wait import GateWaits
from services.caching.caches import Caches
from services.caching.settings import CacheSettings
from services.changes import Changes
from services.clock import Clock
from services.database import Database
from services.event_log import EventLog
from services.semantic.replicas import Replicas
from services.session_settings import SessionSettings
from services.snapshots import Snapshots
from services.store.keys import Keys
from services.store.port import Store
from services.sweeper import Sweeper
from services.thresholds import Thresholds

__all__ = ["Context"]

#: Seconds in which it is noticed that another node made something end soon.
_LOOK_S = 1.0
_BILLED_LOOK_S = 60.0


class Context:
    """The common ground of the services of one application. No I/O."""

    __slots__ = (
        "caches",
        "catalogue",
        "changes",
        "clock",
        "database",
        "gate_waits",
        "keys",
        "log",
        "semantic",
        "session_settings",
        "snapshots",
        "store",
        "sweeper",
        "thresholds",
    )

    def __init__(
        self,
        store: Store,
        keys: Keys,
        catalogue: Catalogue,
        *,
        clock: Clock | None = None,
        database: Database | None = None,
        cache: CacheSettings | None = None,
    ) -> None:
        self.store = store
        self.keys = keys
        self.catalogue = catalogue
        self.clock = clock or Clock(store)
        self.log = EventLog(store, keys)
        self.changes = Changes(store, self.log, self.clock)
        # Looking costs commands; what this process knows to be due is not looked for.
        every_s = _BILLED_LOOK_S if store.traits.billed else _LOOK_S
        self.sweeper = Sweeper(store, keys, self.clock, every_s=every_s)
        self.snapshots = Snapshots()
        self.session_settings = SessionSettings()
        self.gate_waits = GateWaits()
        #: What semantic caches of this process share.
        self.semantic = Replicas(self)
        #: What outlives Redis; without one nothing of it is known.
        self.database = database
        self.thresholds = Thresholds()
        self.caches = Caches(
            store, keys, catalogue, self.changes, self.clock, settings=cache, database=database
        )
