"""A follower that several in one process share: a hub's room, and whoever waits beside it.

A channel has one sink, which is told every publication once from a known position on, and any
number of taps, which are told that something happened. A tap promises less and so costs less:
it may be told a publication again, and of a gap where there was none.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, runtime_checkable
from weakref import WeakValueDictionary

from channels.catalogue import Channel
from channels.errors import UsageError
from channels.position import Position
from channels.publication import Publication
from services.event_log import EventLog, Gap
from services.follower import Follower, FollowerSettings, Sink
from services.store.keys import Keys
from services.store.port import Store

__all__ = ["SharedFollower", "WaryTap"]


@runtime_checkable
class WaryTap(Protocol):
    """A tap that must know when what it was told may not be all there is."""

    def on_doubt(self) -> None:
        """Learn that something may have been missed: ``is_sure`` tells when no longer.

        What was missed is told, or a gap, before the channel is sure again.
        """


class _Junction:
    """Several sinks as one."""

    __slots__ = ("sink", "taps")

    def __init__(self, sink: Sink | None) -> None:
        self.sink = sink
        self.taps: list[Sink] = []

    def on_publication(self, publication: Publication) -> None:
        if self.sink is not None:
            self.sink.on_publication(publication)
        for tap in self.taps:
            tap.on_publication(publication)

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:
        if self.sink is not None:
            self.sink.on_gap(gap, top, top_id)
        for tap in self.taps:
            tap.on_gap(gap, top, top_id)

    def tell_taps(self, top: Position, top_id: str) -> None:
        """Have every tap look for itself."""
        for tap in self.taps:
            tap.on_gap(Gap.TRIMMED, top, top_id)


class SharedFollower(Follower):
    """Follows channels for one sink each, as before, and for taps beside it."""

    def __init__(
        self, store: Store, log: EventLog, keys: Keys, settings: FollowerSettings | None = None
    ) -> None:
        super().__init__(store, log, keys, settings)
        self._junctions: dict[str, _Junction] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _lock(self, channel: Channel) -> asyncio.Lock:
        return self._locks.setdefault(channel.name, asyncio.Lock())

    def follows(self, channel: Channel) -> bool:
        """Tell whether the channel is followed, for a sink or for taps."""
        return channel.name in self._followed

    async def start(self, channel: Channel, sink: Sink) -> tuple[Position, str]:
        """Follow for ``sink``; see :meth:`Follower.start`. Taps may be there already."""
        if channel.name not in self._junctions:
            return await self._start_alone(channel, sink)
        async with self._lock(channel):
            junction = self._junctions.get(channel.name)
            if junction is None:
                return await self._start_alone(channel, sink)
            if junction.sink is not None:
                raise UsageError(f"channel {channel.name!r} is followed already")
            self._doubt(channel)
            # Anew: the position of a follow that runs may be behind what is in the log, and the
            # sink would be told again what a reader of the log has.
            await super().stop(channel)
            junction.sink = sink
            try:
                position, id_ = await super().start(channel, junction)
            except BaseException:
                junction.sink = None
                junction.tell_taps(Position("", 0), "")  # nobody follows: they must come again
                raise
            junction.tell_taps(position, id_)  # in between nobody listened
            return position, id_

    async def _start_alone(self, channel: Channel, sink: Sink) -> tuple[Position, str]:
        try:
            return await super().start(channel, sink)
        except BaseException:
            junction = self._junctions.get(channel.name)
            if junction is not None and junction.sink is sink:
                junction.sink = None  # a tap came meanwhile
                junction.tell_taps(Position("", 0), "")
            raise

    async def stop(self, channel: Channel) -> None:
        """Stop following for the sink; taps stay."""
        if channel.name not in self._junctions:
            await super().stop(channel)
            return
        async with self._lock(channel):
            junction = self._junctions.get(channel.name)
            if junction is None:
                await super().stop(channel)
            else:
                junction.sink = None

    def _doubt(self, channel: Channel) -> None:
        junction = self._junctions.get(channel.name)
        for tap in () if junction is None else junction.taps:
            if isinstance(tap, WaryTap):
                tap.on_doubt()

    async def tap(self, channel: Channel, tap: Sink) -> None:
        """Have ``tap`` told of publications after this returns; again is the same as once.

        Raises:
            StoreError: the channel is not followed; the tap is not told anything.
        """
        async with self._lock(channel):
            junction = self._junctions.get(channel.name)
            followed = self._followed.get(channel.name)
            if junction is None:
                junction = _Junction(None if followed is None else followed.sink)
            if tap not in junction.taps:
                junction.taps.append(tap)
            self._junctions[channel.name] = junction
            if followed is not None:
                followed.sink = junction
                # Messages that came before the tap was there may be all it waits for, and
                # the channel may be about to be given up: whoever taps reads for itself.
                return
            try:
                await super().start(channel, junction)
            except BaseException:
                self._drop(channel, junction, tap)
                raise

    async def untap(self, channel: Channel, tap: Sink) -> None:
        """Undo :meth:`tap`; the tap is told nothing after this returns."""
        async with self._lock(channel):
            junction = self._junctions.get(channel.name)
            if junction is None or tap not in junction.taps:
                return
            self._drop(channel, junction, tap)
            if junction.taps:
                return
            if junction.sink is None:
                await super().stop(channel)
            elif (followed := self._followed.get(channel.name)) is not None:
                followed.sink = junction.sink

    def _drop(self, channel: Channel, junction: _Junction, tap: Sink) -> None:
        junction.taps.remove(tap)
        if not junction.taps:
            del self._junctions[channel.name]

    async def close(self) -> None:
        """Stop following everything; nobody is told anything after this returns."""
        self._junctions.clear()
        await super().close()
