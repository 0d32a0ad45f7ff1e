"""Vector sets (``VADD``, ``VSIM``) of servers that have them, as an index: Redis 8 and later.

One set a partition, beside the entries and not in their scripts, which must run everywhere: a
process that ends between the two leaves an entry that is only found by its very text. What is in
a set and has no entry any more is removed when it is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from channels.errors import StoreRefused

from .index import Near
from .vectors import Vector

if TYPE_CHECKING:
    from services.context import Context

__all__ = ["VectorSets"]

_OUTLIVES_MS = 2 * 86_400_000
_MISMATCH: Final = "dimension mismatch"


class VectorSets:
    """Keeps the vectors of a workspace in vector sets."""

    __slots__ = ("_context", "_root")

    def __init__(self, context: Context, workspace: str) -> None:
        self._context = context
        self._root = context.keys.semantic(workspace)[0]

    @staticmethod
    async def available(context: Context) -> bool:
        """Tell whether the server has vector sets.

        Raises:
            StoreError: it could not be asked.
        """
        try:
            reply = await context.store.execute("COMMAND", "INFO", "VSIM")
        except StoreRefused:
            return False  # not even the question is allowed
        return isinstance(reply, list | dict) and any(reply)

    def key(self, partition: str) -> str:
        """Return the key of a partition's set: under the workspace's root, as all of it."""
        return f"{self._root}:vectors:{partition}"

    async def search(self, partition: str, vector: Vector, k: int, *, version: int) -> list[Near]:  # noqa: ARG002 - the set is the server's own
        """Return the nearest, none for a vector of another dimension than the set's."""
        command = ("VSIM", self.key(partition), "FP32", vector.tobytes(), "WITHSCORES", "COUNT", k)
        try:
            reply = await self._context.store.execute(*command)
        except StoreRefused as error:
            if _MISMATCH not in str(error):
                raise
            return []
        if isinstance(reply, dict):
            pairs = [(id_, cast("float | bytes", score)) for id_, score in reply.items()]
        else:
            flat = cast("list[bytes]", reply or [])
            pairs = list(zip(flat[::2], flat[1::2], strict=True))
        # The server tells similarities from 0 to 1.
        near = [Near(id_.decode(), max(0.0, 2 * (1 - float(score)))) for id_, score in pairs]
        return sorted(near, key=lambda one: one.distance)

    async def add(
        self,
        partition: str,
        id: str,
        vector: Vector,
        *,
        expires_ms: int,
        version: int,  # noqa: ARG002 - the set is the server's own
    ) -> None:
        """Add or replace a vector of the set's dimension; it ends two days after its last entry."""
        key = self.key(partition)
        store = self._context.store
        try:
            await store.execute("VADD", key, "FP32", vector.tobytes(), id, "NOQUANT")
        except StoreRefused as error:
            if _MISMATCH not in str(error):
                raise
            return
        ends_ms = expires_ms + _OUTLIVES_MS
        for condition in ("NX", "GT"):
            await store.execute("PEXPIREAT", key, ends_ms, condition)

    async def remove(self, partition: str, ids: Sequence[str]) -> None:
        """Remove vectors; without a partition they are left to those who find them."""
        for id_ in ids if partition else ():
            await self._context.store.execute("VREM", self.key(partition), id_)

    async def synced(self, partition: str, *, version: int) -> None:
        """Return at once: there is nothing to catch up with."""
