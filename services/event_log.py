"""The event log: a channel's bounded history with contiguous positions, on any store.

The typed callers of ``append.lua``, ``read.lua`` and ``fork.lua``, and the rule that says
whether a reader can go on from where it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, cast

from channels.catalogue import Channel
from channels.errors import StoreError
from channels.ids import check_id, new_id
from channels.position import Position
from channels.publication import Publication, publication_prefix
from services.store.keys import Keys
from services.store.port import Argument, Reply, Store
from services.store.script import load_script

__all__ = ["Appended", "EventLog", "Gap", "Page", "Recovered"]

#: How long a channel without publications keeps its epoch. Far longer than any history, so
#: that a reader who was away for the whole of it is told the truth about a quiet channel.
META_TTL_MS = 30 * 86_400_000
#: How long an idempotency key is remembered: longer than every retry horizon of ours (a
#: publisher gives up after a minute) plus clock corrections.
OP_TTL_MS = 5 * 60_000
#: Entries a page; at 64 KiB each still below what a reply may hold.
PAGE_SIZE = 500
#: Entries one call of :meth:`EventLog.read` returns at most.
MAX_PAGE = 1_000
#: Bytes one recovery may bring. A reader that is further behind is told that there is a gap.
MAX_RECOVERY_BYTES = 16 * 1024 * 1024
#: Channels the index remembers, and how many of them are listed, the latest first.
MAX_INDEXED = 100_000
MAX_LISTED = 10_000

_HOUR_MS = 3_600_000

_EPOCH_LENGTH = 8  # 48 random bits: enough to tell the epochs of one channel apart


class Appended(NamedTuple):
    """Where a publication stands; ``duplicate`` when its idempotency key was used before."""

    position: Position
    duplicate: bool


class Page(NamedTuple):
    """Publications of a log, and its top, as of one moment.

    ``base`` is the last publication before the log expired, if it did: its offset and id.
    """

    publications: list[Publication]
    top: Position
    top_id: str
    base: tuple[int, str] = (0, "")


class Gap(Enum):
    """Why a reader cannot go on from where it was."""

    EPOCH = "history began anew"
    TRIMMED = "the position is older than the history that is kept"
    FORKED = "the log lost publications that were seen"


class Recovered(NamedTuple):
    """What came after a reader's position, or why that cannot be said (``gap``).

    After a gap ``publications`` is empty. ``top`` is where a reader that took them stands.
    """

    publications: list[Publication]
    top: Position
    top_id: str
    gap: Gap | None = None


class EventLog:
    """The event logs of all channels on one store."""

    __slots__ = ("_append", "_fork", "_keys", "_read", "_store")

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._append = load_script("append")
        self._read = load_script("read")
        self._fork = load_script("fork")

    async def append(
        self,
        channel: Channel,
        body: bytes,
        *,
        id: str | None = None,
        idempotency_key: str | None = None,
        key: str = "",
        timeout_s: float | None = None,
    ) -> Appended:
        """Append a publication to the log and announce it: both happen or neither.

        ``body`` comes from :func:`channels.publication.encode_body`. With an
        ``idempotency_key`` the call may be repeated after an unknown outcome: whatever was
        published with the same key in the last five minutes is not published again. An empty
        key is none. ``key`` is the conflation key, checked, or empty: the announcement
        carries it, the log does not.

        Raises:
            BadRequest: ``id`` is not an id; nothing was published.
            StoreUnavailable, StoreRefused: nothing was published.
            OutcomeUnknown: it may have been published.
        """
        id_ = check_id(id, "publication id") if id else new_id()
        now_ms = _now_ms()
        keys = self.keys_of(channel)
        if idempotency_key:
            keys.append(self._keys.publish_op(channel, idempotency_key))
        args = [*self.terms(channel, id_, now_ms=now_ms, key=key), body, OP_TTL_MS]
        reply = await self._store.run(self._append, keys, args, timeout_s=timeout_s)
        appended, epoch, offset, hourly = cast("list[int | bytes]", reply)
        if hourly:
            await self.index(channel, now_ms, timeout_s=timeout_s)
        position = Position(cast(bytes, epoch).decode("ascii"), cast(int, offset))
        return Appended(position, duplicate=not appended)

    # -- for scripts that change state and tell of it ---------------------------------------

    def keys_of(self, channel: Channel) -> list[str]:
        """Return the keys of the log: its stream and its meta hash."""
        return [self._keys.log(channel), self._keys.log_meta(channel)]

    def terms(self, channel: Channel, id: str, *, now_ms: int, key: str = "") -> list[Argument]:
        """Return the nine arguments that ``append_event`` of ``lib/event_log.lua`` takes.

        ``id`` is that of the publication, ``key`` its conflation key or empty; both checked.
        """
        history = channel.declaration.history
        return [
            id,
            publication_prefix(channel.name),
            self._keys.pubsub(channel),
            new_id()[:_EPOCH_LENGTH],
            now_ms,
            history.size,
            history.ttl_s * 1000,
            max(META_TTL_MS, history.ttl_s * 1000) + 2 * _HOUR_MS,
            key,
        ]

    @staticmethod
    def top_terms() -> list[Argument]:
        """Return the last two arguments that ``log_top`` of ``lib/event_log.lua`` takes."""
        return [new_id()[:_EPOCH_LENGTH], META_TTL_MS]

    async def index(self, channel: Channel, now_ms: int, *, timeout_s: float | None = None) -> None:
        """Note that ``channel`` has a log, after a publication that was the first of its hour."""
        # The index is for people who look; delivery does not depend on it, and a publication
        # that stands must not fail because of it. What fails here is made good within the hour.
        index = self._keys.channel_index()
        with contextlib.suppress(StoreError):
            await self._store.pipeline(
                [
                    ("ZADD", index, now_ms, channel.name),
                    ("ZREMRANGEBYRANK", index, 0, -MAX_INDEXED - 1),
                ],
                timeout_s=timeout_s,
            )

    async def read(
        self,
        channel: Channel,
        *,
        since: Position | None = None,
        limit: int = PAGE_SIZE,
        reverse: bool = False,
    ) -> Page:
        """Return at most ``limit`` publications after ``since`` and the top of the log.

        No more than 1,000 a call, whatever the limit. Newest first with ``reverse`` (then
        those before ``since``). ``limit`` 0 returns the top only. A ``since`` of another
        epoch is not checked here: see :meth:`recover`.
        """
        first, last = "-", "+"
        if since is not None:
            if reverse:
                last = str(max(since.offset - 1, 0))
            else:
                first = str(since.offset + 1)
        return await self._page(channel, first, last, min(limit, MAX_PAGE), reverse=reverse)

    async def recover(self, channel: Channel, since: Position, id: str = "") -> Recovered:
        """Return everything after ``since``, or say that this cannot be done.

        ``id``, where the reader knows it, is the id of the publication at ``since``: when the
        log holds another there, history forked and the reader's past is not this log's past.
        The rule is that of Centrifugo, made strict by the id.
        """
        publications: list[Publication] = []
        size = 0
        while True:
            # The entry at the position itself comes along, to compare its id.
            first = since.offset if id and since.offset else since.offset + 1
            page = await self._page(channel, str(first), "+", PAGE_SIZE)
            gap = _gap(since, id, page)
            fresh = [pub for pub in page.publications if pub.offset > since.offset]
            after = since.offset + len(fresh)
            size += sum(len(publication.wire) for publication in fresh)
            if gap is None and (
                [publication.offset for publication in fresh]
                != list(range(since.offset + 1, after + 1))
                or after > page.top.offset
                or (not fresh and after < page.top.offset)
                or size > MAX_RECOVERY_BYTES
            ):
                gap = Gap.TRIMMED
            if gap is not None:
                return Recovered([], page.top, page.top_id, gap)
            publications += fresh
            if after == page.top.offset:
                return Recovered(publications, page.top, page.top_id)
            # The next page is held against this one: Redis may fail over in between.
            since, id = publications[-1].position, publications[-1].id

    async def _page(
        self, channel: Channel, first: str, last: str, limit: int, *, reverse: bool = False
    ) -> Page:
        reply = await self._store.run(
            self._read,
            [self._keys.log(channel), self._keys.log_meta(channel)],
            [new_id()[:_EPOCH_LENGTH], META_TTL_MS, first, last, limit, "1" if reverse else "0"],
        )
        epoch_, offset, top_id, entries, base_offset, base_id = cast(
            "tuple[bytes, int, bytes, list[Reply], int, bytes]", reply
        )
        epoch = epoch_.decode("utf-8", "replace")
        found = (_publication(channel, epoch, entry) for entry in entries)
        return Page(
            [publication for publication in found if publication is not None],
            Position(epoch, offset),
            top_id.decode("utf-8", "replace"),
            (base_offset, base_id.decode("utf-8", "replace")),
        )

    async def tops(self, channels: Sequence[Channel]) -> list[tuple[Position, str] | None]:
        """Return each log's top and its id, or None where there is none, in one round trip."""
        return [
            None if found is None else (found[0], found[1]) for found in await self._metas(channels)
        ]

    async def listed(self, channels: Sequence[Channel]) -> dict[str, Position]:
        """Return the tops of those ``channels`` that still have a log, by name.

        The others leave the index.
        """
        now_ms = _now_ms()
        listed: dict[str, Position] = {}
        gone: list[str] = []
        for channel, found in zip(channels, await self._metas(channels), strict=True):
            ttl_ms = channel.declaration.history.ttl_s * 1000
            age_ms = now_ms if found is None else now_ms - found[2]
            if found is not None and age_ms <= ttl_ms:
                listed[channel.name] = found[0]
            elif age_ms > ttl_ms + 2 * _HOUR_MS:
                # So late that its next publication, whoever's clock it bears, is the first of
                # its hour and brings the channel back into the index.
                gone.append(channel.name)
        if gone:
            with contextlib.suppress(StoreError):
                await self._store.execute("ZREM", self._keys.channel_index(), *gone)
        return listed

    async def _metas(self, channels: Sequence[Channel]) -> list[tuple[Position, str, int] | None]:
        commands = [
            ("HMGET", self._keys.log_meta(channel), "e", "o", "i", "t") for channel in channels
        ]
        return [_meta(reply) for reply in await self._store.pipeline(commands)]

    async def fork(self, channel: Channel, epoch: str) -> None:
        """Begin a new epoch, because ``epoch`` lost a publication that somebody saw."""
        await self._store.run(
            self._fork, [self._keys.log_meta(channel)], [epoch, new_id()[:_EPOCH_LENGTH]]
        )

    async def remove(self, channel: Channel) -> None:
        """Forget the publications of the log; position and epoch go on.

        A reader that missed some of them is told so when it comes back.
        """
        await self._store.execute("DEL", self._keys.log(channel))

    async def names(self, limit: int = MAX_LISTED) -> list[str]:
        """Return the channels that have, or lately had, a log, latest first.

        At most ``limit``, and never more than 10,000.
        """
        last = min(limit, MAX_LISTED) - 1
        reply = await self._store.execute("ZREVRANGE", self._keys.channel_index(), 0, last)
        return [cast(bytes, name).decode() for name in cast("list[Reply]", reply)]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _gap(since: Position, id: str, page: Page) -> Gap | None:
    """Return why a reader at ``since`` cannot go on, as far as the first page tells."""
    if since.epoch != page.top.epoch:
        return Gap.EPOCH
    if since.offset > page.top.offset:
        return Gap.FORKED
    if not id or since.offset == 0:
        return None
    if since.offset == page.top.offset:
        return None if page.top_id == id else Gap.FORKED
    if not page.publications or page.publications[0].offset != since.offset:
        return None if page.base == (since.offset, id) else Gap.TRIMMED
    return None if page.publications[0].id == id else Gap.FORKED


def _publication(channel: Channel, epoch: str, entry: Reply) -> Publication | None:
    """Return the publication in a log entry; None, which is a hole, if it is not one of ours."""
    match entry:
        case [bytes(entry_id), [b"i", bytes(id_), b"b", bytes(body)]]:
            offset, _, sequence = entry_id.partition(b"-")
            if sequence == b"0" and id_.isascii():
                return Publication.from_log(channel.name, epoch, int(offset), id_.decode(), body)
    return None


def _meta(reply: Reply | Exception) -> tuple[Position, str, int] | None:
    """Return top, its id and its time (ms, 0 if nothing was published); None if there is none."""
    match reply:
        case [bytes(epoch), bytes(offset), id_, time_ms] if offset.isdigit():
            id_text = id_.decode("utf-8", "replace") if isinstance(id_, bytes) else ""
            published = isinstance(time_ms, bytes) and time_ms.isdigit()
            return (
                Position(epoch.decode("utf-8", "replace"), int(offset)),
                id_text,
                int(cast(bytes, time_ms)) if published else 0,
            )
    return None
