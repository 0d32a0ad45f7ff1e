"""The entries of one workspace in Redis: the typed callers of the scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

import msgspec

from channels.catalogue import WORKSPACE
from channels.errors import LimitExceeded, OutcomeUnknown
from channels.events import (
    SemanticRemoved,
    SemanticRemovedData,
    SemanticStored,
    SemanticStoredData,
    SemanticTightened,
    SemanticTightenedData,
)
from channels.ids import new_id
from channels.template import body_pieces
from services.changes import Outcome
from services.store.script import load_script
from services.sweeper import Sweeper

from .entry import Entry, size_of

if TYPE_CHECKING:
    from services.context import Context
    from services.store.port import Argument, Reply

__all__ = ["FAMILY", "Entries", "Found", "Seen", "install"]

#: What ends under ``semantic:...`` in a root's deadlines, and the one member there.
FAMILY: Final = "semantic"
_MEMBER: Final = Sweeper.member(FAMILY, "entries")
#: How long keys outlive their entries: the end itself is told before.
_OUTLIVES_MS: Final = 2 * 86_400_000
#: Ids that fit an event with room to spare.
_LISTED: Final = 1_000
_ENDS_AT_ONCE: Final = 100
_BATCHES: Final = 200

_decode = msgspec.json.Decoder(Entry).decode
_encode = msgspec.json.Encoder().encode


class Seen(NamedTuple):
    """Where the entries stand: their version, and how often they were invalidated."""

    version: int
    mark: int


class Found(NamedTuple):
    """An entry that was read, and from which distance on it was wrong (None: never)."""

    entry: Entry
    limit: float | None = None


class Entries:
    """Reads and changes the entries of ``workspace``."""

    __slots__ = ("_channel", "_context", "_keys", "workspace")

    def __init__(self, context: Context, workspace: str) -> None:
        self.workspace = workspace
        self._context = context
        self._channel = context.catalogue.find(WORKSPACE.name(workspace=workspace))
        self._keys = context.keys.semantic(workspace)

    # -- reads -----------------------------------------------------------------------------

    async def get(self, id: str) -> tuple[Found | None, Seen]:
        """Read one entry that has not ended, and where the entries stand: one command."""
        reply = await self._context.store.execute("HMGET", self._keys[0], id, "#v", "#q")
        entry, version, mark = cast("list[bytes | None]", reply)
        return self._found(entry, None), Seen(int(version or 0), int(mark or 0))

    async def get_many(self, ids: Sequence[str]) -> dict[str, Found]:
        """Read those entries that are there and have not ended; one command."""
        fields = [field for id in ids for field in (id, f"!{id}")]
        reply = await self._context.store.execute("HMGET", self._keys[0], *fields)
        values = cast("list[bytes | None]", reply)
        found: dict[str, Found] = {}
        for at, id_ in enumerate(ids):
            one = self._found(values[2 * at], values[2 * at + 1])
            if one is not None:
                found[id_] = one
        return found

    def _found(self, text: bytes | None, wrong: bytes | None) -> Found | None:
        if text is None:
            return None
        try:
            entry = _decode(text)
            limit = float(wrong.split(b" ")[0]) if wrong else None
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            return None  # another version wrote it
        return Found(entry, limit) if entry.expires > self._context.clock.now_ms() else None

    async def touch(self, used: dict[str, int]) -> None:
        """Note when entries were used; those that are gone stay so."""
        scores: list[Argument] = []
        for id_, at_ms in used.items():
            scores += [at_ms, id_]
        await self._context.store.execute("ZADD", self._keys[3], "XX", "GT", *scores)

    async def size(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""
        reply = await self._context.store.execute("HMGET", self._keys[0], "#n", "#b")
        many, size = cast("list[bytes | None]", reply)
        return int(many or 0), int(size or 0)

    # -- changes ---------------------------------------------------------------------------

    async def store(
        self,
        id: str,
        entry: Entry,
        record: bytes,
        *,
        partition: str,
        tags: Sequence[str],
        mark: int | None,
        max_entries: int,
        max_bytes: int,
    ) -> tuple[bool, int, list[str]]:
        """Keep an entry; return whether it is kept, the version, and who had to go for it.

        Safe to repeat: the same entry takes its own place. Not kept if the invalidations went
        beyond ``mark`` for one of its tags.
        """
        event = new_id()

        def make(version: int, removed: int) -> SemanticStored:
            return SemanticStored(
                id=event,
                data=SemanticStoredData(
                    workspace=self.workspace,
                    version=version,
                    entry=id,
                    partition=partition,
                    removed=cast("list[str]", [removed]),
                ),
            )

        text = _encode(entry)
        outcome = await self._run(
            "semantic_store",
            [self._context.keys.due(self.workspace)],
            [
                *body_pieces(make, 2),
                *(id, text, record),
                size_of(record),
                entry.expires,
                "" if mark is None else mark,
                max_entries,
                max_bytes,
                _MEMBER,
                _OUTLIVES_MS,
                *tags,
            ],
            event,
        )
        return outcome.code == 1, cast(int, outcome.values[0]), _ids(outcome.values[1])

    async def remove(
        self, *, ids: Sequence[str] = (), tags: Sequence[str] = (), everything: bool = False
    ) -> tuple[int, int]:
        """Remove entries; return the version and how many. Answers made before come too late."""
        if len(ids) + len(tags) > _LISTED:
            raise LimitExceeded(f"at most {_LISTED} can be invalidated at once")
        event = new_id()
        outcome = await self._run(
            "semantic_remove",
            [],
            [
                *body_pieces(self._removed(event, "invalidated"), 2),
                *body_pieces(self._everything(event, "invalidated"), 1),
                *("*" if everything else "", _LISTED, _OUTLIVES_MS, len(ids), *ids, *tags),
            ],
            event,
        )
        return cast(int, outcome.values[0]), cast(int, outcome.values[1])

    async def expire(self) -> int:
        """End those whose time is up; return how many ended."""
        ended = 0
        for _ in range(_BATCHES):
            event = new_id()
            outcome = await self._run(
                "semantic_expire",
                [self._context.keys.due(self.workspace)],
                [*body_pieces(self._removed(event, "expired"), 2), _MEMBER, _ENDS_AT_ONCE],
                event,
            )
            ended += len(_ids(outcome.values[1]))
            if not outcome.values[2]:
                break
        return ended

    async def false_hit(
        self, id: str, distance: float, limit: float, *, at_most: int, op: str
    ) -> tuple[int, int]:
        """Be stricter with an entry, or remove it; return the code of the script and the count."""
        event = new_id()

        def tightened(version: int, times: int) -> SemanticTightened:
            data = SemanticTightenedData(
                workspace=self.workspace,
                version=version,
                false_hits=times,
                entry=id,
                distance=round(distance, 6),
            )
            return SemanticTightened(id=event, data=data)

        def removed(version: int) -> SemanticRemoved:
            data = SemanticRemovedData(
                workspace=self.workspace, version=version, entries=[id], reason="false_hit"
            )
            return SemanticRemoved(id=event, data=data)

        outcome = await self._run(
            "semantic_false_hit",
            [],
            [*body_pieces(tightened, 2), *body_pieces(removed, 1), id, f"{limit:.6f}", at_most, op],
            event,
        )
        return outcome.code, cast(int, outcome.values[1])

    def _removed(
        self, event: str, reason: Literal["invalidated", "expired"]
    ) -> Callable[..., SemanticRemoved]:
        def make(version: int, entries: int) -> SemanticRemoved:
            data = SemanticRemovedData(
                workspace=self.workspace,
                version=version,
                entries=cast("list[str]", [entries]),
                reason=reason,
            )
            return SemanticRemoved(id=event, data=data)

        return make

    def _everything(self, event: str, reason: Literal["invalidated"]) -> Callable[..., Any]:
        def make(version: int) -> SemanticRemoved:
            data = SemanticRemovedData(
                workspace=self.workspace, version=version, reason=reason, everything=True
            )
            return SemanticRemoved(id=event, data=data)

        return make

    async def _run(
        self, name: str, more_keys: Sequence[str], args: Sequence[Argument], event: str
    ) -> Outcome:
        script, run = load_script(name), self._context.changes.run
        keys = [*self._keys, *more_keys]
        try:
            return await run(script, self._channel, keys, args, event=event)
        except OutcomeUnknown:
            # Each of them comes to the same when it is done twice.
            return await run(script, self._channel, keys, args, event=event)


def _ids(reply: Reply) -> list[str]:
    return [id_.decode() for id_ in cast("list[bytes]", reply)]


def install(context: Context) -> None:
    """Have entries end by themselves; once a context."""

    async def end(root: str, _: str) -> None:
        context.semantic.stats.expired += await Entries(context, root).expire()

    context.sweeper.handle(FAMILY, end)
