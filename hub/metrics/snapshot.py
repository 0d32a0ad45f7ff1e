"""Everything a worker counts, at one moment: what metrics are made of, here or at a sibling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

from hub.histogram import Histogram
from hub.metrics.process import ProcessUse
from hub.traffic import Traffic
from services.budgets.stats import BudgetStats
from services.caching.stats import CacheStats
from services.follower import FollowerStats
from services.limits.stats import LimitStats
from services.semantic.stats import SemanticStats
from services.usage.stats import UsageStats

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["Snapshot"]

_encode = msgspec.json.Encoder().encode


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The counters and states of one worker.

    Counters begin at 0 with the worker. What is inside may be the worker's own objects, which
    go on counting: :meth:`encode` it in the same turn of the loop.
    """

    version: str
    started_at: float
    traffic: Traffic
    connections: dict[str, int]
    accepted: dict[str, int]
    rooms: int
    subscriptions: int
    follower: FollowerStats
    store_ready: bool
    loop_lag: Histogram
    process: ProcessUse
    limits: LimitStats = msgspec.field(default_factory=LimitStats)
    cache: CacheStats = msgspec.field(default_factory=CacheStats)
    usage: UsageStats = msgspec.field(default_factory=UsageStats)
    budgets: BudgetStats = msgspec.field(default_factory=BudgetStats)
    semantic: SemanticStats = msgspec.field(default_factory=SemanticStats)

    @classmethod
    def of(cls, hub: Hub) -> Snapshot:
        """Return how ``hub`` is now."""
        rooms, services = hub.engine.rooms, hub.services
        return cls(
            version=hub.version,
            started_at=hub.started_at,
            traffic=hub.engine.traffic,
            connections=hub.registry.connections,
            accepted=hub.registry.accepted,
            rooms=len(rooms),
            subscriptions=sum(map(len, rooms.values())),
            follower=hub.stats,
            store_ready=hub.services.store.ready,
            loop_lag=hub.loop_lag.histogram,
            process=ProcessUse.now(),
            limits=services.rate_limiter.stats,
            cache=services.context.caches.stats,
            usage=services.usage.stats,
            budgets=services.budgets.stats,
            semantic=services.context.semantic.stats,
        )

    def encode(self) -> bytes:
        """Return it as JSON."""
        return _encode(self)

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """Return what :meth:`encode` made, an object of its own.

        Raises:
            msgspec.DecodeError: it is something else.
        """
        return msgspec.json.decode(text, type=cls)
