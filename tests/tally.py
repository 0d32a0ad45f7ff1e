"""A state that tells of its changes: counters, each addition an event on ``tally:{workspace}``.

An addition that is applied twice, or never, is a wrong sum for ever, and the log says what the
sums were at every position. So whoever replays a snapshot and what came after it can be checked
against the truth: :class:`Replay` notes what its reader believed, :meth:`Tally.truth` is asked
afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from random import Random
from typing import Any, cast

import msgspec

from channels.catalogue import Catalogue, Channel
from channels.declaration import ChannelDeclaration, History
from channels.position import MAX_OFFSET, Position
from channels.publication import encode_body
from services.context import Context
from services.event_log import EventLog
from services.snapshots import Snapshot
from services.store.port import Reply
from services.store.script import Script

__all__ = ["TALLY", "Replay", "Tally", "catalogue", "write"]

#: It keeps everything, so that the truth can be asked for afterwards.
TALLY = ChannelDeclaration(
    "tally:{workspace}",
    root="workspace",
    subscribe="member",
    history=History(size=100_000, ttl_s=600),
)

_LOG = files("services.store").joinpath("lua/lib/event_log.lua").read_text(encoding="utf-8")
_ADD = Script(
    "tally_add",
    _LOG
    + """
local err, epoch, offset, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[12])
if err then
  return err
end
redis.call('HINCRBY', KEYS[3], ARGV[10], ARGV[11])
return {1, hourly}
""",
)
_READ = Script(
    "tally_read",
    _LOG
    + """
local epoch, offset, id = log_top(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
return {epoch, offset, id, redis.call('HGETALL', KEYS[3])}
""",
)
_COUNTERS = "abcde"


async def _nothing() -> None:
    pass


class Tally:
    """The counters, and their snapshots; installed in ``context``."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.reads = 0
        #: Awaited before and after the script that reads.
        self.before: Callable[[], Awaitable[None]] = _nothing
        self.after: Callable[[], Awaitable[None]] = _nothing
        #: Bytes that a snapshot is larger than it has to be.
        self.padding = 0
        #: Whether it reads position and state one after the other, as nobody should.
        self.torn = False
        context.snapshots.offer("tally", self.snapshot)

    def _key(self, channel: Channel) -> str:
        return f"{self._context.keys.prefix}:{{{channel.root}}}:tally"

    async def add(self, channel: Channel, counter: str, by: int) -> None:
        """Add to a counter, and tell it."""
        body = encode_body(msgspec.json.encode({"counter": counter, "by": by}))
        await self._context.changes.run(
            _ADD, channel, [self._key(channel)], [counter, by, body], timeout_s=20
        )

    async def snapshot(self, channel: Channel) -> Snapshot:
        """Return the counters and the position they belong to."""
        self.reads += 1
        await self.before()
        log = self._context.log
        reply = await self._context.store.run(
            _READ, [*log.keys_of(channel), self._key(channel)], EventLog.top_terms()
        )
        await self.after()
        epoch, offset, id_, flat = cast("tuple[bytes, int, bytes, list[Reply]]", reply)
        if self.torn:
            reply = await self._context.store.execute("HGETALL", self._key(channel))
            flat = [each for pair in cast("dict[bytes, Reply]", reply).items() for each in pair]
        pairs = [cast(bytes, each).decode() for each in flat]
        counters: dict[str, Any] = dict(zip(pairs[::2], map(int, pairs[1::2]), strict=True))
        if self.padding:
            counters["padding"] = "x" * self.padding
        data = msgspec.json.encode(counters)
        return Snapshot(data, Position(epoch.decode(), offset), id_.decode())

    async def truth(self, channel: Channel) -> dict[Position, dict[str, int]]:
        """Return what the counters were at every position of the log."""
        top = (await self._context.log.read(channel, limit=0)).top
        counters: dict[str, int] = {}
        truth = {Position(top.epoch, 0): counters}
        since = Position(top.epoch, 0)
        while page := (await self._context.log.read(channel, since=since)).publications:
            for publication in page:
                change = msgspec.json.decode(publication.data)
                counters = _plus(counters, change)
                truth[publication.position] = counters
            since = page[-1].position
        assert since == top
        return truth


def _plus(counters: Mapping[str, int], change: Mapping[str, Any]) -> dict[str, int]:
    counter = change["counter"]
    return {**counters, counter: counters.get(counter, 0) + change["by"]}


async def write(tally: Tally, channel: Channel, *, seed: int, count: int, every_s: float) -> None:
    """Be one writer: ``count`` additions, one ``every_s`` seconds on the average."""
    random = Random(seed)
    for _ in range(count):
        await tally.add(channel, random.choice(_COUNTERS), random.randint(-5, 9))
        await asyncio.sleep(random.uniform(0, 2 * every_s))


class Replay:
    """What a reader believes: the last snapshot and every change after it."""

    def __init__(self) -> None:
        self.epoch = ""
        self.offset = 0
        self.counters: dict[str, int] | None = None
        self.snapshots = 0
        #: What it believed at each position, in order.
        self.believed: list[tuple[Position, dict[str, int]]] = []
        self.news = asyncio.Event()

    def begin(self, position: Mapping[str, Any], snapshot: Mapping[str, int]) -> None:
        """Take a snapshot; whatever was known before is replaced."""
        assert position["offset"] <= MAX_OFFSET
        self.epoch, self.offset = position["epoch"], position["offset"]
        self.counters = dict(snapshot)
        self.counters.pop("padding", None)
        self.snapshots += 1
        self._note()

    def change(self, offset: int, change: Mapping[str, Any]) -> None:
        """Take a change; what the snapshot has already changes nothing."""
        assert self.counters is not None, f"a change at {offset} before any snapshot"
        if offset <= self.offset:
            return
        assert offset == self.offset + 1, f"expected offset {self.offset + 1}, got {offset}"
        self.offset = offset
        self.counters = _plus(self.counters, change)
        self._note()

    def _note(self) -> None:
        assert self.counters is not None
        self.believed.append((Position(self.epoch, self.offset), self.counters))
        self.news.set()

    async def until(self, position: Position, timeout_s: float = 20) -> None:
        """Return when the reader is there."""
        async with asyncio.timeout(timeout_s):
            while (self.epoch, self.offset) != (position.epoch, position.offset):
                self.news.clear()
                await self.news.wait()

    async def until_begun(self, timeout_s: float = 20) -> None:
        """Return when the reader has a snapshot."""
        async with asyncio.timeout(timeout_s):
            while self.counters is None:
                self.news.clear()
                await self.news.wait()

    def check(self, truth: Mapping[Position, Mapping[str, int]]) -> None:
        """Compare all that was believed with what was true."""
        assert self.believed
        for position, counters in self.believed:
            assert counters == truth[position], f"at {position}"


def catalogue() -> Catalogue:
    """Return a catalogue with the counters, and every undeclared channel."""
    return Catalogue([TALLY], allow_undeclared=True)
