"""A feed: the publications of a few channels as server-sent events, with one cursor.

Decides what is written and when it ends; the transport writes (``transports/sse.py``). Every
event carries an ``id:`` that says how far the reader got on all its channels, so whoever
reconnects with the last one it saw misses nothing and gets nothing twice. What cannot be
made good is told in an event ``gap``.

    retry: 1800                        first, an event that nobody needs to listen to: a reader
    id: <cursor>                       that is cut off now resumes from here. It has data because
    event: start                       widespread parsers forget the id of a block without
    data: {}

    id: <cursor>                       a publication
    data: {"channel":"c","pub":{"offset":7,"data":{}}}

    id: <cursor>                       the state behind a channel, for a reader that asked for it:
    event: snapshot                    first, and after each gap; what follows comes after it
    data: {"channel":"c","snapshot":{},"position":{"epoch":"e","offset":7}}

    event: gap                         publications of one channel are lost to this reader
    event: auth-expiring               the token ends soon: {"expires_at":...,"expires_in":30}
    event: close                       the feed ends: {"code":3001,"reason":"shutdown"}
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from enum import Enum

import msgspec

from channels.catalogue import Channel
from channels.cursor import CursorPosition, encode_cursor, encode_cursor_part
from channels.errors import Disconnect, Disconnects, FanwireError, LimitExceeded
from channels.identity import Identity
from channels.position import Position
from hub.engine import Engine, Joined
from hub.frame import Batch, Frame, Standing, chunk
from hub.frame_queue import Entry
from hub.outbox import Outbox
from hub.wish import Wish
from services.event_log import Gap
from services.snapshots import Snapshot

__all__ = ["Feed", "encode_event_block", "retry_ms"]

#: Channels joined at the same time: a round trip for all of them, memory for a few.
_JOIN_BATCH = 16
#: Bytes that all recoveries of one feed may bring; what is beyond is told as a gap.
_MAX_RECOVERY_BYTES = 16 * 1024 * 1024
#: Bytes that all snapshots of one feed may have at its beginning.
_MAX_SNAPSHOTS_BYTES = 16 * 1024 * 1024
#: Seconds before the end of the token at which the reader is warned, or half of what is left.
_WARN_BEFORE_S = 30.0
#: Between these a reader waits before it reconnects, so that thousands do not at once.
_RETRY_MS = (1_000, 3_000)
#: A comment: proxies see life, readers see nothing.
_HEARTBEAT = b":\n\n"

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class _Reason(Enum):
    """Reasons for a gap that the log does not know."""

    ABSENT = "the cursor does not mention the channel"


def retry_ms() -> int:
    """Return how many milliseconds a reader should wait before it reconnects."""
    return random.randint(*_RETRY_MS)  # noqa: S311 - jitter


def encode_event_block(event: str, data: object, *, id: bytes = b"") -> bytes:
    """Return an event of ours as it is written."""
    line = b"id: %b\n" % id if id else b""
    return b"%bevent: %b\ndata: %b\n\n" % (line, event.encode("ascii"), _encode(data))


class Feed:
    """One reader of channels: a subscriber of their rooms, a client of the node.

    :meth:`open` joins them, then :meth:`take` gives what is to be written; when it has
    nothing, :attr:`outbox` says when it does. :meth:`close` must be called in the end.
    """

    __slots__ = (
        "_channels",
        "_engine",
        "_heartbeat_s",
        "_identity",
        "_limit_bytes",
        "_loop",
        "_mending",
        "_parts",
        "_single",
        "_timers",
        "_wall",
        "_wishes",
        "closing",
        "outbox",
    )

    def __init__(
        self,
        engine: Engine,
        channels: Sequence[Channel],
        identity: Identity,
        *,
        limit_bytes: int,
        heartbeat_s: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._channels = {channel.name: channel for channel in channels}
        self._single = len(self._channels) == 1
        self._identity = identity
        self._heartbeat_s = heartbeat_s
        self._limit_bytes = limit_bytes
        self._wall = wall
        #: The channels whose state the reader wants.
        self._wishes: frozenset[str] = frozenset()
        #: Tasks that read it anew after a gap, by channel; None for nearly everybody.
        self._mending: dict[str, asyncio.Task[None]] | None = None
        self._loop = asyncio.get_running_loop()
        #: Part of the cursor by channel, as of the last event written.
        self._parts: dict[str, bytes] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        #: What waits. A transport that sets ``write`` takes HTTP chunks, live ones; its
        #: ``on_ready`` is also called when the feed is at its end.
        self.outbox = Outbox(limit_bytes, engine.traffic)
        #: Why the feed ends after what :meth:`take` still gives; None while it goes on.
        self.closing: Disconnect | None = None

    # -- joining ---------------------------------------------------------------------------

    async def open(
        self,
        since: dict[str, CursorPosition] | None,
        *,
        recent: int = 0,
        snapshot: bool = False,
    ) -> None:
        """Join every channel and queue the beginning, recovered publications included.

        ``since`` is the decoded cursor of a reader that comes back, None for a new one. A
        channel that it does not mention begins with its last ``recent`` publications, or with
        a ``snapshot`` of the state behind it, if it has one.

        Raises:
            StoreError: Redis could not be asked.
            FanwireError: a snapshot cannot be told. Close the feed, whatever is raised.
        """
        joined: dict[str, Joined] = {}
        if snapshot:
            offers = self._engine.snapshots.offers
            self._wishes = frozenset(n for n, channel in self._channels.items() if offers(channel))
        snapshots_bytes = 0
        wanted = {} if since is None else since
        left_bytes = _MAX_RECOVERY_BYTES
        names = list(self._channels)
        for start in range(0, len(names), _JOIN_BATCH):
            batch = names[start : start + _JOIN_BATCH]
            if left_bytes <= 0:
                wanted, recent = {}, 0
            done = await asyncio.gather(
                *(
                    self._engine.join(
                        self._channels[name],
                        self,
                        wanted.get(name),
                        recent=recent,
                        snapshot=self._wish(name),
                    )
                    for name in batch
                ),
                return_exceptions=True,
            )
            for name, result in zip(batch, done, strict=True):
                if isinstance(result, BaseException):
                    raise result
                joined[name] = result
                left_bytes -= sum(len(pub.wire) for pub in result.publications)
                snapshots_bytes += 0 if result.snapshot is None else len(result.snapshot.data)
            if snapshots_bytes > _MAX_SNAPSHOTS_BYTES:
                raise LimitExceeded(
                    f"the snapshots of a feed are {_MAX_SNAPSHOTS_BYTES} bytes at most; those of "
                    f"{len(joined)} channels are {snapshots_bytes}"
                )
        # From here to the last release nothing may be awaited: what comes live must come
        # after what was recovered.
        self._begin(joined, since, from_recent=recent > 0)
        for result in joined.values():
            result.release()
        self._start_timers()

    def _begin(
        self,
        joined: dict[str, Joined],
        since: dict[str, CursorPosition] | None,
        *,
        from_recent: bool,
    ) -> None:
        """Queue the first block, then what each channel's reader missed or lost."""
        lost: dict[str, Gap | _Reason] = {}
        for name, result in joined.items():
            came_from = None if since is None else since.get(name)
            if loss := _loss(result, came_from, began=since is None or from_recent):
                lost[name] = loss
            # Until its own events are written, a channel stands where the reader left it: a
            # reader that is cut off in between asks for the same again.
            if came_from is not None:
                self._stand(name, came_from.position, came_from.id)
            elif result.publications:
                first = result.publications[0]
                self._stand(name, Position(first.epoch, first.offset - 1), "")
            elif result.snapshot is None and (since is None or from_recent):
                self._stand(name, result.position, result.id)
        start = encode_event_block("start", {}, id=self._cursor())
        # The reader asked for all this, so it does not count against its limit.
        push = self.outbox.push_backlog
        push(b"retry: %d\n%b" % (retry_ms(), start))
        for name, result in joined.items():
            gap = lost.get(name)
            if result.snapshot is not None and (gap or since is None or name not in since):
                self._push_snapshot(name, gap, result.snapshot)
            elif gap:
                push(_gap_notice(name, gap, result.position, result.id))
            else:
                for publication in result.publications:
                    push(Frame(publication))
                push(Standing(name, _part(name, result.position, result.id)))

    def _push_snapshot(self, channel: str, gap: Gap | _Reason | None, snapshot: Snapshot) -> None:
        # Of what a reader never saw nothing is lost to it.
        if gap is not None and gap is not _Reason.ABSENT:
            self.outbox.push_backlog(_gap_before_snapshot(channel, gap, snapshot.position))
        self.outbox.push_backlog(_snapshot_notice(channel, snapshot))

    def _start_timers(self) -> None:
        self._set_timer("heartbeat", self._heartbeat_s, self._beat)
        expires_at = self._identity.expires_at
        if expires_at is None:
            return
        left_s = max(0.0, expires_at - self._wall())
        warn_s = left_s - min(_WARN_BEFORE_S, left_s / 2)
        self._set_timer("warning", warn_s, self._warn)
        self._set_timer("end", left_s, lambda: self.end(Disconnects.EXPIRED))

    def _set_timer(self, name: str, delay_s: float, action: Callable[[], None]) -> None:
        self._timers[name] = self._loop.call_later(delay_s, action)

    def _beat(self) -> None:
        if not self.outbox:
            self.outbox.push(_HEARTBEAT)
        self._set_timer("heartbeat", self._heartbeat_s, self._beat)

    def _warn(self) -> None:
        expires_at = self._identity.expires_at or 0
        data = {"expires_at": expires_at, "expires_in": round(expires_at - self._wall())}
        self.outbox.push_backlog(encode_event_block("auth-expiring", data))

    # -- from the rooms --------------------------------------------------------------------

    def deliver(self, batch: Batch) -> None:
        """Write or queue live publications; a reader that owes too much is let go."""
        outbox = self.outbox
        if outbox.is_open:
            # A chunk of a feed of one channel is made once and shared by all such feeds.
            data = batch.chunk if self._single else chunk(b"".join(map(self._encode, batch.frames)))
            outbox.write_now(data)
        elif self.closing is None and not self.outbox.push_batch(batch):
            # What waits would only delay the goodbye; the reader recovers it.
            self.outbox.clear()
            self._engine.traffic.dropped("slow")
            self.end(Disconnects.SLOW)

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:
        """Queue the news that publications are lost to this reader."""
        if self.closing is not None:
            return
        if channel not in self._wishes:
            self.outbox.push_backlog(_gap_notice(channel, gap, top, top_id))
        elif len(self.outbox) > self._limit_bytes:
            # Nobody who stopped reading is given one state after the other.
            self.outbox.clear()
            self._engine.traffic.dropped("slow")
            self.end(Disconnects.SLOW)
        else:
            self.outbox.push_backlog(_gap_before_snapshot(channel, gap, top))
            # Out and in again: nothing may come live before the state that it follows.
            self._engine.leave(channel, self)
            if self._mending is None:
                self._mending = {}
            name = f"fanwire-feed mends {channel}"
            self._mending[channel] = asyncio.create_task(self._mend(channel), name=name)

    async def _mend(self, channel: str) -> None:
        """Give the reader the state behind a channel of which it lost publications."""
        try:
            joined = await self._engine.join(
                self._channels[channel], self, snapshot=self._wish(channel)
            )
        except FanwireError:
            # It stands where it stood before the gap, so it is told again when it comes back.
            self.end(Disconnects.INSUFFICIENT_STATE)
            return
        except Exception:  # noqa: BLE001 - a bug of ours ends one feed, not its task unheard
            _log.exception("a feed failed")
            self.end(Disconnects.SERVER_ERROR)
            return
        if self._mending is not None:
            del self._mending[channel]
        if self.closing is not None:
            self._engine.leave(channel, self)
            return
        if joined.snapshot is None:
            raise AssertionError("who joins without a position gets the snapshot it wishes for")
        self.outbox.push_backlog(_snapshot_notice(channel, joined.snapshot))
        joined.release()

    def _wish(self, channel: str) -> Wish:
        return Wish.NEEDED if channel in self._wishes else Wish.NEVER

    # -- from the node ---------------------------------------------------------------------

    @property
    def user(self) -> str:
        """Id of the user, empty when anonymous."""
        return self._identity.user

    def end(self, disconnect: Disconnect) -> None:
        """Say goodbye after what is queued; the second time does nothing."""
        if self.closing is None:
            goodbye = {"code": disconnect.code, "reason": disconnect.reason}
            block = encode_event_block("close", goodbye)
            self.outbox.push_backlog(b"retry: %d\n%b" % (retry_ms(), block))
            self.closing = disconnect
            self._leave()
            self.outbox.on_ready()

    def close(self) -> None:
        """Leave everything behind: the reader is gone."""
        if self.closing is None:
            self.closing = Disconnects.CLOSED
        self.outbox.shut()
        self._leave()
        self.outbox.clear()
        self.outbox.on_ready()

    def _leave(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._mending is not None:
            mending, self._mending = self._mending, None
            for task in mending.values():
                if task is not asyncio.current_task():
                    task.cancel()
        for name in self._channels:
            self._engine.leave(name, self)

    # -- writing ---------------------------------------------------------------------------

    def take(self) -> bytes:
        """Return the next of what waits, ready to be written.

        Empty when nothing waits, but also when what waited has no text.
        """
        return b"".join(map(self._encode, self.outbox.take()))

    def _encode(self, entry: Entry) -> bytes:
        if isinstance(entry, bytes):
            return entry
        if isinstance(entry, Standing):
            self._parts[entry.channel] = entry.part
            return b"id: %b\n%b\n" % (self._cursor(), entry.event) if entry.event else b""
        if self._single:
            return entry.block
        self._parts[entry.publication.channel] = entry.cursor
        return b"id: %b\n%b\n" % (self._cursor(), entry.event)

    def _cursor(self) -> bytes:
        return encode_cursor(self._parts.values())

    def _stand(self, channel: str, position: Position, id: str) -> None:
        self._parts[channel] = _part(channel, position, id)


def _part(channel: str, position: Position, id: str) -> bytes:
    return encode_cursor_part(channel, position.epoch, position.offset, id)


def _gap_notice(channel: str, gap: Gap | _Reason, top: Position, top_id: str) -> Standing:
    """Return the event that tells of a gap, after which the reader stands at ``top``."""
    event = b"event: gap\ndata: %b\n" % _encode(_gap_data(channel, gap, top))
    return Standing(channel, _part(channel, top, top_id), event)


def _gap_before_snapshot(channel: str, gap: Gap | _Reason, top: Position) -> bytes:
    """Return the event that tells of a gap which a snapshot will close.

    The reader stands where it stood: cut off before the snapshot, it must not come back as if
    it had it.
    """
    return encode_event_block("gap", {**_gap_data(channel, gap, top), "snapshot": True})


def _gap_data(channel: str, gap: Gap | _Reason, top: Position) -> dict[str, object]:
    return {
        "channel": channel,
        "reason": gap.name.lower(),
        "message": gap.value,
        "position": {"epoch": top.epoch, "offset": top.offset},
    }


def _snapshot_notice(channel: str, snapshot: Snapshot) -> Standing:
    """Return the event that has the state behind a channel, after which the reader stands there."""
    at = snapshot.position
    event = b'event: snapshot\ndata: {"channel":"%b","snapshot":%b,"position":%b}\n' % (
        channel.encode("ascii"),
        snapshot.data,
        _encode(at),
    )
    return Standing(channel, _part(channel, at, snapshot.id), event)


def _loss(joined: Joined, since: CursorPosition | None, *, began: bool) -> Gap | _Reason | None:
    """Return what a channel's reader has lost; one that ``began`` had nothing to lose."""
    if joined.gap:
        return joined.gap
    if since is None:
        return None if began else _Reason.ABSENT
    return Gap.TRIMMED if _missed(joined, since) else None


def _missed(joined: Joined, since: CursorPosition) -> bool:
    """Whether the reader missed something that was not read for it, being too much in all."""
    if joined.publications:
        return False
    return joined.position != since.position or since.id not in {"", joined.id}
