"""A flight: one read or load of a key, and everybody in the process who waits for it.

Whoever asks for a value is promised one that was not out of date when he asked. A flight whose
read of Redis is on its way may miss an invalidation that came before him, so it is *closed*:
he waits for the next turn. A load under a lease is open all the time, because it is kept only
if nothing was invalidated since it began, and until then nobody gets its result.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from .envelope import Found

__all__ = ["Flight", "Landed"]

#: What a passenger gets: a value, or None, that is: ask again.
Landed: TypeAlias = "Found | None"


class Flight:
    """Who waits for one read or load. A passenger who leaves changes nothing for the others."""

    __slots__ = ("_boarding", "_passengers", "background", "closed", "fallback", "spoiled")

    def __init__(self, *, closed: bool, background: bool = False) -> None:
        # Made when somebody comes: most reads are one caller's.
        self._passengers: list[asyncio.Future[Landed]] | None = None
        self._boarding: list[asyncio.Future[Landed]] | None = None
        self.closed = closed
        #: Whether nobody asked for it.
        self.background = background
        #: An old value that holds if the load fails.
        self.fallback: Found | None = None
        #: Whether what it brings may be out of date already: not for memory.
        self.spoiled = False

    def board(self) -> asyncio.Future[Landed]:
        """Return a future of what it brings; cancelling it harms nobody."""
        passenger = asyncio.get_running_loop().create_future()
        if self._passengers is None:
            self._passengers = []
        self._passengers.append(passenger)
        return passenger

    def queue(self) -> asyncio.Future[Landed]:
        """Return a future that is done when it is time to ask again."""
        passenger = asyncio.get_running_loop().create_future()
        if self._boarding is None:
            self._boarding = []
        self._boarding.append(passenger)
        return passenger

    @property
    def passengers(self) -> int:
        """How many are on board; what comes later sits behind them."""
        return len(self._passengers or ())

    def close(self) -> None:
        """Let nobody strict on board."""
        self.closed = True

    def open(self) -> None:
        """Let everybody on board again."""
        self.closed = False
        boarding, self._boarding = self._boarding, None
        for passenger in boarding or ():
            _give(passenger, None)

    def land(self, found: Landed, *, first: int | None = None) -> None:
        """Give everybody what was brought; but only the ``first`` ones, if that is said."""
        passengers, self._passengers = self._passengers, None
        for number, passenger in enumerate(passengers or ()):
            _give(passenger, found if first is None or number < first else None)
        if self._boarding is not None:
            self.open()

    def fail(self, error: BaseException) -> None:
        """Tell everybody why there is nothing."""
        passengers, self._passengers = self._passengers, None
        for passenger in passengers or ():
            if not passenger.done():
                passenger.set_exception(error)
        self.open()


def _give(passenger: asyncio.Future[Landed], found: Landed) -> None:
    if not passenger.done():
        passenger.set_result(found)
