"""Tells how this node is: into the hash of nodes, and as an event on ``hub:nodes``."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from typing import TYPE_CHECKING

from channels.catalogue import HUB_NODES
from channels.errors import StoreError
from channels.events.hub import ChannelActivity, NodeReport, NodeReported

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["Reporter"]

#: Channels a report names: enough for a page, and a report stays below 16 KiB or so.
_BUSIEST = 50


class Reporter:
    """Reports every ``every_s`` seconds while :meth:`run` runs."""

    __slots__ = ("_every_s", "_hub", "_started")

    def __init__(self, hub: Hub, *, every_s: float) -> None:
        self._hub = hub
        self._every_s = every_s
        self._started = time.monotonic()

    def report(self) -> NodeReport:
        """Return how the node is now."""
        hub = self._hub
        rooms = hub.engine.rooms
        busiest = heapq.nlargest(_BUSIEST, rooms.values(), key=lambda room: room.seen)
        traffic = hub.engine.traffic
        return NodeReport(
            node=hub.node,
            name=hub.name,
            version=hub.version,
            uptime_s=round(time.monotonic() - self._started, 1),
            clients=len(hub.registry),
            users=hub.registry.count_users(),
            subscriptions=sum(map(len, rooms.values())),
            rooms=len(rooms),
            publications=traffic.publications,
            deliveries=traffic.deliveries,
            channels={
                room.channel.name: ChannelActivity(subscribers=len(room), publications=room.seen)
                for room in busiest
            },
        )

    async def run(self) -> None:
        """Report for ever; a report that Redis does not take is left out."""
        while True:
            await self.tell()
            await asyncio.sleep(self._every_s)

    async def tell(self) -> None:
        """Report once."""
        event = NodeReported(data=self.report(), source=f"/fanwire/nodes/{self._hub.node}")
        with contextlib.suppress(StoreError):
            await self._hub.nodes.tell(event)
            await self._hub.services.events.publish(HUB_NODES.name(), event)
