"""Follows channels: every publication once, in order, without holes, or told that one is.

Redis pub/sub is fast and forgets: a killed connection, a full output buffer or a replica
that moved away lose messages without any error. So a message is only a hint that the log
grew. Each message must continue the last one; whatever does not is resolved by reading the
log before anything later is delivered.

Three things start a repair: a message that does not fit, an interruption that the store
noticed (reconnect, failed probe), and a periodic comparison with the tops of the logs, which
finds what went missing at the tail, where no later message would reveal it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Protocol

import msgspec

from channels.catalogue import Channel
from channels.errors import StoreError, StoreRefused, UsageError
from channels.position import Position
from channels.publication import Publication, publication_prefix
from services.event_log import EventLog, Gap, Page, Recovered
from services.store.keys import Keys
from services.store.port import Store

__all__ = ["Follower", "FollowerSettings", "FollowerStats", "Sink"]

_log = logging.getLogger(__name__)

#: What holding a message costs beside its payload, about.
_HOLDING_BYTES = 300
#: Pause before a log that could not be read is read again: doubled from the first to the last.
_PAUSE_S = (0.05, 1.0)


class Sink(Protocol):
    """Who is told what happens on a followed channel. Must not block and must not raise."""

    def on_publication(self, publication: Publication) -> None:
        """Take the next publication: its offset is one above the previous one's."""

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:
        """Learn that publications were missed for good; what follows comes after ``top``."""


class FollowerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How closely the follower watches."""

    #: Seconds between two comparisons with the tops of the logs: the longest that a loss at
    #: the tail stays unnoticed when the store's own probe does not see it.
    compare_every_s: float = 10.0
    #: Seconds a message may still be on its way when the log already has it.
    grace_s: float = 1.0
    #: Bytes of messages held while a channel's log is read; when they are more, all are
    #: dropped and read from the log.
    max_held_bytes: int = 4 * 1024 * 1024
    #: Channels compared in one round trip.
    batch: int = 500


class FollowerStats(msgspec.Struct):
    """Counters since start.

    ``late`` are messages that came when the log had told already what they say; ``foreign``
    are those that nobody of ours can have sent.
    """

    publications: int = 0
    repairs: int = 0
    backfilled: int = 0
    gaps: int = 0
    foreign: int = 0
    late: int = 0


class _Followed:
    """One followed channel: decides what is delivered; does no I/O.

    ``held`` is a list while the log is being read; messages wait in it.
    """

    __slots__ = (
        "_clock",
        "_grace_s",
        "_held_bytes",
        "_late_until",
        "_max_held_bytes",
        "_on_trouble",
        "_prefix_length",
        "_stats",
        "channel",
        "held",
        "id",
        "position",
        "repair",
        "sink",
        "troubled",
    )

    def __init__(
        self,
        channel: Channel,
        sink: Sink,
        settings: FollowerSettings,
        stats: FollowerStats,
        *,
        on_trouble: Callable[[_Followed], None],
        clock: Callable[[], float],
    ) -> None:
        self.channel = channel
        self.sink = sink
        self.position = Position("", 0)
        self.id = ""
        self.held: list[Publication] | None = []
        self.repair: asyncio.Task[None] | None = None
        #: Whether something happened that the read under way may be too old to show.
        self.troubled = False
        self._held_bytes = 0
        self._max_held_bytes = settings.max_held_bytes
        self._grace_s = settings.grace_s
        self._late_until = 0.0
        self._prefix_length = len(publication_prefix(channel.name))
        self._stats = stats
        self._on_trouble = on_trouble
        self._clock = clock

    def on_message(self, payload: bytes) -> None:
        try:
            publication = Publication.from_message(self.channel.name, self._prefix_length, payload)
        except ValueError:
            # Somebody else writes to our pub/sub channel. The log decides, not the message.
            self._stats.foreign += 1
            return
        if self.held is not None:
            self._hold(self.held, publication, len(payload))
        elif self._continues(publication):
            # What _deliver does, without another call: this is the way of nearly everything.
            self.position = publication.position
            self.id = publication.id
            self._late_until = 0.0
            self._stats.publications += 1
            self.sink.on_publication(publication)
        elif not self._is_late(publication):
            self._on_trouble(self)

    def on_interrupted(self) -> None:
        self._on_trouble(self)

    def _continues(self, publication: Publication) -> bool:
        # The next offset is not enough: after a failover another history may reach it.
        position = self.position
        return (
            publication.offset == position.offset + 1
            and publication.previous == self.id
            and publication.epoch == position.epoch
        )

    def _is_late(self, publication: Publication) -> bool:
        """Tell whether this is the message of a publication that was read from the log.

        The log's answer and the messages come over different connections, so on a busy
        channel most reads are followed by a few of these. Only for a moment, and only until
        a message continues: an offset that went back at any other time means that the log
        lost publications and gives their offsets to others.
        """
        position = self.position
        if publication.epoch != position.epoch or publication.offset > position.offset:
            return False
        if publication.offset == position.offset:
            late = publication.id == self.id
        else:
            late = self._clock() < self._late_until
        self._stats.late += late
        return late

    def _hold(self, held: list[Publication], publication: Publication, size: int) -> None:
        self._held_bytes += size + _HOLDING_BYTES
        if self._held_bytes > self._max_held_bytes:
            held.clear()
            self._held_bytes = 0
            self.troubled = True  # what is dropped here is read from the log
        elif not self.troubled:
            held.append(publication)

    def _deliver(self, publication: Publication) -> None:
        self.position = publication.position
        self.id = publication.id
        self._late_until = 0.0
        self._stats.publications += 1
        self.sink.on_publication(publication)

    def begin_reading(self) -> None:
        """Hold what arrives from now on. What arrived before is in the log, so it can go."""
        self.held = []
        self._held_bytes = 0
        self.troubled = False

    def settle(self, read: Recovered) -> bool:
        """Deliver what was read and then what was held; return whether nothing is missing."""
        if read.gap is not None:
            self._stats.gaps += 1
            # Before the sink is told: if it fails, it is not told twice.
            self.position, self.id = read.top, read.top_id
            self.sink.on_gap(read.gap, read.top, read.top_id)
        for publication in read.publications:
            self._stats.backfilled += 1
            self._deliver(publication)
        return self.release(read.top, read.top_id)

    def release(self, top: Position, top_id: str) -> bool:
        """Go on from ``top`` with what was held; return whether nothing is missing."""
        self.position, self.id = top, top_id
        self._late_until = self._clock() + self._grace_s
        held, self.held = self.held or [], None
        if self.troubled:
            # What was held may come from before and after a rewind, with a hole in between
            # that offsets do not show.
            return False
        for publication in held:
            if self._continues(publication):
                self._deliver(publication)
            elif not self._is_late(publication):
                return False
        return True


class Follower:
    """Follows any number of channels of one store for one process.

    ``run`` must be running for the periodic comparison; everything else works without it.
    """

    def __init__(
        self, store: Store, log: EventLog, keys: Keys, settings: FollowerSettings | None = None
    ) -> None:
        self.settings = settings or FollowerSettings()
        self.stats = FollowerStats()
        self._store = store
        self._log = log
        self._keys = keys
        self._followed: dict[str, _Followed] = {}

    async def start(self, channel: Channel, sink: Sink) -> tuple[Position, str]:
        """Follow ``channel``; return the position, and the id there, after which ``sink`` is told.

        Publications that come in while the log is read are told to the sink before this
        returns; the position is that of the last one told.

        Raises:
            StoreError: the channel is not followed.
            UsageError: it is followed already.
        """
        if channel.name in self._followed:
            raise UsageError(f"channel {channel.name!r} is followed already")
        followed = _Followed(
            channel,
            sink,
            self.settings,
            self.stats,
            on_trouble=self._begin_repair,
            clock=asyncio.get_running_loop().time,
        )
        self._followed[channel.name] = followed
        try:
            page = await self._listen_and_read(followed)
        except BaseException:
            if self._follows(followed):
                del self._followed[channel.name]
            raise
        if not self._follows(followed):
            raise UsageError(f"channel {channel.name!r} was stopped before it was followed")
        if not followed.release(page.top, page.top_id):
            self._begin_repair(followed)
        return followed.position, followed.id

    async def _listen_and_read(self, followed: _Followed) -> Page:
        pubsub = self._keys.pubsub(followed.channel)
        await self._store.listen(pubsub, followed)
        try:
            return await self._log.read(followed.channel, limit=0)
        except BaseException:
            if self._follows(followed):  # else the listener there is another's
                await self._unlisten(followed)
            raise

    def _follows(self, followed: _Followed) -> bool:
        return self._followed.get(followed.channel.name) is followed

    async def _unlisten(self, followed: _Followed) -> None:
        with contextlib.suppress(StoreError):  # without a connection there is nothing to undo
            await self._store.unlisten(self._keys.pubsub(followed.channel))

    async def stop(self, channel: Channel) -> None:
        """Stop following; the sink is told nothing after this returns."""
        followed = self._followed.pop(channel.name, None)
        if followed is not None:
            await self._end([followed])

    def check(self, channel: Channel) -> None:
        """Have a channel compared with its log now: somebody read there what it cannot know.

        Returns at once; what is found is told to the sink. Does nothing when the channel is
        not followed.
        """
        followed = self._followed.get(channel.name)
        if followed is not None:
            self._begin_repair(followed)

    def is_sure(self, channel: Channel) -> bool:
        """Tell whether nothing that was told to us is still to be delivered.

        False while the log is read, and for a channel that is not followed. What is lost
        silently shows later; what the store notices shows in its ``ready`` first.
        """
        followed = self._followed.get(channel.name)
        return followed is not None and followed.held is None

    def _doubt(self, channel: Channel) -> None:
        """Hear that a repair begins."""

    async def close(self) -> None:
        """Stop following everything; no sink is told anything after this returns."""
        followed = list(self._followed.values())
        self._followed.clear()
        await self._end(followed)

    async def _end(self, ended: list[_Followed]) -> None:
        repairs = [followed.repair for followed in ended if followed.repair is not None]
        for repair in repairs:
            repair.cancel()
        for followed in ended:
            await self._unlisten(followed)
        if repairs:
            await asyncio.wait(repairs)

    def _begin_repair(self, followed: _Followed) -> None:
        """Have the log read and the channel set right."""
        if not self._follows(followed):
            return
        if followed.held is not None:
            followed.troubled = True  # the log is being read: once more then
            return
        self.stats.repairs += 1
        self._doubt(followed.channel)
        followed.begin_reading()
        followed.repair = asyncio.create_task(
            self._repair(followed), name=f"fanwire-repair {followed.channel.name}"
        )

    async def _repair(self, followed: _Followed) -> None:
        pause_s, longest_s = _PAUSE_S
        while True:
            try:
                if await self._repair_once(followed):
                    return
            except StoreRefused as error:
                _log.warning("cannot read the log of %r: %s", followed.channel.name, error)
            except StoreError:
                pass  # Redis is away; the store tells of that, once for all channels
            except Exception:  # noqa: BLE001 - a fault of the sink must not end the channel
                _log.exception("a sink failed on channel %r", followed.channel.name)
            else:
                followed.begin_reading()
                continue
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause_s = min(pause_s * 2, longest_s)
            followed.begin_reading()

    async def _repair_once(self, followed: _Followed) -> bool:
        read = await self._log.recover(followed.channel, followed.position, followed.id)
        if read.gap is Gap.FORKED:
            await self._log.fork(followed.channel, followed.position.epoch)
            return False
        return followed.settle(read)

    async def run(self) -> None:
        """Compare every followed channel with its log, for ever."""
        while True:
            await asyncio.sleep(self.settings.compare_every_s)
            with contextlib.suppress(StoreError):  # while Redis is away there is nothing to compare
                await self.compare()

    async def compare(self) -> None:
        """Compare every followed channel with the top of its log once; repair what differs.

        Raises:
            StoreError: the tops could not be read.
        """
        behind: list[tuple[_Followed, Position]] = []
        quiet = [followed for followed in self._followed.values() if followed.held is None]
        for start in range(0, len(quiet), self.settings.batch):
            batch = quiet[start : start + self.settings.batch]
            before = [(followed.position, followed.id) for followed in batch]
            tops = await self._log.tops([followed.channel for followed in batch])
            for followed, (position, id_), top in zip(batch, before, tops, strict=True):
                match _compare(position, id_, top):
                    case "same":
                        pass
                    case "behind" if top is not None:
                        behind.append((followed, top[0]))
                    case _:
                        self._begin_repair(followed)
        if not behind:
            return
        await asyncio.sleep(self.settings.grace_s)
        for followed, top_position in behind:
            position = followed.position
            if position.epoch != top_position.epoch or position.offset < top_position.offset:
                self._begin_repair(followed)


def _compare(position: Position, id: str, top: tuple[Position, str] | None) -> str:
    """Return "same", "behind" (perhaps only for the moment) or "different"."""
    if top is None or top[0].epoch != position.epoch or top[0].offset < position.offset:
        return "different"
    if top[0].offset > position.offset:
        return "behind"
    return "same" if top[1] == id else "different"
