"""Calls that several wait for: whoever wants the same meanwhile joins the one that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

__all__ = ["Flights"]

_T = TypeVar("_T")


class Flights(Generic[_T]):
    """Runs each call in a task of its own: who waits may go, the others get what it gives."""

    __slots__ = ("_name", "_running")

    def __init__(self, name: str) -> None:
        self._name = name
        self._running: dict[Hashable, asyncio.Task[_T]] = {}

    def __len__(self) -> int:
        return len(self._running)

    async def join(
        self, key: Hashable, call: Callable[[], Coroutine[Any, Any, _T]]
    ) -> tuple[_T, bool]:
        """Return what the call gives, and whether it was begun for this caller.

        What it raises is raised in all who wait.
        """
        flight = self._running.get(key)
        mine = flight is None
        if flight is None:
            flight = asyncio.create_task(call(), name=self._name)
            self._running[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight), mine

    def _landed(self, key: Hashable, done: asyncio.Task[_T]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # told to those who wait; nobody may be left

    async def close(self) -> None:
        """Cancel what runs, and return when it has ended."""
        running = list(self._running.values())
        for flight in running:
            flight.cancel()
        if running:
            await asyncio.wait(running)
