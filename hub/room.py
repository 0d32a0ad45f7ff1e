"""A room: the subscribers of one channel on this node.

Decides who gets which publication; does no I/O. What the follower tells is noted at once and
walked to the subscribers in slices (``fanout.py``); everybody gets everything in order, in
as few writes as the pace allows. A new member is let in before the log is read for it, so
that nothing falls between history and live: until it is released, what arrives for it is
held; then it gets what its history did not contain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from channels.catalogue import Channel
from channels.errors import UsageError
from channels.position import Position
from channels.publication import Publication
from hub.fanout import Fanout
from hub.frame import Batch
from hub.tail import Tail
from hub.traffic import Traffic
from services.event_log import Gap

__all__ = ["Member", "Room", "Subscriber"]

_log = logging.getLogger(__name__)

#: Bytes held for one member while its history is read. More, and it is told that it missed
#: them, unless its history has them.
MAX_HELD_BYTES = 4 * 1024 * 1024
#: Bytes of publications that wait for the end of a walk. More, and everybody is told that
#: they missed them: subscribers this far behind do better by reading the log. As much as one
#: recovery may bring.
MAX_WAITING_BYTES = 16 * 1024 * 1024


class Subscriber(Protocol):
    """Whoever receives the publications of channels. Must not block and must not raise."""

    def deliver(self, batch: Batch) -> None:
        """Take the next publications of a channel."""

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:
        """Learn that publications of ``channel`` were missed for good.

        What is delivered from now on comes after ``top``.
        """


class _Loss(NamedTuple):
    """The news that publications were missed; ``top`` is where the channel goes on."""

    gap: Gap
    top: Position
    top_id: str


class _Lap(NamedTuple):
    """What those who were served before a walk took up more have still to be told."""

    batch: Batch
    targets: tuple[Subscriber | Member, ...]
    since: float


class Member:
    """A subscriber on its way into a room: holds back what it must not see yet.

    The room walks it like any other subscriber, until it is one.
    """

    __slots__ = ("_after", "_held", "_held_bytes", "_lost", "_room", "gone", "subscriber")

    def __init__(self, room: Room, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        #: Whether it left the room; a walk under way may still come by.
        self.gone = False
        self._room = room
        self._held: list[Batch] | None = []
        self._held_bytes = 0
        self._after = Position("", 0)
        self._lost: _Loss | None = None

    def deliver(self, batch: Batch) -> None:
        """Take live publications."""
        if self.gone:
            return
        if self._held is not None:
            self._hold(self._held, batch)
        elif (wanted := self._wanted(batch)) is not None:
            self._room.settle(self)
            self.subscriber.deliver(wanted)

    def _hold(self, held: list[Batch], batch: Batch) -> None:
        held.append(batch)
        self._held_bytes += batch.size
        if self._held_bytes > MAX_HELD_BYTES:
            last = batch.last
            self.lose(self._room.channel.name, Gap.TRIMMED, last.position, last.id)

    def _wanted(self, batch: Batch) -> Batch | None:
        # Of another epoch only while the room has not noticed that history began anew; then
        # it tells of the gap.
        after = self._after
        return batch.after(after.offset) if batch.last.epoch == after.epoch else None

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:
        """Take the news that the room missed something."""
        if self.gone:
            return
        if self._held is not None:
            self._held.clear()
            self._held_bytes = 0
            self._lost = _Loss(gap, top, top_id)
        elif not self._reached(top):
            self._room.settle(self)
            self._after = top
            self.subscriber.lose(channel, gap, top, top_id)

    def _reached(self, top: Position) -> bool:
        # Its history was read later than the room noticed.
        return self._after.epoch == top.epoch and self._after.offset >= top.offset

    def release(self, after: Position) -> None:
        """Let the subscriber have everything after ``after``, beginning with what was held.

        Does nothing when it left in the meantime.
        """
        held, self._held = self._held or [], None
        if self.gone:
            return
        self._after = after
        if self._lost is not None:
            self.lose(self._room.channel.name, *self._lost)
        if self._room.has_told(self._after):
            self._room.settle(self)
        for batch in held:
            self.deliver(batch)  # unless it left because of what it was told


class Room:
    """The members of one channel, and how far the room got.

    ``lock`` is held across "first in listens" and "last out leaves", which await Redis.
    """

    __slots__ = (
        "_entered",
        "_fanout",
        "_gone",
        "_joining",
        "_next",
        "_rest",
        "_settled",
        "_since",
        "_targets",
        "_telling",
        "_took_up",
        "_traffic",
        "_waiting",
        "_waiting_bytes",
        "_waiting_since",
        "channel",
        "id",
        "linger",
        "lock",
        "position",
        "seen",
        "tail",
    )

    def __init__(self, channel: Channel, fanout: Fanout, traffic: Traffic) -> None:
        self.channel = channel
        #: How far the follower got; subscribers may be a walk behind.
        self.position = Position("", 0)
        #: Id of the publication at ``position``.
        self.id = ""
        #: What came last, while somebody who came back asked for it lately.
        self.tail = Tail()
        #: Publications that came through since the room opened.
        self.seen = 0
        self._fanout = fanout
        self._traffic = traffic
        self.lock = asyncio.Lock()
        #: Set while the room is empty and waits for somebody to come back.
        self.linger: asyncio.TimerHandle | None = None
        # A member stays known once settled: a walk that began before may still come by it.
        self._settled: dict[Subscriber, Member] = {}
        self._joining: dict[Subscriber, Member] = {}
        # What is to be told, in order; publications since the last loss are in one list.
        self._waiting: list[list[Publication] | _Loss] = []
        self._waiting_bytes = 0
        self._waiting_since = 0.0
        # The walk under way: what is told, to whom, who of them is next, since when it waited,
        # who came and who left meanwhile; and the lap after it, if it took up what came in.
        self._telling: Batch | _Loss | None = None
        self._targets: tuple[Subscriber | Member, ...] = ()
        self._next = 0
        self._since = 0.0
        self._entered: list[Member] = []
        self._gone: set[Subscriber | Member] = set()
        self._took_up = False
        self._rest: _Lap | None = None

    def __len__(self) -> int:
        return len(self._settled) + len(self._joining)

    def __contains__(self, subscriber: Subscriber) -> bool:
        return subscriber in self._settled or subscriber in self._joining

    # -- members ---------------------------------------------------------------------------

    def enter(self, subscriber: Subscriber) -> Member:
        """Let ``subscriber`` in; it is told nothing before its member is released.

        Raises:
            UsageError: it is in already.
        """
        if subscriber in self:
            raise UsageError(f"the subscriber is in channel {self.channel.name!r} already")
        member = Member(self, subscriber)
        self._joining[subscriber] = member
        if self._telling is not None:
            self._entered.append(member)
        return member

    def settle(self, member: Member) -> None:
        """Make ``member`` one that gets everything as it comes.

        Only when all that the room has still to tell is news to it.
        """
        if self._joining.get(member.subscriber) is member:
            del self._joining[member.subscriber]
            self._settled[member.subscriber] = member

    def has_told(self, position: Position) -> bool:
        """Whether everything up to ``position`` is told, so that the next walk goes on from it."""
        here = self.position
        return (
            self._telling is None
            and not self._waiting
            and position.epoch == here.epoch
            and position.offset <= here.offset
        )

    def leave(self, subscriber: Subscriber) -> None:
        """Let ``subscriber`` out; does nothing when it is not in."""
        member = self._joining.pop(subscriber, None) or self._settled.pop(subscriber, None)
        if member is not None:
            member.gone = True
            if self._telling is not None:
                self._gone.add(subscriber)

    # -- from the follower -----------------------------------------------------------------

    def on_publication(self, publication: Publication) -> None:
        """Have a publication told to everybody."""
        self.position = publication.position
        self.id = publication.id
        self.tail.append(publication)
        self.seen += 1
        self._traffic.publications += 1
        self._waiting_bytes += len(publication.wire)
        waiting = self._waiting
        if waiting and isinstance(last := waiting[-1], list):
            last.append(publication)
            if self._waiting_bytes > MAX_WAITING_BYTES:
                self._waiting_bytes = 0
                waiting[:] = [_Loss(Gap.TRIMMED, self.position, self.id)]
        else:
            self._wait([publication])

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:
        """Have everybody told that publications were missed."""
        self.position, self.id = top, top_id
        self.tail.forget()
        self._wait(_Loss(gap, top, top_id))

    def _wait(self, news: list[Publication] | _Loss) -> None:
        self._waiting.append(news)
        if len(self._waiting) == 1:
            self._waiting_since = self._fanout.now
            if self._telling is None:
                self._fanout.add(self)

    # -- the walk --------------------------------------------------------------------------

    def walk(self, count: int) -> bool:
        """Tell up to ``count`` subscribers what comes next; return whether there is more to do."""
        waiting = self._waiting
        if self._telling is None:
            if not waiting:
                return False
            if len(waiting) == 1 and len(self) <= count and not isinstance(waiting[0], _Loss):
                self._deliver_at_once(waiting.pop())  # type: ignore[arg-type]  # as just seen
                return bool(waiting)
            self._begin()
        elif not self._took_up:
            self._take_up()
        targets: Sequence[Subscriber | Member] = self._targets[self._next : self._next + count]
        self._next += count
        if self._gone:
            targets = [target for target in targets if target not in self._gone]
        if isinstance(self._telling, Batch):
            self._deliver(self._telling, targets)
        elif self._telling is not None:
            self._lose(self._telling, targets)
        if self._next >= len(self._targets):
            self._end()
        return self._telling is not None or bool(self._waiting)

    def _deliver_at_once(self, publications: list[Publication]) -> None:
        """Tell a small room, in one go: nobody comes or goes meanwhile."""
        batch = Batch(publications)
        self._waiting_bytes = 0
        self._deliver(batch, (*self._settled, *self._joining.values()))
        self._traffic.write_lag.observe(self._fanout.now - self._waiting_since)

    def _begin(self) -> None:
        news = self._waiting.pop(0)
        if isinstance(news, _Loss):
            self._telling = news
        else:
            self._telling = Batch(news)
            self._waiting_bytes -= self._telling.size
        self._targets = (*self._settled, *self._joining.values())
        self._next = 0
        self._took_up = False
        self._since, self._waiting_since = self._waiting_since, self._fanout.now

    def _take_up(self) -> None:
        """Let the walk carry what came in since it began, if it can.

        The head of a burst sets the walk off, and the rest of it arrives while the first slice
        is served: those who are still to come get all of it in one write, the few served so far
        the rest in a second one. Once a walk, so that the lap for those is the same for all.
        """
        told, waiting = self._telling, self._waiting
        if not isinstance(told, Batch) or not waiting or isinstance(news := waiting[0], _Loss):
            return
        self._took_up = True
        del waiting[0]
        more = Batch(news)
        self._waiting_bytes -= more.size
        # Who entered before has what came afterwards to get; whoever enters from now on finds
        # it in the log.
        served = (*self._targets[: self._next], *self._entered)
        self._rest = _Lap(more, served, self._waiting_since)
        self._waiting_since = self._fanout.now
        self._telling = Batch([*told.publications, *news])

    def _end(self) -> None:
        if isinstance(self._telling, Batch):
            self._traffic.write_lag.observe(self._fanout.now - self._since)
        if self._rest is not None:
            self._telling, self._targets, self._since = self._rest
            self._next, self._rest = 0, None
            return
        self._telling = None
        self._targets = ()
        self._entered.clear()
        self._gone.clear()

    def _deliver(self, batch: Batch, targets: Sequence[Subscriber | Member]) -> None:
        for target in targets:
            try:
                target.deliver(batch)
            except Exception:  # noqa: BLE001 - its bug must not cost others their publications
                _log.exception("a subscriber of %r failed", self.channel.name)
        self._traffic.deliveries += len(targets) * len(batch)
        self._traffic.bytes += len(targets) * batch.size

    def _lose(self, loss: _Loss, targets: Sequence[Subscriber | Member]) -> None:
        for target in targets:
            try:
                target.lose(self.channel.name, *loss)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("a subscriber of %r failed", self.channel.name)
