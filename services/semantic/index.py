"""The protocol of an index of vectors, and what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from .vectors import Vector

__all__ = ["Near", "VectorIndex"]


class Near(NamedTuple):
    """An entry and how far it is: the cosine distance, 0 to 2."""

    id: str
    distance: float


class VectorIndex(Protocol):
    """Finds the nearest entries of a workspace.

    It only proposes: whoever uses it reads what it found from the entries themselves, so that
    one that is behind costs a hit, never a wrong answer.
    """

    async def search(self, partition: str, vector: Vector, k: int, *, version: int) -> list[Near]:
        """Return up to ``k`` entries of the partition, the nearest first.

        ``version`` is that of the workspace's entries as the caller saw it.
        """

    async def add(
        self, partition: str, id: str, vector: Vector, *, expires_ms: int, version: int
    ) -> None:
        """Take an entry that was just stored, and made the entries be at ``version``."""

    async def remove(self, partition: str, ids: Sequence[str]) -> None:
        """Forget entries that are gone."""

    async def synced(self, partition: str, *, version: int) -> None:
        """Return when everything stored up to ``version`` is found."""
