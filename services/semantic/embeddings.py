"""The vectors of the latest prompts: each is made once, however many ask for it meanwhile."""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from channels.errors import LoadFailed

from .flights import Flights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .vectors import Vector

__all__ = ["Embed", "Embeddings"]

#: Makes a vector of each text. Not a coroutine function: it is called in a thread.
Embed: TypeAlias = "Callable[[Sequence[str]], ArrayLike | Awaitable[ArrayLike]]"

#: Vectors of the latest prompts that are kept: for the call that stores what one looked up.
_KEPT: Final = 512


class Embeddings:
    """Asks the applications' embedding functions, for all semantic caches of a process."""

    __slots__ = ("_flights", "_kept")

    def __init__(self) -> None:
        # By identity, for a callable need not be hashable; it is kept so that it stays the one.
        self._kept: OrderedDict[tuple[int, str, int | None], tuple[Embed, Vector]] = OrderedDict()
        self._flights: Flights[Vector] = Flights("fanwire-semantic-embed")

    async def of(
        self, embed: Embed, text: str, dimension: int | None, *, timeout_s: float
    ) -> Vector:
        """Return the vector of a text, of length one.

        Raises:
            BadRequest: ``embed`` made no proper vector.
            LoadFailed: it raised, or made none within ``timeout_s``.
        """
        key = (id(embed), text, dimension)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept[1]
        vector, _ = await self._flights.join(key, lambda: _made(embed, text, dimension, timeout_s))
        self._kept[key] = embed, vector
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return vector

    async def close(self) -> None:
        """End what is being made; a thread runs on until its function returns."""
        await self._flights.close()


async def _made(embed: Embed, text: str, dimension: int | None, timeout_s: float) -> Vector:
    # NumPy takes memory and a moment: only processes that use it load it.
    from .vectors import unit_vector  # noqa: PLC0415

    made: Any
    try:
        async with asyncio.timeout(timeout_s):
            if inspect.iscoroutinefunction(embed):
                made = await embed([text])
            else:
                made = await asyncio.to_thread(embed, [text])
                if inspect.isawaitable(made):
                    made = await made
    except TimeoutError as error:
        raise LoadFailed(f"embed made no vector within {timeout_s:g} s") from error
    except Exception as error:
        raise LoadFailed(f"embed made no vector: {type(error).__name__}: {error}") from error
    return unit_vector(made, dimension)
