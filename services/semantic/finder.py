"""Finding the answer to a question: the very same prompt first, else the nearest that fits."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from .lookup import Verdict
from .result import Answer, Miss

if TYPE_CHECKING:
    from .entries import Found, Seen
    from .guard import Guard, Refusal
    from .question import Question
    from .result import Source
    from .shelf import Shelf

__all__ = ["Finder", "Judge"]

#: Tells whether the answer to the second prompt, the third argument, answers the first one.
Judge: TypeAlias = Callable[[str, str, Any], bool | Awaitable[bool]]

#: Searches a lookup makes when what it found is gone.
_ATTEMPTS = 3


class Finder:
    """Looks up questions; ``guards`` by language."""

    __slots__ = ("_guards", "_judge", "_shelf")

    def __init__(self, shelf: Shelf, guards: Mapping[str, Guard], judge: Judge | None) -> None:
        self._shelf = shelf
        self._guards = guards
        self._judge = judge

    async def find(self, question: Question) -> Answer | Miss:
        """Return the answer to a question, or why there is none; raises like ``lookup``."""
        stats = self._shelf.stats
        stats.lookups += 1
        if question.skip:
            stats.skipped += 1
            return Miss(reason=question.skip)
        found, seen = await self._shelf.entries.get(question.id)
        if found is not None:
            stats.exact += 1
            await self._shelf.note_used(question.id)
            return self._answer(question, question.id, found, "exact", 0.0)
        result = await self._nearest(question, seen)
        if isinstance(result, Miss):
            stats.misses += 1
        return result

    async def find_hashed(self, question: Question) -> Answer | Miss:
        """Return the answer under a hash of the application's own; by itself no likeness."""
        self._shelf.stats.lookups += 1
        found, seen = await self._shelf.entries.get(question.id)
        if found is None:
            self._shelf.stats.misses += 1
            return Miss(reason="none", mark=seen.mark)
        self._shelf.stats.exact += 1
        await self._shelf.note_used(question.id)
        return self._answer(question, question.id, found, "exact", 0.0)

    async def _nearest(self, question: Question, seen: Seen) -> Answer | Miss:
        guard = self._guard(question)
        if guard is None and not self._shelf.settings.unguarded_languages:
            return Miss(reason="none", mark=seen.mark)
        vector = await self._shelf.vector(question.prompt)
        index, k = self._shelf.index, self._shelf.settings.candidates
        band = self._shelf.settings.band(question.category)
        for _ in range(_ATTEMPTS):
            near = await index.search(question.partition, vector, k, version=seen.version)
            verdict = Verdict(question.prompt, band, guard)
            verdict.note(near)
            close = [one for one in near if one.distance <= band.uncertain]
            if not close:
                break
            found = await self._shelf.entries.get_many([one.id for one in close])
            gone = [one.id for one in close if one.id not in found]
            verdict.decide(close, found)
            if gone:
                await index.remove(question.partition, gone)
            if verdict.chosen is not None or not gone:
                break
        for refusal in verdict.refusals:
            self._shelf.stats.refused(refusal.reason)
        if verdict.chosen is None:
            return verdict.miss(seen.mark)
        chosen, uncertain = verdict.chosen, verdict.uncertain
        one = found[chosen.id]
        if uncertain:
            self._shelf.stats.uncertain += 1
            if not await self._judged(question, one):
                return verdict.miss(seen.mark)
            self._shelf.stats.judged += 1
        else:
            self._shelf.stats.semantic += 1
        await self._shelf.note_used(chosen.id)
        source: Source = "judged" if uncertain else "semantic"
        return self._answer(
            question, chosen.id, one, source, chosen.distance, refusals=verdict.refusals
        )

    async def _judged(self, question: Question, found: Found) -> bool:
        """Ask the judge; whatever goes wrong there is a no."""
        if self._judge is None:
            return False
        try:
            async with asyncio.timeout(self._shelf.settings.judge_timeout_s):
                response = msgspec.json.decode(found.entry.response)
                said = self._judge(question.prompt, found.entry.prompt, response)
                return bool(await said if inspect.isawaitable(said) else said)
        except Exception:  # noqa: BLE001 - the application's own; without it there is no hit
            self._shelf.stats.judge_failures += 1
            return False

    def _answer(
        self,
        question: Question,
        id: str,
        found: Found,
        source: Source,
        distance: float,
        *,
        refusals: Sequence[Refusal] = (),
    ) -> Answer:
        entry = found.entry
        seen = self._shelf.stats.shadow.get("uncertain" if source == "judged" else "hit")
        wrong = seen.rate if seen is not None and distance else 0.0
        return Answer(
            response=msgspec.json.decode(entry.response),
            source=source,
            entry=id,
            prompt=entry.prompt,
            distance=distance,
            age_s=max(0.0, (self._shelf.context.clock.now_ms() - entry.created) / 1000),
            confidence=max(0.0, (1 - distance) * (1 - wrong)),
            category=question.category,
            metadata=entry.metadata,
            refusals=list(refusals),
        )

    def _guard(self, question: Question) -> Guard | None:
        return self._guards.get(question.scope.locale.replace("_", "-").split("-")[0].lower())
