"""Which of the nearest entries answers what is asked. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .entries import Found
from .guard import Guard, Refusal
from .index import Near
from .result import Miss
from .settings import Band

__all__ = ["Verdict"]

_NOTHING = 2.0


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
