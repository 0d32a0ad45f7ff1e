"""What the tests of the hub share: a log and a follower that do as they are told, and readers
that notice every hole.

:class:`World` stands in for Redis. What is published is in the log at once, and reaches the
rooms only when the test pumps it. Every call takes a random, reproducible number of turns of
the event loop, so that joins, leaves and publications meet in every order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, NoReturn

from channels.catalogue import Catalogue, Channel
from channels.cursor import CursorPosition
from channels.errors import StoreUnavailable
from channels.ids import new_id
from channels.position import Position
from channels.publication import Publication, encode_body
from hub.engine import Engine, Joined
from hub.fanout import Fanout
from hub.frame import Batch
from hub.snapshot_reader import SnapshotReader
from hub.wish import Wish
from services.event_log import Appended, EventLog, Gap, Page, Recovered
from services.snapshots import Snapshot, Snapshots

__all__ = ["OPEN", "Reader", "Violation", "World", "at_once", "channel", "publication"]

#: A catalogue that knows every channel.
OPEN = Catalogue(allow_undeclared=True)


def channel(name: str = "chat") -> Channel:
    """Return a channel that carries any JSON."""
    return OPEN.find(name)


def publication(
    offset: int,
    *,
    name: str = "chat",
    epoch: str = "e1",
    data: bytes | None = None,
    id: str = "",
    key: str = "",
) -> Publication:
    """Return the publication at ``offset``."""
    body = encode_body(str(offset).encode() if data is None else data)
    found = Publication.from_log(name, epoch, offset, id or f"id-{epoch}-{offset}", body)
    found.key = key  # which only a message has
    return found


class Violation(AssertionError):
    """A reader saw a hole, a duplicate or a wrong order that nobody told it of."""


class World:
    """One channel's log, its follower, and the delivery between them.

    It has the interface of ``Follower``, ``EventLog`` and ``Events``, as far as the hub uses it.
    """

    def __init__(self, random: Random | None = None) -> None:
        self.random = random or Random(0)
        self.epoch = 1
        self.entries: list[Publication] = []
        #: Offset of the oldest publication that the log still has.
        self.first = 1
        #: By name of the channel, who is told and what was told last. All have the same log.
        self.followed: dict[str, tuple[Any, Position]] = {}
        self.starts = 0
        self.stops = 0
        self.snapshot_reads = 0
        #: Set to fail the calls of that name.
        self.failing: set[str] = set()
        #: Called in the middle of every slow call, with its name.
        self.on_call: Callable[[str], object] = lambda name: None

    @property
    def log(self) -> World:
        """Itself, for whoever takes it for ``Events``."""
        return self

    # -- Redis -----------------------------------------------------------------------------

    @property
    def top(self) -> Position:
        """Position of the newest publication."""
        return Position(f"e{self.epoch}", len(self.entries))

    @property
    def top_id(self) -> str:
        """Id of the newest publication."""
        return self.entries[-1].id if self.entries else ""

    def publish(self, count: int = 1, data: bytes | None = None) -> None:
        """Append publications to the log; the room hears of them when it is pumped."""
        for _ in range(count):
            self.entries.append(
                publication(len(self.entries) + 1, epoch=f"e{self.epoch}", data=data)
            )

    def begin_anew(self) -> None:
        """Lose the history, as a server does that lost its data."""
        self.epoch += 1
        self.entries = []
        self.first = 1

    def trim(self, keep: int) -> None:
        """Keep the newest ``keep`` publications only."""
        self.first = max(self.first, len(self.entries) - keep + 1)

    def pump(self, count: int | None = None) -> None:
        """Tell the rooms of the next publications, as the follower would."""
        for name, (sink, told) in list(self.followed.items()):
            if told.epoch != self.top.epoch:
                self.followed[name] = sink, self.top
                sink.on_gap(Gap.EPOCH, self.top, self.top_id)
            elif told.offset + 1 < self.first:
                self.followed[name] = sink, self.top
                sink.on_gap(Gap.TRIMMED, self.top, self.top_id)
            else:
                until = None if count is None else told.offset + count
                for pub in self.entries[told.offset : until]:
                    self.followed[name] = sink, pub.position
                    sink.on_publication(pub)

    async def _turn(self, name: str) -> None:
        for _ in range(self.random.randrange(3)):
            await asyncio.sleep(0)
        self.on_call(name)
        for _ in range(self.random.randrange(3)):
            await asyncio.sleep(0)
        if name in self.failing:
            raise StoreUnavailable(f"{name} was told to fail")

    # -- Follower --------------------------------------------------------------------------

    async def start(self, channel: Channel, sink: object) -> tuple[Position, str]:
        """Follow the channel, like ``Follower.start``."""
        assert channel.name not in self.followed, "followed twice"
        self.followed[channel.name] = sink, self.top
        self.starts += 1
        try:
            await self._turn("start")
        except BaseException:
            del self.followed[channel.name]
            self.stops += 1
            raise
        _, told = self.followed[channel.name]
        return told, self._id_at(told)

    async def stop(self, channel: Channel) -> None:
        """Stop, like ``Follower.stop``."""
        await self._turn("stop")
        if self.followed.pop(channel.name, None) is not None:
            self.stops += 1

    def check(self, channel: Channel) -> None:
        """Tell the room soon, like ``Follower.check``."""
        asyncio.get_running_loop().call_soon(self.pump)

    def _id_at(self, position: Position) -> str:
        return f"id-{position.epoch}-{position.offset}" if position.offset else ""

    # -- EventLog --------------------------------------------------------------------------

    async def recover(self, channel: Channel, since: Position, id: str = "") -> Recovered:
        """Return what came after, like ``EventLog.recover``."""
        await self._turn("before recover")
        top, top_id, log, first = self.top, self.top_id, list(self.entries), self.first
        await self._turn("recover")
        if since.epoch != top.epoch:
            return Recovered([], top, top_id, Gap.EPOCH)
        if since.offset > top.offset:
            return Recovered([], top, top_id, Gap.FORKED)
        if since.offset + 1 < first:
            return Recovered([], top, top_id, Gap.TRIMMED)
        return Recovered(log[since.offset :], top, top_id)

    async def read(
        self,
        channel: Channel,
        *,
        since: Position | None = None,
        limit: int = 500,
        reverse: bool = False,
    ) -> Page:
        """Return a page, like ``EventLog.read``."""
        await self._turn("before read")
        after = since.offset if since else 0
        found = self.entries[max(after, self.first - 1) :]
        if reverse:
            found = self.entries[self.first - 1 : after - 1 if since else None][::-1]
        page = Page(found[:limit], self.top, self.top_id)
        await self._turn("read")
        return page

    # -- Events ----------------------------------------------------------------------------

    async def append(self, channel: Channel, data: bytes, *, info: bytes | None = None) -> Appended:
        """Publish, like ``Events.append``."""
        await self._turn("append")
        self.entries.append(
            Publication.from_log(
                channel.name,
                self.top.epoch,
                len(self.entries) + 1,
                new_id(),
                encode_body(bytes(data), info=info),
            )
        )
        return Appended(self.top, duplicate=False)

    def engine(self, linger_s: float = 1.0, fanout: Fanout | None = None) -> Engine:
        """Return an engine on this world; without a ``fanout`` subscribers are told at once."""
        fanout = fanout or at_once()
        engine = Engine(self, self, linger_s=linger_s, fanout=fanout)  # type: ignore[arg-type]  # stands in for both
        engine.snapshots = SnapshotReader(self.snapshots, pace_s=0)
        return engine

    # -- Snapshots -------------------------------------------------------------------------

    @property
    def snapshots(self) -> Snapshots:
        """The state behind the undeclared channels: how much was published."""
        snapshots = Snapshots()
        snapshots.offer("undeclared", self.snapshot)
        return snapshots

    async def snapshot(self, channel: Channel) -> Snapshot:
        """Return the state and its position, as one script would."""
        self.snapshot_reads += 1
        await self._turn("before snapshot")
        snapshot = Snapshot(b"%d" % self.top.offset, self.top, self.top_id)
        await self._turn("snapshot")
        return snapshot


def at_once() -> Fanout:
    """Return a fan-out that does not wait for another turn of the loop."""
    return Fanout(lambda walk: walk(), lambda: 0.0)


class Reader:
    """A subscriber that checks what it gets against what it got before.

    ``stays`` tells what it does about a gap in the middle: go on (as a feed does), or leave and
    join again (as clients of the bidirectional protocol do).
    """

    def __init__(self, engine: Engine, *, stays: bool = False, log: EventLog | None = None) -> None:
        self.engine = engine
        self.stays = stays
        #: How many publications it wants to see when it joins without a position.
        self.recent = 0
        #: Whether it wants the state behind the channel.
        self.wish = Wish.NEVER
        #: Where it stands; None before it joined for the first time.
        self.position: Position | None = None
        self.id = ""
        self.seen = 0
        self.gaps = 0
        self.inside = False
        #: Set while it was told of a gap and has not joined again.
        self.wants_back = asyncio.Event()
        self.progress = asyncio.Event()
        #: What it saw and cannot be right; rooms go on when a subscriber fails.
        self.violation: Violation | None = None

    def fail(self, what: str) -> NoReturn:
        """Note and raise what is wrong."""
        self.violation = self.violation or Violation(what)
        raise self.violation

    def deliver(self, batch: Batch) -> None:
        """Take live publications."""
        if not self.inside:
            self.fail("got a publication before the reply, or after it left")
        for publication in batch.publications:
            self.take(publication)

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:
        """Take the news of a gap."""
        if not self.inside:
            self.fail("was told of a gap before the reply, or after it left")
        self.gaps += 1
        if self.stays:
            self.position, self.id = top, top_id
        else:
            self.leave(channel)
            self.wants_back.set()
        self.progress.set()

    def take(self, publication: Publication) -> None:
        """Check that this is what comes next."""
        expected = self.position and Position(self.position.epoch, self.position.offset + 1)
        if publication.position != expected:
            self.fail(f"expected {expected}, got {publication.position}")
        self.position, self.id = publication.position, publication.id
        self.seen += 1
        self.progress.set()

    async def join(self, channel: Channel) -> None:
        """Join, or come back from where it stands."""
        since = None if self.position is None else CursorPosition(self.position, self.id)
        joined = await self.engine.join(
            channel, self, since, recent=self.recent, snapshot=self.wish
        )
        self._check_snapshot(joined, resumed=since is not None and joined.gap is None)
        self.inside = True
        self.wants_back.clear()
        if joined.gap is not None:
            if joined.publications:
                self.fail("a gap and publications")
            self.gaps += 1
        elif self.position is not None:
            for missed in joined.publications:
                self.take(missed)
            if self.position != joined.position:
                self.fail(f"recovered to {self.position}, told {joined.position}")
        self.position, self.id = joined.position, joined.id
        joined.release()

    def _check_snapshot(self, joined: Joined, *, resumed: bool) -> None:
        wanted = self.wish is Wish.ALWAYS or (self.wish is Wish.NEEDED and not resumed)
        told = joined.snapshot
        if (told is not None) != wanted:
            self.fail(f"wished for {self.wish}, resumed: {resumed}, told {told}")
        if told is None:
            return
        if told.data != b"%d" % told.position.offset:
            self.fail(f"the state at {told.position} is not {told.data!r}")
        here = joined.position
        if told.position.epoch != here.epoch or told.position.offset < here.offset:
            self.fail(f"the state at {told.position} does not go with {here}")
        if not resumed and told.position != here:
            self.fail(f"the state at {told.position} is not where it stands: {here}")

    def reload(self) -> None:
        """Forget where it stands, as a page does; it must not be inside."""
        self.position, self.id = None, ""

    def leave(self, channel: str = "chat") -> None:
        """Leave the channel."""
        self.inside = False
        self.engine.leave(channel, self)
