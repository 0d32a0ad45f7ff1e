"""What a lookup comes to: an answer, or why there is none."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .guard import Refusal

__all__ = ["Answer", "Fresh", "Miss", "Source", "Stored"]

Source = Literal["exact", "semantic", "judged", "loader"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; true. ``response`` is a copy: changing it changes nothing.

    ``prompt`` is the cached one, ``distance`` how far it is from what was asked, ``age_s`` how
    old the answer is. ``confidence`` is between 0 and 1: the similarity, less what shadow mode
    saw go wrong in this band. ``entry`` is the id to report a false hit with, and empty where
    ``loader`` gave an answer that is not kept; ``why`` says why not, or why nothing cached fitted.
    """

    response: Any
    source: Source
    entry: str = ""
    prompt: str = ""
    distance: float = 0.0
    age_s: float = 0.0
    confidence: float = 1.0
    category: str = ""
    metadata: dict[str, Any] = {}
    refusals: list[Refusal] = []
    why: str = ""


class Miss(msgspec.Struct, frozen=True, kw_only=True):
    """No answer; false.

    ``reason`` is "none" (nothing near), "far", "refused" (the guard), "uncertain" (no judge, or
    it said no or nothing), or why the prompt is not looked up at all: "empty", "long", "text",
    "temperature", "user", "volatile", "tools". ``distance`` is that of the nearest entry, 2 for
    none. ``mark`` goes to ``store`` with the answer that is made now: it is not kept if what it
    was made from was invalidated meanwhile.
    """

    reason: str
    distance: float = 2.0
    prompt: str = ""
    refusals: list[Refusal] = []
    mark: int | None = None

    @property
    def skipped(self) -> bool:
        """Whether the prompt is one that is never looked up."""
        return self.mark is None

    def __bool__(self) -> bool:
        return False


class Fresh(msgspec.Struct, frozen=True):
    """What a loader made, with what it knows of it; ``keep`` off: for this time only."""

    response: Any
    tags: list[str] = []
    ttl_s: int | None = None
    metadata: dict[str, Any] = {}
    keep: bool = True


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an answer is kept: true, with the id of its entry, or false with the reason.

    Reasons are those of a `Miss` that skips, and "large", "empty", "error" and "tools" for the
    response, "outdated" when what it was made from was invalidated meanwhile, "not wanted".
    ``removed`` are entries that had to make room.
    """

    entry: str = ""
    version: int = 0
    reason: str = ""
    removed: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.entry)
