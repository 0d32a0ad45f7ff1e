"""Values in the process's own memory: bounded in number and bytes, for all workspaces together.

What was used least lately goes first, as a clock tells it: an entry that was used since the
hand came by last is passed over once. So using one costs one assignment and moves nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from .stats import CacheStats

__all__ = ["Entry", "LocalCache", "LocalEntries"]

#: What an entry costs beside its payload and key, about.
_ENTRY_BYTES = 500


class Entry:
    """A value in memory. ``until`` and ``born`` are monotonic seconds."""

    __slots__ = (
        "born",
        "decode",
        "entries",
        "key",
        "shape",
        "size",
        "tags",
        "until",
        "used",
        "value",
    )

    def __init__(
        self,
        key: str,
        value: Any,  # noqa: ANN401 - whatever was cached
        decode: Callable[[bytes], Any] | None,
        shape: Any,  # noqa: ANN401 - the type it is read as
        *,
        until: float,
        born: float,
        size: int,
        tags: list[str],
    ) -> None:
        self.key = key
        #: The value itself where nobody can change it, else its JSON, which ``decode`` reads.
        self.value = value
        self.decode = decode
        self.shape = shape
        self.until = until
        self.born = born
        self.size = size + len(key) + _ENTRY_BYTES
        self.tags = tags
        self.used = False
        #: Where it stands; None when it stands nowhere any more.
        self.entries: LocalEntries | None = None


class LocalEntries:
    """The entries of one workspace, by key and by tag."""

    __slots__ = ("_by_tag", "_cache", "by_key")

    def __init__(self, cache: LocalCache) -> None:
        self._cache = cache
        self.by_key: dict[str, Entry] = {}
        self._by_tag: dict[str, set[str]] = {}

    def put(self, entry: Entry) -> None:
        """Keep an entry in the place of any with its key."""
        self.remove(entry.key)
        entry.entries = self
        self.by_key[entry.key] = entry
        for tag in entry.tags:
            self._by_tag.setdefault(tag, set()).add(entry.key)
        self._cache.added(entry)

    def remove(self, key: str) -> None:
        """Forget the entry of a key, if there is one."""
        entry = self.by_key.pop(key, None)
        if entry is None:
            return
        entry.entries = None
        for tag in entry.tags:
            keys = self._by_tag.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._by_tag[tag]
        self._cache.removed(entry)

    def remove_tag(self, tag: str) -> list[str]:
        """Forget the entries with a tag; return their keys."""
        keys = list(self._by_tag.get(tag, ()))
        for key in keys:
            self.remove(key)
        return keys

    def clear(self) -> None:
        """Forget all."""
        for key in list(self.by_key):
            self.remove(key)


class LocalCache:
    """The bounds, and who goes when they are reached."""

    __slots__ = ("_ring", "_stats", "bytes", "count", "max_bytes", "max_entries")

    def __init__(self, max_entries: int, max_bytes: int, stats: CacheStats) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.count = 0
        self.bytes = 0
        self._stats = stats
        self._ring: deque[Entry] = deque()

    def added(self, entry: Entry) -> None:
        """Count an entry; make room for it."""
        self.count += 1
        self.bytes += entry.size
        self._ring.append(entry)
        while (self.count > self.max_entries or self.bytes > self.max_bytes) and self._ring:
            self._evict()
        if len(self._ring) > 2 * self.count + 64:
            self._ring = deque(kept for kept in self._ring if kept.entries is not None)

    def removed(self, entry: Entry) -> None:
        """Count an entry off; its place in the ring is taken when the hand comes by."""
        self.count -= 1
        self.bytes -= entry.size

    def _evict(self) -> None:
        entry = self._ring.popleft()
        if entry.entries is None:
            return
        if entry.used:
            entry.used = False
            self._ring.append(entry)
            return
        entry.entries.remove(entry.key)
        self._stats.evictions += 1
