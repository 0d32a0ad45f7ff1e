"""The vectors of a workspace, held in this process: loaded when asked for, kept in step.

Every store tells of itself on ``workspace:{workspace}``, so a process that follows the channel
knows which vectors it lacks and reads these. Where nothing can be followed, or something was
missed, the version of the entries tells: whoever looks up sees it, and lists the partition anew
when the replica is behind for too long. Entries are read from Redis when they answer, so a
replica that is behind misses a hit and never gives a wrong one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

import msgspec

from channels.catalogue import WORKSPACE
from channels.errors import BadRequest, NotAvailable, StoreError

from .entry import vector_of
from .index import Near
from .numpy_index import Matrix
from .vectors import Vector, decode_vector

if TYPE_CHECKING:
    from channels.catalogue import Channel
    from channels.position import Position
    from channels.publication import Publication
    from services.context import Context
    from services.event_log import Gap

    from .replicas import Replicas

__all__ = ["Replica"]

_log = logging.getLogger(__name__)

#: Vectors that are read in one command: some hundred KB.
_BATCH: Final = 200


class _Data(msgspec.Struct):
    version: int = 0
    entry: str = ""
    partition: str = ""
    removed: list[str] = []
    entries: list[str] = []
    everything: bool = False


class _Told(msgspec.Struct):
    type: str = ""
    data: _Data = msgspec.field(default_factory=_Data)


_decode = msgspec.json.Decoder(_Told).decode


class _Partition:
    """The vectors of one partition. ``missing`` are known and not loaded yet."""

    __slots__ = (
        "behind_since",
        "gone",
        "listed_at",
        "loaded",
        "lock",
        "matrix",
        "missing",
        "target",
        "version",
    )

    def __init__(self) -> None:
        self.matrix: Matrix | None = None
        #: The version of the entries that it is at; the one it was seen to be behind of, since.
        self.version = 0
        self.target = 0
        self.behind_since = 0.0
        self.listed_at = 0.0
        self.missing: set[str] = set()
        #: Entries that went while others were read.
        self.gone: set[str] | None = None
        self.loaded = False
        self.lock = asyncio.Lock()

    def put(self, id: str, vector: Vector, expires_ms: int) -> None:
        if self.matrix is None:
            self.matrix = Matrix(vector.shape[0])
        if vector.shape[0] == self.matrix.dimension:
            self.matrix.put(id, vector, expires_ms)

    def remove(self, id: str) -> None:
        self.missing.discard(id)
        if self.gone is not None:
            self.gone.add(id)
        if self.matrix is not None:
            self.matrix.remove(id)
            if not len(self.matrix):
                self.matrix = None  # another model may have another dimension

    def ids(self) -> set[str]:
        return set(self.matrix.ids) if self.matrix is not None else set()


class Replica:
    """The partitions of one workspace in this process; a sink of its channel, and an index."""

    def __init__(self, context: Context, workspace: str, owner: Replicas) -> None:
        self.workspace = workspace
        self.channel: Channel = context.catalogue.find(WORKSPACE.name(workspace=workspace))
        self._context = context
        self._owner = owner
        self._keys = context.keys.semantic(workspace)
        self._partitions: OrderedDict[str, _Partition] = OrderedDict()
        self._closed = False
        self._tap_lock = asyncio.Lock()
        self._tapped = False

    # -- the index -------------------------------------------------------------------------

    async def search(self, partition: str, vector: Vector, k: int, *, version: int) -> list[Near]:
        """Return the nearest entries of a partition; it is loaded first where it is not."""
        held = await self._held(partition, version)
        if held.missing:
            await self._load_missing(held)
        matrix = held.matrix
        return [] if matrix is None else matrix.search(vector, k, self._context.clock.now_ms())

    async def add(
        self, partition: str, id: str, vector: Vector, *, expires_ms: int, version: int
    ) -> None:
        """Take what this process stored; the event that tells of it says nothing new."""
        held = self._partitions.get(partition)
        if held is not None and held.loaded:
            held.put(id, vector, expires_ms)
            if held.gone is not None:
                held.gone.discard(id)
        for one in self._partitions.values():
            if version == one.version + 1:
                one.version = version

    async def remove(self, partition: str, ids: Sequence[str]) -> None:  # noqa: ARG002 - the protocol
        """Forget entries, whichever partition they are in."""
        self._forget(ids)

    async def synced(self, partition: str, *, version: int) -> None:
        """Load what there is up to ``version``."""
        held = await self._held(partition, version)
        if held.version < version:
            held.loaded = False
            await self._resync(held, partition)
        if held.missing:
            await self._load_missing(held)

    def size(self) -> int:
        """Return how many vectors are held."""
        return sum(len(one.matrix) for one in self._partitions.values() if one.matrix is not None)

    # -- what the channel tells ------------------------------------------------------------

    def on_publication(self, publication: Publication) -> None:
        """Note what changed; vectors are read when somebody looks for them."""
        try:
            told = _decode(publication.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._outdate()
        if not told.type.startswith("semantic."):
            return None
        # What a listing has shown already is done again, in the same order: it ends the same.
        data = told.data
        for one in self._partitions.values():
            one.version = max(one.version, data.version)
        if data.everything:
            return self._outdate()
        self._forget(data.removed)
        self._forget(data.entries)
        held = self._partitions.get(data.partition)
        if held is not None:
            held.missing.add(data.entry)
            if held.gone is not None:
                held.gone.discard(data.entry)
        return None

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:  # noqa: ARG002 - all is read
        """List everything anew: nobody knows what was missed."""
        self._outdate()

    def _forget(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            for held in self._partitions.values():
                held.remove(id_)

    def _outdate(self) -> None:
        for held in self._partitions.values():
            held.loaded = False

    # -- loading ---------------------------------------------------------------------------

    async def _held(self, partition: str, version: int) -> _Partition:
        """Return a partition that is loaded, and in step or not behind for long."""
        held = self._partitions.get(partition)
        if held is None:
            held = self._partitions[partition] = _Partition()
            self._owner.make_room(self)
        self._partitions.move_to_end(partition)
        self._owner.used(self)
        await self._tap()
        if self._is_late(held, version):
            held.loaded = False
        if not held.loaded or held.lock.locked():
            await self._resync(held, partition)
        return held

    def _is_late(self, held: _Partition, version: int) -> bool:
        """Tell whether a partition is behind ``version`` for so long that nobody tells of it."""
        now, patience_s = asyncio.get_running_loop().time(), self._owner.resync_s
        if version < held.version:
            # The caller asked a moment ago; or all was lost, which a follower is told.
            return not self._tapped and now - held.listed_at >= patience_s
        if version == held.version:
            return False
        if held.version >= held.target:
            held.target, held.behind_since = version, now
        return now - held.behind_since >= patience_s

    async def _resync(self, held: _Partition, partition: str) -> None:
        """List the partition, forget what is not in it, load what is missing."""
        async with held.lock:
            if held.loaded:
                return  # by whoever had the lock
            held.gone = set()
            try:
                # What is told from here on is newer than the listing, and told to `held`.
                held.version = held.target = await self._version()
                held.listed_at = asyncio.get_running_loop().time()
                held.loaded = True
                listed = await self._list(partition)
                self._owner.stats.resyncs += 1
                for id_ in held.ids() - listed:
                    held.remove(id_)
                held.missing |= listed - held.ids() - held.gone
                await self._load(held)
            except BaseException:
                held.loaded = False
                raise
            finally:
                held.gone = None

    async def _load_missing(self, held: _Partition) -> None:
        async with held.lock:
            held.gone = set()
            try:
                await self._load(held)
            finally:
                held.gone = None

    async def _load(self, held: _Partition) -> None:
        while held.missing:
            batch = sorted(held.missing)[:_BATCH]
            reply = await self._context.store.execute("HMGET", self._keys[1], *batch)
            for id_, record in zip(batch, cast("list[bytes | None]", reply), strict=True):
                held.missing.discard(id_)
                if record is None or (held.gone is not None and id_ in held.gone):
                    continue
                try:
                    expires_ms, stored = vector_of(record)
                except BadRequest:
                    continue  # another version wrote it
                vector = decode_vector(stored)
                if vector is not None:
                    held.put(id_, vector, expires_ms)
                    self._owner.stats.loaded += 1
            self._owner.make_room(self)

    async def _version(self) -> int:
        return int(cast("bytes | None", await self._read("HGET", self._keys[0], "#v")) or 0)

    async def _list(self, partition: str) -> set[str]:
        tag = f"p{partition}"
        reply = await self._read("ZRANGEBYLEX", self._keys[4], f"[{tag} ", f"({tag}!")
        return {member.decode().partition(" ")[2] for member in cast("list[bytes]", reply)}

    async def _read(self, *command: str) -> object:
        return await self._context.store.execute(*command)

    # -- following -------------------------------------------------------------------------

    async def _tap(self) -> None:
        follower = self._owner.follower
        if follower is None or self._closed or (self._tapped and follower.follows(self.channel)):
            return
        async with self._tap_lock:
            if self._closed or (self._tapped and follower.follows(self.channel)):
                return
            self._tapped = False
            try:
                await follower.tap(self.channel, self)
            except (StoreError, NotAvailable) as error:
                _log.info("cannot follow %r for now: %s", self.channel.name, error)
                return
            self._tapped = True
            self._outdate()  # in between nobody told anything

    async def close(self) -> None:
        """Stop following, forget everything."""
        self._closed = True
        self._partitions.clear()
        follower = self._owner.follower
        async with self._tap_lock:
            if self._tapped and follower is not None:
                self._tapped = False
                await follower.untap(self.channel, self)

    def drop_oldest(self) -> bool:
        """Forget the partition that was not used longest, unless it is the only one."""
        if len(self._partitions) < 2:
            return False
        self._partitions.popitem(last=False)
        return True

    @property
    def partitions(self) -> int:
        """How many partitions are held."""
        return len(self._partitions)
