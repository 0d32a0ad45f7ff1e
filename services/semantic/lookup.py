"""One lookup: what is asked, and which of the nearest entries answers it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .entries import Found
from .entry import Scope, tag
from .guard import Guard, Refusal
from .index import Near
from .result import Miss
from .settings import Band

__all__ = ["Question", "Verdict"]

_NOTHING = 2.0


class Question(NamedTuple):
    """A prompt, normal, with everything that its answer depends on; ``skip`` why it is none."""

    prompt: str
    id: str
    scope: Scope
    category: str = ""
    skip: str = ""
    hashed: bool = False

    @property
    def partition(self) -> str:
        """What is compared with it."""
        return self.scope.partition

    def tags(self) -> list[str]:
        """Return the tags that follow from its scope."""
        tags = [tag("m", self.scope.model), tag("v", self.scope.prompt_version)]
        return [*tags, tag("u", self.scope.user)] if self.scope.user else tags


class Verdict:
    """Chooses among candidates, the nearest first: by distance, then by the guard."""

    __slots__ = ("_band", "_guard", "_prompt", "chosen", "nearest", "refusals", "uncertain")

    def __init__(self, prompt: str, band: Band, guard: Guard | None) -> None:
        self._prompt = prompt
        self._band = band
        self._guard = guard
        self.chosen: Near | None = None
        #: Whether the chosen one is so far that the judge is asked.
        self.uncertain = False
        self.refusals: list[Refusal] = []
        self.nearest: tuple[float, str] = (_NOTHING, "")

    def note(self, near: Sequence[Near]) -> None:
        """Take what the index found, however far it is."""
        if near:
            self.nearest = (near[0].distance, "")

    def decide(self, close: Sequence[Near], found: Mapping[str, Found]) -> None:
        """Choose the first that is near enough for its entry and that the guard lets pass."""
        for near in close:
            one = found.get(near.id)
            if one is None:
                continue
            if near.distance == self.nearest[0]:
                self.nearest = (near.distance, one.entry.prompt)
            if one.limit is not None and near.distance >= one.limit:
                continue  # it was wrong from about here
            if self._guard is not None:
                refusal = self._guard.refuse(self._prompt, one.entry.prompt)
                if refusal is not None:
                    self.refusals.append(refusal)
                    continue
            self.chosen = near
            self.uncertain = near.distance > self._band.hit
            return

    def miss(self, mark: int) -> Miss:
        """Return why there is no answer."""
        distance, prompt = self.nearest
        if self.chosen is not None:
            reason = "uncertain"
        elif self.refusals:
            reason = "refused"
        else:
            reason = "none" if distance >= _NOTHING else "far"
        return Miss(
            reason=reason, distance=distance, prompt=prompt, refusals=self.refusals, mark=mark
        )
