"""A room: the subscribers of one channel on this node.

Decides who gets which publication; does no I/O. A new member is let in before the log is
read for it, so that nothing falls between history and live. Until it is released, what
arrives for it is held; then it gets what its history did not contain.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from channels.catalogue import Channel
from channels.errors import UsageError
from channels.position import Position
from channels.publication import Publication
from hub.frame import Frame
from hub.tail import Tail
from services.event_log import Gap

__all__ = ["Member", "Room", "Subscriber", "Traffic"]

#: Bytes held for one member while its history is read. More, and it is told that it missed
#: them, unless its history has them.
MAX_HELD_BYTES = 4 * 1024 * 1024


class Subscriber(Protocol):
    """Whoever receives the publications of channels. Must not block and must not raise."""

    def deliver(self, frame: Frame) -> None:
        """Take the next publication of a channel."""

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:
        """Learn that publications of ``channel`` were missed for good.

        What is delivered from now on comes after ``top``.
        """


class Member:
    """A subscriber on its way into a room: holds back what it must not see yet."""

    __slots__ = ("_after", "_held", "_held_bytes", "_lost", "_room", "subscriber")

    def __init__(self, room: Room, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self._room = room
        self._held: list[Frame] | None = []
        self._held_bytes = 0
        self._after = Position("", 0)
        self._lost: tuple[Gap, Position, str] | None = None

    def take(self, frame: Frame) -> None:
        """Take a live publication."""
        if self._held is not None:
            self._hold(self._held, frame)
        elif self._wants(frame):
            self._room.settle(self)
            self.subscriber.deliver(frame)

    def _hold(self, held: list[Frame], frame: Frame) -> None:
        held.append(frame)
        self._held_bytes += len(frame)
        if self._held_bytes > MAX_HELD_BYTES:
            self.lose(Gap.TRIMMED, frame.publication.position, frame.publication.id)

    def _wants(self, frame: Frame) -> bool:
        # Of another epoch only while the room has not noticed that history began anew; then
        # it tells of the gap.
        publication = frame.publication
        after = self._after
        return publication.offset > after.offset and publication.epoch == after.epoch

    def lose(self, gap: Gap, top: Position, top_id: str) -> None:
        """Take the news that the room missed something."""
        if self._held is not None:
            self._held.clear()
            self._held_bytes = 0
            self._lost = (gap, top, top_id)
        elif not self._reached(top):
            self._room.settle(self)
            self.subscriber.lose(self._room.channel.name, gap, top, top_id)

    def _reached(self, top: Position) -> bool:
        # Its history was read later than the room noticed.
        return self._after.epoch == top.epoch and self._after.offset >= top.offset

    def release(self, after: Position) -> None:
        """Let the subscriber have everything after ``after``, beginning with what was held.

        Does nothing when it left in the meantime.
        """
        room = self._room
        held, self._held = self._held or [], None
        if not room.expects(self):
            return
        self._after = after
        if self._lost is not None and not self._reached(self._lost[1]):
            gap, top, top_id = self._lost
            self.lose(gap, top, top_id)
            self._after = top
        here = room.position
        if self._after.epoch == here.epoch and self._after.offset <= here.offset:
            room.settle(self)
        for frame in held:
            if self.subscriber not in room:
                return  # it left because of what it was told
            if self._wants(frame):
                self.subscriber.deliver(frame)


class Traffic:
    """What went through rooms: ``publications``, and their ``deliveries`` to subscribers."""

    __slots__ = ("deliveries", "publications")

    def __init__(self) -> None:
        self.publications = 0
        self.deliveries = 0


class Room:
    """The members of one channel, and how far the room got.

    ``lock`` is held across "first in listens" and "last out leaves", which await Redis.
    """

    __slots__ = (
        "_joining",
        "_settled",
        "_traffic",
        "channel",
        "id",
        "linger",
        "lock",
        "position",
        "seen",
        "tail",
    )

    def __init__(self, channel: Channel, traffic: Traffic | None = None) -> None:
        self.channel = channel
        self.position = Position("", 0)
        #: Id of the publication at ``position``.
        self.id = ""
        #: What came last, while somebody who came back asked for it lately.
        self.tail = Tail()
        #: Publications that came through since the room opened.
        self.seen = 0
        self._traffic = traffic or Traffic()
        self.lock = asyncio.Lock()
        #: Set while the room is empty and waits for somebody to come back.
        self.linger: asyncio.TimerHandle | None = None
        self._settled: dict[Subscriber, None] = {}
        self._joining: dict[Subscriber, Member] = {}

    def __len__(self) -> int:
        return len(self._settled) + len(self._joining)

    def __contains__(self, subscriber: Subscriber) -> bool:
        return subscriber in self._settled or subscriber in self._joining

    def enter(self, subscriber: Subscriber) -> Member:
        """Let ``subscriber`` in; it is told nothing before its member is released.

        Raises:
            UsageError: it is in already.
        """
        if subscriber in self:
            raise UsageError(f"the subscriber is in channel {self.channel.name!r} already")
        member = Member(self, subscriber)
        self._joining[subscriber] = member
        return member

    def settle(self, member: Member) -> None:
        """Make ``member`` one that gets everything as it comes."""
        if self.expects(member):
            del self._joining[member.subscriber]
            self._settled[member.subscriber] = None

    def expects(self, member: Member) -> bool:
        """Tell whether ``member`` is still on its way in."""
        return self._joining.get(member.subscriber) is member

    def leave(self, subscriber: Subscriber) -> None:
        """Let ``subscriber`` out; does nothing when it is not in."""
        self._settled.pop(subscriber, None)
        self._joining.pop(subscriber, None)

    def on_publication(self, publication: Publication) -> None:
        """Give a publication to everybody."""
        self.position = publication.position
        self.id = publication.id
        self.tail.append(publication)
        self.seen += 1
        self._traffic.publications += 1
        self._traffic.deliveries += len(self)
        frame = Frame(publication)
        # Copies, because a delivery may make its subscriber leave.
        for subscriber in tuple(self._settled):
            subscriber.deliver(frame)
        for member in tuple(self._joining.values()):
            member.take(frame)

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:
        """Tell everybody that publications were missed."""
        self.position, self.id = top, top_id
        self.tail.forget()
        for subscriber in tuple(self._settled):
            subscriber.lose(self.channel.name, gap, top, top_id)
        for member in tuple(self._joining.values()):
            member.lose(gap, top, top_id)
