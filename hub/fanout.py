"""The walk of publications to subscribers, in slices, so that nobody waits long for it.

A room that has something to tell is walked a slice at a time; rooms take turns, and after a
few milliseconds the event loop gets one too, to read sockets and answer clients. So a room
with a hundred thousand subscribers delays neither small rooms nor the loop. What comes in
during a walk goes out together: to whoever is still to be served with the rest, else in the
next round (``room.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["Fanout", "Walkable"]

#: Subscribers of one room served before another room has its turn. A delivery takes 4 to 10
#: microseconds, most of it in the kernel: a slice is about a millisecond.
SLICE = 128
#: Seconds of walking in one turn of the loop, a slice more at most: with it, below 5 ms.
TURN_S = 0.002


class Walkable(Protocol):
    """A room, as far as the fan-out is concerned."""

    def walk(self, count: int) -> bool:
        """Serve up to ``count`` subscribers; return whether there is more to do."""


class Fanout:
    """Serves the rooms that have something to tell, fairly and in slices.

    ``call_soon`` runs a function in the next turn of the loop, ``clock`` is monotonic, in
    seconds.
    """

    __slots__ = ("_call_soon", "_clock", "_rooms", "_scheduled", "_slice", "_turn_s")

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float],
        *,
        slice_size: int = SLICE,
        turn_s: float = TURN_S,
    ) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._slice = slice_size
        self._turn_s = turn_s
        self._rooms: deque[Walkable] = deque()
        self._scheduled = False

    @property
    def now(self) -> float:
        """Monotonic time, seconds."""
        return self._clock()

    def add(self, room: Walkable) -> None:
        """Have ``room`` walked until it has nothing more to tell; add it once until then."""
        self._rooms.append(room)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._walk)

    def _walk(self) -> None:
        rooms = self._rooms
        ends = self._clock() + self._turn_s
        while rooms:
            room = rooms.popleft()
            if room.walk(self._slice):
                rooms.append(room)
            if rooms and self._clock() >= ends:
                self._call_soon(self._walk)
                return
        self._scheduled = False
