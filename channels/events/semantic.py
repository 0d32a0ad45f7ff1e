"""What changes in the semantic cache of a workspace: ids only, never what was asked."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from ..event import Event
from .workspaces import WorkspaceChangeData

__all__ = [
    "SemanticRemoved",
    "SemanticRemovedData",
    "SemanticStored",
    "SemanticStoredData",
    "SemanticTightened",
    "SemanticTightenedData",
]

#: The id of an entry, or of a partition: what an answer depends on beside the question.
Digest: TypeAlias = Annotated[str, Meta(max_length=64)]


class SemanticStoredData(WorkspaceChangeData, frozen=True, kw_only=True):
    """``entry`` can be found in ``partition`` (none: only by its very text).

    ``removed`` are entries that had to make room.
    """

    entry: Digest
    partition: Digest = ""
    removed: list[Digest] = msgspec.field(default_factory=list)


class SemanticRemovedData(WorkspaceChangeData, frozen=True, kw_only=True):
    """``entries`` are gone; with ``everything`` all of them may be: read anew."""

    entries: list[Digest] = msgspec.field(default_factory=list)
    reason: Literal["invalidated", "expired", "false_hit"]
    everything: bool = False


class SemanticTightenedData(WorkspaceChangeData, frozen=True, kw_only=True):
    """``entry`` was wrong at ``distance``, as false hit number ``false_hits``."""

    false_hits: Annotated[int, Meta(ge=0)]
    entry: Digest
    distance: float


class SemanticStored(Event, frozen=True, kw_only=True, tag="semantic.stored"):
    """The semantic cache keeps an answer."""

    data: SemanticStoredData


class SemanticRemoved(Event, frozen=True, kw_only=True, tag="semantic.removed"):
    """Answers left the semantic cache."""

    data: SemanticRemovedData


class SemanticTightened(Event, frozen=True, kw_only=True, tag="semantic.tightened"):
    """An entry answered what it is no answer to, and must be nearer from now on."""

    data: SemanticTightenedData
