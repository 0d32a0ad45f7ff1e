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
from channels.position import Position

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["Reporter"]

#: Channels a report names: enough for a page, and a report stays below 16 KiB or so.
_BUSIEST = 50


class Reporter:
    """Reports every ``every_s`` seconds while :meth:`run` runs."""

    __slots__ = ("_hub", "_started", "every_s")

    def __init__(self, hub: Hub, *, every_s: float) -> None:
        self._hub = hub
        #: Seconds between two reports.
        self.every_s = every_s
        self._started = time.monotonic()

    def report(self, logged: dict[str, Position] | None = None) -> NodeReport:
        """Return how the node is now.

        ``logged`` are channels that nobody here may have joined; they are named too while
        there is room.
        """
        hub = self._hub
        rooms = hub.engine.rooms
        busiest = heapq.nlargest(_BUSIEST, rooms.values(), key=lambda room: room.seen)
        channels = {
            room.channel.name: ChannelActivity(
                subscribers=len(room), publications=room.position.offset
            )
            for room in busiest
        }
        for name, top in (logged or {}).items():
            if len(channels) >= _BUSIEST:
                break
            channels.setdefault(name, ChannelActivity(publications=top.offset))
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
            channels=channels,
        )

    async def run(self) -> None:
        """Report for ever; a report that Redis does not take is left out."""
        while True:
            await self.tell()
            await asyncio.sleep(self.every_s)

    async def tell(self) -> None:
        """Report once."""
        with contextlib.suppress(StoreError):
            report = self.report(await self._logged())
            event = NodeReported(data=report, source=f"/fanwire/nodes/{self._hub.node}")
            await self._hub.nodes.tell(event)
            await self._hub.services.events.publish(HUB_NODES.name(), event)

    async def _logged(self) -> dict[str, Position]:
        """Return the channels with a log, while somebody watches: it costs Redis some reads.

        They are how a dashboard learns of a channel that has no subscriber yet.
        """
        if not self._hub.engine.rooms.get(HUB_NODES.name()):
            return {}
        return await self._hub.services.events.channels(limit=_BUSIEST)
