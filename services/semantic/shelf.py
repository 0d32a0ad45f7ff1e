"""Where the entries and vectors of one semantic cache are; what its parts share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from channels.errors import StoreError

from .entries import Entries

if TYPE_CHECKING:
    from services.context import Context

    from .embeddings import Embed
    from .index import VectorIndex
    from .settings import SemanticSettings
    from .stats import SemanticStats
    from .vectors import Vector

__all__ = ["Shelf"]


class Shelf:
    """The entries of a workspace, their vectors, and what makes a vector."""

    __slots__ = ("_dimension", "_embed", "_index", "context", "entries", "settings", "workspace")

    def __init__(
        self,
        context: Context,
        workspace: str,
        settings: SemanticSettings,
        *,
        embed: Embed,
        dimension: int | None,
        index: VectorIndex | None,
    ) -> None:
        self.context = context
        self.workspace = workspace
        self.settings = settings
        self.entries = Entries(context, workspace)
        self._embed = embed
        self._dimension = dimension
        self._index = index

    @property
    def stats(self) -> SemanticStats:
        """What all semantic caches of this process did."""
        return self.context.semantic.stats

    @property
    def index(self) -> VectorIndex:
        """The application's own index, or the replica of this process."""
        return self._index or self.context.semantic.of(self.workspace)

    async def vector(self, prompt: str) -> Vector:
        """Return the vector of a prompt; raises like ``Embeddings.of``."""
        return await self.context.semantic.embeddings.of(
            self._embed, prompt, self._dimension, timeout_s=self.settings.embed_timeout_s
        )

    async def note_used(self, id: str) -> None:
        """Note that an entry answered: those that were not used longest go first."""
        used = self.context.semantic.note_used(self.workspace, id)
        if used:
            with contextlib.suppress(StoreError):  # then they look older than they are
                await self.entries.touch(used)
