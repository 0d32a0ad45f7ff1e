"""Keeping an answer: whether it may be kept, as what, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from channels.errors import BadRequest, FanwireError, LimitExceeded, StoreError

from .entry import Entry, index_record, tag
from .question import LONGEST_NAME, check_text
from .result import Fresh, Stored
from .settings import MAX_TTL_S
from .skip import skip_response
from .vectors import encode_vector

if TYPE_CHECKING:
    from .question import Question
    from .shelf import Shelf
    from .vectors import Vector

__all__ = ["Keeper"]

_MAX_TAGS = 32
_MAX_METADATA = 16 * 1024


class Keeper:
    """Keeps answers on a shelf."""

    __slots__ = ("_shelf",)

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def keep(self, question: Question, fresh: Fresh, mark: int | None) -> Stored:
        """Keep an answer unless it was made before an invalidation; raises like ``store``."""
        text, why = self.check(fresh)
        why = question.skip or why or ("" if fresh.keep else "not wanted")
        if why:
            return Stored(reason=why)
        if mark is None:
            # So that a repetition of ours cannot bring back what is invalidated in between.
            _, seen = await self._shelf.entries.get(question.id)
            mark = seen.mark
        vector = None
        if not question.hashed:
            vector = await self._shelf.vector(question.prompt)
        now_ms = self._shelf.context.clock.now_ms()
        ttl_s = self.ttl(fresh.ttl_s)
        entry = Entry(
            prompt=question.prompt,
            response=msgspec.Raw(text),
            created=now_ms,
            expires=now_ms + ttl_s * 1000,
            category=question.category,
            metadata=fresh.metadata,
        )
        tags = [*question.tags(), *(tag("t", one) for one in fresh.tags)]
        stored = b""
        if vector is not None:
            tags.append(f"p{question.partition}")
            stored = encode_vector(vector, text=self._shelf.context.store.traits.billed)
        size = len(msgspec.json.encode(entry)) + len(stored)
        if size > self._shelf.settings.max_bytes:
            return Stored(reason="large")  # all others would go for it, in vain
        record = index_record(size, entry.expires, tags, stored)
        await self._shelf.context.semantic.register(self._shelf.workspace, entry.expires)
        kept, version, removed = await self._shelf.entries.store(
            question.id,
            entry,
            record,
            partition=question.partition if vector is not None else "",
            tags=tags,
            mark=mark,
            max_entries=self._shelf.settings.max_entries,
            max_bytes=self._shelf.settings.max_bytes,
        )
        if not kept:
            self._shelf.stats.outdated += 1
            return Stored(reason="outdated")
        self._shelf.stats.stored += 1
        self._shelf.stats.evictions += len(removed)
        await self._index_it(question, entry.expires, version, vector, removed)
        return Stored(entry=question.id, version=version, removed=removed)

    async def _index_it(
        self,
        question: Question,
        expires_ms: int,
        version: int,
        vector: Vector | None,
        removed: Sequence[str],
    ) -> None:
        index, partition = self._shelf.index, question.partition
        # The entry is kept, whatever an index beside it says: then only its very text finds it.
        try:
            if removed:
                await index.remove(partition, removed)
            if vector is not None:
                await index.add(
                    partition, question.id, vector, expires_ms=expires_ms, version=version
                )
        except StoreError:
            self._shelf.stats.failures += 1

    def check(self, fresh: Fresh) -> tuple[bytes, str]:
        """Return the response as JSON, and why it is not to be kept."""
        if len(fresh.tags) > _MAX_TAGS:
            raise LimitExceeded(f"an answer has {_MAX_TAGS} tags at most; got {len(fresh.tags)}")
        for one in fresh.tags:
            check_text(one, "a tag", LONGEST_NAME)
        try:
            text = msgspec.json.encode(fresh.response)
            metadata = msgspec.json.encode(fresh.metadata)
            plain = msgspec.json.decode(text)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise BadRequest(f"a response and its metadata are JSON: {error}") from None
        if len(metadata) > _MAX_METADATA:
            raise LimitExceeded(f"metadata has {_MAX_METADATA} bytes at most")
        if len(text) > self._shelf.settings.max_response_bytes:
            return text, "large"
        return text, skip_response(plain)

    def ttl(self, ttl_s: int | None) -> int:
        """Return how long an answer lives, in seconds; ``BadRequest`` if it cannot."""
        if ttl_s is None:
            return self._shelf.settings.ttl_s
        if not 0 < ttl_s <= MAX_TTL_S:
            raise BadRequest(f"expected a ttl_s of 1 to {MAX_TTL_S}; got {ttl_s}")
        return ttl_s

    async def keep_if_possible(self, question: Question, fresh: Fresh, mark: int | None) -> Stored:
        """Store; what cannot be kept is an answer nevertheless."""
        try:
            return await self.keep(question, fresh, mark)
        except FanwireError as error:
            self._shelf.stats.failures += 1
            return Stored(reason="unavailable" if isinstance(error, StoreError) else "refused")
