"""RediSearch (``FT.SEARCH``) of servers that have it, as an index: a hash a vector, found by KNN.

One index for all workspaces of a dimension; a workspace and its partition are a tag that each
search filters by, before distances are looked at. The hashes stand beside the entries and not in
their scripts, which must run everywhere: a process that ends between the two leaves an entry that
is only found by its very text. A hash ends with its entry; one whose entry went before is removed
when it is found. On one server: a cluster would be asked one node at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from channels.errors import StoreRefused

from .index import Near
from .vectors import Vector

if TYPE_CHECKING:
    from services.context import Context

__all__ = ["RedisSearch"]

_EXISTS: Final = "already exists"
_MISSING: Final = "no such index"


class RedisSearch:
    """Keeps the vectors of a workspace in hashes that RediSearch indexes."""

    __slots__ = ("_context", "_dimension", "_made", "_name", "_root", "_workspace")

    def __init__(self, context: Context, workspace: str, *, dimension: int) -> None:
        self._context = context
        self._workspace = workspace
        self._dimension = dimension
        self._name = f"{context.keys.prefix}:semantic:search:{dimension}"
        self._root = f"{self._name}:{{{workspace}}}:"
        self._made = False

    @staticmethod
    async def available(context: Context) -> bool:
        """Tell whether the server has RediSearch.

        Raises:
            StoreError: it could not be asked.
        """
        try:
            reply = await context.store.execute("COMMAND", "INFO", "FT.SEARCH")
        except StoreRefused:
            return False  # not even the question is allowed
        return isinstance(reply, list | dict) and any(reply)

    async def search(self, partition: str, vector: Vector, k: int, *, version: int) -> list[Near]:  # noqa: ARG002 - the index is the server's own
        """Return the nearest; none for a vector of another dimension."""
        if vector.shape != (self._dimension,):
            return []
        await self._make()
        command = (
            *("FT.SEARCH", self._name, "(@in:{$in})=>[KNN $k @vector $near AS distance]"),
            *("PARAMS", 6, "in", self._tag(partition), "k", k, "near", vector.tobytes()),
            *("SORTBY", "distance", "RETURN", 1, "distance", "LIMIT", 0, k, "DIALECT", 2),
        )
        try:
            reply = await self._context.store.execute(*command)
        except StoreRefused as error:
            if _MISSING not in str(error).lower():
                raise
            self._made = False  # all was lost; whoever asks next makes it, of what is there by then
            return []
        cut = len(self._root.encode())
        return [Near(key[cut:].decode(), max(0.0, distance)) for key, distance in _pairs(reply)]

    async def add(
        self,
        partition: str,
        id: str,
        vector: Vector,
        *,
        expires_ms: int,
        version: int,  # noqa: ARG002 - the index is the server's own
    ) -> None:
        """Add or replace a vector; it ends with its entry."""
        if vector.shape != (self._dimension,):
            return
        await self._make()
        key = self._root + id
        fields = ("in", self._tag(partition), "vector", vector.tobytes())
        replies = await self._context.store.pipeline(
            [["HSET", key, *fields], ["PEXPIREAT", key, expires_ms]]
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply

    async def remove(self, partition: str, ids: Sequence[str]) -> None:  # noqa: ARG002 - ids suffice
        """Remove vectors, whichever partition they are in."""
        if ids:
            await self._context.store.execute("UNLINK", *(self._root + id_ for id_ in ids))

    async def synced(self, partition: str, *, version: int) -> None:  # noqa: ARG002 - one index
        """Return when the index is there; the server keeps it in step with the hashes."""
        await self._make()

    async def _make(self) -> None:
        """Create the index unless it is there; the server reads what hashes there are by itself."""
        if self._made:
            return
        command = (
            *("FT.CREATE", self._name, "ON", "HASH", "PREFIX", 1, f"{self._name}:", "NOOFFSETS"),
            *("STOPWORDS", 0, "SCHEMA", "in", "TAG", "CASESENSITIVE", "vector", "VECTOR"),
            *("FLAT", 6, "TYPE", "FLOAT32", "DIM", self._dimension, "DISTANCE_METRIC", "COSINE"),
        )
        try:
            await self._context.store.execute(*command)
        except StoreRefused as error:
            if _EXISTS not in str(error).lower():
                raise
        self._made = True

    def _tag(self, partition: str) -> str:
        """Return what stands for workspace and partition, with nothing that a query would read."""
        return hashlib.sha256(f"{self._workspace}:{partition}".encode()).hexdigest()


def _pairs(reply: object) -> list[tuple[bytes, float]]:
    """Return keys and distances of a reply, in either protocol."""
    if isinstance(reply, dict):
        results = cast("list[dict[bytes, Any]]", reply.get(b"results", []))
        return [(one[b"id"], float(one[b"extra_attributes"][b"distance"])) for one in results]
    flat = cast("list[bytes | list[bytes]]", reply)[1:]
    return [
        (cast("bytes", key), float(cast("list[bytes]", fields)[1]))
        for key, fields in zip(flat[::2], flat[1::2], strict=True)
    ]
