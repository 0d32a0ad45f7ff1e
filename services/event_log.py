"""The event log: a channel's bounded history with contiguous positions, on any store.

The typed callers of ``append.lua``, ``read.lua`` and ``fork.lua``, and the rule that says
whether a reader can go on from where it was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, cast

from channels.catalogue import Channel
from channels.errors import StoreError
from channels.ids import new_id
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
#: Bytes one recovery may bring. A reader that is further behind is told that there is a gap.
MAX_RECOVERY_BYTES = 16 * 1024 * 1024

_EPOCH_LENGTH = 8  # 48 random bits: enough to tell the epochs of one channel apart


class Appended(NamedTuple):
    """Where a publication stands; ``duplicate`` when its idempotency key was used before."""

    position: Position
    duplicate: bool


class Page(NamedTuple):
    """Publications of a log, and its top, as of one moment."""

    publications: list[Publication]
    top: Position
    top_id: str


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
        timeout_s: float | None = None,
    ) -> Appended:
        """Append a publication to the log and announce it: both happen or neither.

        ``body`` comes from :func:`channels.publication.encode_body`. With an
        ``idempotency_key`` the call may be repeated after an unknown outcome: whatever was
        published with the same key in the last five minutes is not published again.

        Raises:
            StoreUnavailable, StoreRefused: nothing was published.
            OutcomeUnknown: it may have been published.
        """
        history = channel.declaration.history
        now_ms = time.time_ns() // 1_000_000
        keys = [self._keys.log(channel), self._keys.log_meta(channel)]
        if idempotency_key is not None:
            keys.append(self._keys.publish_op(channel, idempotency_key))
        args: list[Argument] = [
            id or new_id(),
            body,
            publication_prefix(channel.name),
            self._keys.pubsub(channel),
            new_id()[:_EPOCH_LENGTH],
            now_ms,
            history.size,
            history.ttl_s * 1000,
            max(META_TTL_MS, history.ttl_s * 1000),
            OP_TTL_MS,
        ]
        reply = await self._store.run(self._append, keys, args, timeout_s=timeout_s)
        appended, epoch, offset, began = cast("list[int | bytes]", reply)
        if began:
            await self._index(channel, now_ms)
        position = Position(cast(bytes, epoch).decode("ascii"), cast(int, offset))
        return Appended(position, duplicate=not appended)

    async def _index(self, channel: Channel, now_ms: int) -> None:
        # The index is for people who look; delivery does not depend on it, and a publication
        # that stands must not fail because of it.
        try:
            await self._store.execute("ZADD", self._keys.channel_index(), now_ms, channel.name)
        except StoreError:
            return

    async def read(
        self,
        channel: Channel,
        *,
        since: Position | None = None,
        limit: int = PAGE_SIZE,
        reverse: bool = False,
    ) -> Page:
        """Return at most ``limit`` publications after ``since`` and the top of the log.

        Newest first with ``reverse`` (then those before ``since``). ``limit`` 0 returns the
        top only. A ``since`` of another epoch is not checked here: see :meth:`recover`.
        """
        first, last = "-", "+"
        if since is not None:
            if reverse:
                last = str(max(since.offset - 1, 0))
            else:
                first = str(since.offset + 1)
        return await self._page(channel, first, last, limit, reverse=reverse)

    async def recover(self, channel: Channel, since: Position, id: str = "") -> Recovered:
        """Return everything after ``since``, or say that this cannot be done.

        ``id``, where the reader knows it, is the id of the publication at ``since``: when the
        log holds another there, history forked and the reader's past is not this log's past.
        The rule is that of Centrifugo, made strict by the id.
        """
        # The entry at the position itself comes along, to compare its id.
        first = since.offset if id and since.offset else since.offset + 1
        page = await self._page(channel, str(first), "+", PAGE_SIZE)
        if gap := _gap(since, id, page):
            return Recovered([], page.top, page.top_id, gap)
        publications = [pub for pub in page.publications if pub.offset > since.offset]
        size = sum(len(publication.wire) for publication in publications)
        while publications and publications[-1].offset < page.top.offset:
            page = await self._page(channel, str(publications[-1].offset + 1), "+", PAGE_SIZE)
            size += sum(len(publication.wire) for publication in page.publications)
            if page.top.epoch != since.epoch:
                return Recovered([], page.top, page.top_id, Gap.EPOCH)
            if not page.publications or size > MAX_RECOVERY_BYTES:
                return Recovered([], page.top, page.top_id, Gap.TRIMMED)
            publications += page.publications
        expected = range(since.offset + 1, page.top.offset + 1)
        if [publication.offset for publication in publications] != list(expected):
            return Recovered([], page.top, page.top_id, Gap.TRIMMED)
        return Recovered(publications, page.top, page.top_id)

    async def _page(
        self, channel: Channel, first: str, last: str, limit: int, *, reverse: bool = False
    ) -> Page:
        reply = await self._store.run(
            self._read,
            [self._keys.log(channel), self._keys.log_meta(channel)],
            [new_id()[:_EPOCH_LENGTH], META_TTL_MS, first, last, limit, "1" if reverse else "0"],
        )
        epoch_, offset, top_id, entries = cast("tuple[bytes, int, bytes, list[Reply]]", reply)
        epoch = epoch_.decode("ascii")
        publications = [_publication(channel, epoch, entry) for entry in entries]
        return Page(publications, Position(epoch, offset), top_id.decode("ascii"))

    async def tops(self, channels: Sequence[Channel]) -> list[tuple[Position, str] | None]:
        """Return each log's top and its id, or None where there is none, in one round trip."""
        commands = [("HMGET", self._keys.log_meta(channel), "e", "o", "i") for channel in channels]
        tops: list[tuple[Position, str] | None] = []
        for reply in await self._store.pipeline(commands):
            match reply:
                case [bytes(epoch), bytes(offset), bytes(id_)]:
                    tops.append((Position(epoch.decode(), int(offset)), id_.decode()))
                case _:
                    tops.append(None)
        return tops

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

    async def names(self) -> list[str]:
        """Return the channels that have, or lately had, a log; newest first."""
        reply = await self._store.execute("ZREVRANGE", self._keys.channel_index(), 0, -1)
        return [cast(bytes, name).decode("ascii") for name in cast("list[Reply]", reply)]


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
        return Gap.TRIMMED
    return None if page.publications[0].id == id else Gap.FORKED


def _publication(channel: Channel, epoch: str, entry: Reply) -> Publication:
    match entry:
        case [bytes(entry_id), [b"i", bytes(id_), b"b", bytes(body)]]:
            offset = int(entry_id.partition(b"-")[0])
            return Publication.from_log(channel.name, epoch, offset, id_.decode("ascii"), body)
    raise StoreError(f"the log of {channel.name!r} holds an entry that is not ours: {entry!r}")
