"""Calling the loader: once for all who ask the same, and in shadow mode to see who was right."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from channels.errors import StoreError

from .question import check_names
from .result import Answer, Fresh, Miss, Stored

if TYPE_CHECKING:
    from .keeper import Keeper
    from .question import Question
    from .shelf import Shelf

__all__ = ["Compare", "Loader", "Loads"]

#: Tells whether two answers to the prompt say the same: ``compare(prompt, cached, fresh)``.
Compare: TypeAlias = Callable[[str, Any, Any], bool | Awaitable[bool]]
Loader: TypeAlias = Callable[[], Any]


class Loads:
    """Calls loaders and keeps what they give; ``report`` is told of answers that were wrong."""

    __slots__ = ("_compare", "_keeper", "_report", "_shelf")

    def __init__(
        self,
        shelf: Shelf,
        keeper: Keeper,
        compare: Compare | None,
        report: Callable[[Answer], Awaitable[object]],
    ) -> None:
        self._shelf = shelf
        self._keeper = keeper
        self._compare = compare
        self._report = report

    async def load(self, question: Question, loader: Loader, defaults: Fresh, miss: Miss) -> Answer:
        """Return what the loader gives; whoever asks the same meanwhile waits for it."""
        if question.skip:
            fresh = await _load(loader, defaults)
            return Answer(response=fresh.response, source="loader", why=miss.reason)
        (fresh, stored), mine = await self._shelf.context.semantic.flights.join(
            (self._shelf.workspace, question.id, miss.mark),
            lambda: self._fly(question, loader, defaults, miss),
        )
        response = fresh.response if mine else _copy(fresh.response)
        return Answer(
            response=response,
            source="loader",
            entry=stored.entry,
            prompt=question.prompt,
            category=question.category,
            metadata=fresh.metadata,
            refusals=miss.refusals,
            why=stored.reason or miss.reason,
        )

    async def _fly(
        self, question: Question, loader: Loader, defaults: Fresh, miss: Miss
    ) -> tuple[Fresh, Stored]:
        fresh = await _load(loader, defaults)
        if miss.mark is None:  # nobody knows what was invalidated since
            return fresh, Stored(reason=miss.reason)
        return fresh, await self._keeper.keep_if_possible(question, fresh, miss.mark)

    async def shadow(
        self, question: Question, loader: Loader, defaults: Fresh, found: Answer
    ) -> Answer:
        """Load what was found, to compare both; return what is right, or what was found."""
        # What cannot be compared leaves the answer that was found; so does a model that fails.
        try:
            _, seen = await self._shelf.entries.get(question.id)
            fresh = await _load(loader, defaults)
            same = await self._same(question.prompt, found.response, fresh.response)
        except Exception:  # noqa: BLE001 - the application's own
            return found
        band = "uncertain" if found.source == "judged" else "hit"
        names = [band, f"category:{question.category}"] if question.category else [band]
        self._shelf.stats.sampled(names, false=not same)
        if same:
            return found
        with contextlib.suppress(StoreError):
            await self._report(found)
        stored = await self._keeper.keep_if_possible(question, fresh, seen.mark)
        return Answer(
            response=fresh.response,
            source="loader",
            entry=stored.entry,
            prompt=question.prompt,
            category=question.category,
            metadata=fresh.metadata,
            why="false hit",
        )

    async def _same(self, prompt: str, cached: object, fresh: object) -> bool:
        if self._compare is None:
            return _plain(cached) == _plain(fresh)
        said = self._compare(prompt, cached, fresh)
        return bool(await said if inspect.isawaitable(said) else said)


async def _load(loader: Loader, defaults: Fresh) -> Fresh:
    made = loader()
    if inspect.isawaitable(made):
        made = await made
    if not isinstance(made, Fresh):
        return msgspec.structs.replace(defaults, response=made)
    return msgspec.structs.replace(
        made,
        tags=[*defaults.tags, *check_names(made.tags)],
        ttl_s=defaults.ttl_s if made.ttl_s is None else made.ttl_s,
        metadata={**defaults.metadata, **made.metadata},
    )


def _copy(response: object) -> object:
    try:
        return msgspec.json.decode(msgspec.json.encode(response))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return response


def _plain(response: object) -> object:
    """Return an answer as it is compared: blanks and capitals do not count."""
    if isinstance(response, str):
        return " ".join(response.split()).casefold()
    if isinstance(response, dict):
        return {key: _plain(value) for key, value in response.items()}
    if isinstance(response, list):
        return [_plain(value) for value in response]
    return response
