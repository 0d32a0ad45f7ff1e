"""The engine: rooms, who is in them, and following a channel while somebody is.

The first subscriber of a channel makes this node follow it; when the last one leaves, the
node goes on for a second, because whoever reloads a page comes back at once. A room's lock
spans the change of members and the call to Redis, so two first subscribers cannot both
believe that the other one listened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from channels.catalogue import Channel
from channels.cursor import CursorPosition
from channels.errors import StoreUnavailable
from channels.position import Position
from channels.publication import Publication
from hub.fanout import Fanout
from hub.recovery import Recovery
from hub.room import Member, Room, Subscriber
from hub.snapshot_reader import SnapshotReader
from hub.traffic import Traffic
from hub.wish import Wish
from services.event_log import EventLog, Gap, Recovered
from services.follower import Follower
from services.snapshots import Snapshot, Snapshots

__all__ = ["Engine", "Joined"]


class Joined(NamedTuple):
    """The result of joining a channel.

    ``publications`` are what the subscriber missed, oldest first; it stands at ``position``
    (whose publication has the id ``id``) once it took them. ``gap`` is set when it asked to
    resume and that could not be done. Nothing is delivered live before :meth:`release`:
    call it as soon as the reply is written, without awaiting in between.

    ``snapshot`` is the state behind the channel as of its own position, of the same epoch:
    ``position`` itself, unless the subscriber resumed; then it may be a little ahead of it,
    and what comes up to there is in the snapshot already.
    """

    publications: list[Publication]
    position: Position
    id: str
    gap: Gap | None
    member: Member
    snapshot: Snapshot | None = None

    def release(self) -> None:
        """Let live publications through, from the first one after ``position``.

        Does nothing when the subscriber left meanwhile.
        """
        self.member.release(self.position)


class Engine:
    """The rooms of one node."""

    __slots__ = (
        "_check_store",
        "_closing",
        "_fanout",
        "_follower",
        "_leaving",
        "_linger_s",
        "_log",
        "_recovery",
        "_rooms",
        "snapshots",
        "traffic",
    )

    def __init__(
        self,
        follower: Follower,
        log: EventLog,
        *,
        linger_s: float = 1.0,
        check_store: Callable[[], None] = lambda: None,
        fanout: Fanout | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """Make the rooms of a node; ``snapshots`` tell the state behind their channels.

        ``check_store`` raises ``StoreUnavailable`` while Redis is away. Joins of one channel
        wait for each other, so a thousand of them would wait for a thousand time-outs.
        """
        if fanout is None:
            # Not the loop's own time: uvloop's counts milliseconds, too coarse for lags.
            fanout = Fanout(asyncio.get_running_loop().call_soon, time.monotonic)
        self._fanout = fanout
        self._follower = follower
        self._log = log
        self._linger_s = linger_s
        self._check_store = check_store
        self._recovery = Recovery(log, check_store=check_store)
        self._rooms: dict[str, Room] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._closing = False
        self.snapshots = SnapshotReader(snapshots or Snapshots(), check_store=check_store)
        #: What went through all rooms since the start.
        self.traffic = Traffic()

    @property
    def rooms(self) -> dict[str, Room]:
        """The rooms by channel name; read it, do not change it."""
        return self._rooms

    async def join(
        self,
        channel: Channel,
        subscriber: Subscriber,
        since: CursorPosition | None = None,
        *,
        recent: int = 0,
        snapshot: Wish = Wish.NEVER,
    ) -> Joined:
        """Let ``subscriber`` into ``channel``, with what came after ``since`` if given.

        Without ``since`` it gets the last ``recent`` publications that the log still has, or
        the state behind the channel where it wishes for a ``snapshot`` (``recent`` is 0 then).

        Raises:
            NotAvailable: there is no state behind the channel.
            StoreError: Redis could not be asked, or the engine is closing.
            FanwireError: the state cannot be told. The subscriber is not in, whatever is raised.
        """
        if snapshot is not Wish.NEVER:
            self.snapshots.check(channel)
            recent = 0
        room, member = await self._enter(channel, subscriber)
        told: Snapshot | None = None
        try:
            if since is None and recent and room.position.offset:
                read = await self._recent(room, recent)
            else:
                read = await self._catch_up(room, since)
            resumes = since is not None and read.gap is None
            if snapshot is Wish.ALWAYS or (snapshot is Wish.NEEDED and not resumes):
                # Last: it must not be older than what it is told with, nor than the room.
                told = await self.snapshots.read(channel)
        except BaseException:
            self.leave(channel.name, subscriber)
            raise
        if told is not None:
            lost = _lost_before(told, read)
            if lost is not None:
                self._follower.check(channel)
            if not resumes or lost is not None:
                gap = None if since is None else read.gap or lost
                read = Recovered([], told.position, told.id, gap)
        if read.top.epoch != room.position.epoch:
            # History began anew and the room does not know yet. Left alone, it would learn of
            # it by the next publication, and tell of that one as lost.
            self._follower.check(channel)
        return Joined(read.publications, read.top, read.top_id, read.gap, member, told)

    async def _enter(self, channel: Channel, subscriber: Subscriber) -> tuple[Room, Member]:
        while not self._closing:
            room = self._rooms.setdefault(channel.name, Room(channel, self._fanout, self.traffic))
            async with room.lock:
                if self._closing or self._rooms.get(channel.name) is not room:
                    continue  # it closed while we waited for the lock
                if room.linger is not None:
                    room.linger.cancel()
                    room.linger = None
                member = room.enter(subscriber)
                if room.position.epoch:
                    return room, member
                try:
                    self._check_store()
                    room.position, room.id = await self._follower.start(channel, room)
                except BaseException:
                    room.leave(subscriber)
                    del self._rooms[channel.name]
                    raise
                return room, member
        raise StoreUnavailable("this node is shutting down")

    async def _catch_up(self, room: Room, since: CursorPosition | None) -> Recovered:
        here = Recovered([], room.position, room.id)
        if since is None:
            return here
        if not since.position.epoch:
            # The protocol's way to say "whatever epoch it is".
            since = CursorPosition(Position(room.position.epoch, since.position.offset), since.id)
        if since.position == room.position and since.id in {"", room.id}:
            return here  # it missed nothing: most reconnects after a short break
        return await self._recovery.recover(room, since)

    async def _recent(self, room: Room, limit: int) -> Recovered:
        page = await self._log.read(room.channel, limit=limit, reverse=True)
        return Recovered(page.publications[::-1], page.top, page.top_id)

    def leave(self, channel: str, subscriber: Subscriber) -> None:
        """Let ``subscriber`` out of ``channel``; does nothing when it is not in."""
        room = self._rooms.get(channel)
        if room is None:
            return
        room.leave(subscriber)
        if not room and room.linger is None and not self._closing:
            loop = asyncio.get_running_loop()
            room.linger = loop.call_later(self._linger_s, self._begin_closing, room)

    def _begin_closing(self, room: Room) -> None:
        room.linger = None
        task = asyncio.create_task(self._close_room(room))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _close_room(self, room: Room) -> None:
        async with room.lock:
            if room or room.linger is not None or self._rooms.get(room.channel.name) is not room:
                return  # somebody came back, or it is closed already
            # The room stays until Redis knows: whoever wants in waits for the lock.
            try:
                await self._follower.stop(room.channel)
            finally:
                # Whatever went wrong: a room that nobody feeds must not look like an open one.
                del self._rooms[room.channel.name]

    async def close(self) -> None:
        """Stop following everything; nobody is told, and nobody comes in any more."""
        self._closing = True
        for room in self._rooms.values():
            if room.linger is not None:
                room.linger.cancel()
        if self._leaving:
            await asyncio.wait(self._leaving)
        for room in list(self._rooms.values()):
            async with room.lock:  # somebody may be on the way in
                await self._follower.stop(room.channel)
        # Last: who came in before us may have asked only now.
        await self._recovery.close()
        await self.snapshots.close()
        self._rooms.clear()


def _lost_before(snapshot: Snapshot, read: Recovered) -> Gap | None:
    """Return what happened to the log if ``snapshot`` does not continue what was read before."""
    here, before = snapshot.position, read.top
    if here.epoch != before.epoch:
        return Gap.EPOCH
    if here.offset < before.offset or (here == before and snapshot.id != read.top_id):
        return Gap.FORKED
    return None
