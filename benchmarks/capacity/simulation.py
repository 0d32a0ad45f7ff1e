"""The simulation: time that passes from event to event, a Redis, and a worker of the hub.

Both serve in turns of their event loop: what waits when a turn begins is taken together. The
worker's rooms are walked as ``hub/fanout.py`` does it, with its own constants: slices, rooms
in turn, a bound on a turn, and what comes in during a walk goes out together in the next.
Everything that is random comes from generators that the caller seeds, so a run can be
repeated exactly.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

from hub.fanout import SLICE, TURN_S

__all__ = ["Clock", "Message", "RedisServer", "Room", "Worker"]

#: Members of a slice whose latency is recorded, evenly: the others lie between them.
_RECORDED = 4
#: Requests that Redis takes in one turn: about what its read buffer of 16 KiB holds.
REDIS_TURN_LIMIT = 16


class Clock:
    """Runs what is due, in order of time and, at the same time, of being asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have ``action`` run so many seconds from now."""
        self._asked += 1
        heapq.heappush(self._due, (self.now + delay_s, self._asked, action))

    def run(self, until_s: float) -> None:
        """Let time pass until a moment."""
        while self._due and self._due[0][0] <= until_s:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = until_s


class Room:
    """The subscribers of one channel at the worker, what waits for them, and the walk."""

    __slots__ = ("members", "next", "telling", "waiting")

    def __init__(self, members: int) -> None:
        self.members = members
        self.waiting: list[Message] = []
        self.telling: list[Message] = []
        self.next = 0


class Message:
    """A publication on its way."""

    __slots__ = ("published_s", "room")

    def __init__(self, published_s: float, room: Room | None) -> None:
        self.published_s = published_s
        #: Where it goes at the worker; None when it goes to others only.
        self.room = room


class RedisServer:
    """One thread that takes what waits, in turns, and tells of it when a turn ends.

    ``turn_s`` is the cost of a turn, ``each_s`` that of a request, ``limit`` how many it
    takes a turn. With a limit of 1 it is the M/D/1 queue of the textbooks, when what arrives
    is a Poisson stream.
    """

    def __init__(
        self,
        clock: Clock,
        done: Callable[[Message], None],
        *,
        turn_s: float,
        each_s: float,
        limit: int = REDIS_TURN_LIMIT,
    ) -> None:
        self._clock = clock
        self._done = done
        self._turn_s = turn_s
        self._each_s = each_s
        self._limit = limit
        self._waiting: deque[Message] = deque()
        self._busy = False
        self.busy_s = 0.0

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def take(self, message: Message) -> None:
        """Take a request."""
        self._waiting.append(message)
        if not self._busy:
            self._busy = True
            self._turn()

    def _turn(self) -> None:
        count = min(self._limit, len(self._waiting))
        taken = [self._waiting.popleft() for _ in range(count)]
        cost_s = self._turn_s + count * self._each_s
        self.busy_s += cost_s
        self._clock.after(cost_s, lambda: self._end(taken))

    def _end(self, taken: list[Message]) -> None:
        for message in taken:
            self._done(message)
        if self._waiting:
            self._turn()
        else:
            self._busy = False


class Worker:
    """A worker of the hub: what came is put into rooms, then rooms are walked, in turns.

    ``written`` is called with the seconds from publishing to writing and how many deliveries
    that stands for; ``finished`` with each message that every member has.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        turn_s: float,
        ingest_s: float,
        write_s: float,
        more_s: float,
        written: Callable[[Message, float, float], None],
        finished: Callable[[Message], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._turn_s = turn_s
        self._ingest_s = ingest_s
        self._write_s = write_s
        self._more_s = more_s
        self._written = written
        self._finished = finished
        self._inbox: list[Message] = []
        self._rooms: deque[Room] = deque()
        self._busy = False
        self.busy_s = 0.0
        self.walks = 0
        self.publications = 0

    def __len__(self) -> int:
        """Publications that are not on their way to anybody yet."""
        return len(self._inbox) + sum(len(room.waiting) for room in self._rooms)

    def take(self, message: Message) -> None:
        """Take a message from Redis."""
        self._inbox.append(message)
        if not self._busy:
            self._busy = True
            self._turn()

    def _turn(self) -> None:
        spent_s, finished = 0.0, []
        if self._inbox:
            spent_s = self._turn_s + len(self._inbox) * self._ingest_s
            self.publications += len(self._inbox)
            for message in self._inbox:
                assert message.room is not None
                if not message.room.waiting and not message.room.telling:
                    self._rooms.append(message.room)
                message.room.waiting.append(message)
            self._inbox = []
        ends_s = spent_s + TURN_S
        while self._rooms and spent_s < ends_s:
            room = self._rooms.popleft()
            spent_s += self._walk(room, self._clock.now + spent_s)
            if room.next >= room.members:
                finished += room.telling
                room.telling, room.next = [], 0
            if room.telling or room.waiting:
                self._rooms.append(room)
        self.busy_s += spent_s
        self._clock.after(spent_s, lambda: self._end(finished))

    def _walk(self, room: Room, from_s: float) -> float:
        """Serve a slice of a room; return the seconds that takes."""
        if not room.telling:
            room.telling, room.waiting = room.waiting, []
            self.walks += 1
        count = min(SLICE, room.members - room.next)
        room.next += count
        each_s = self._write_s + (len(room.telling) - 1) * self._more_s
        points = min(_RECORDED, count)
        for point in range(points):
            # The middle of the part of the slice that this point stands for.
            share = (point + 0.5) / points if points < count else (point + 1) / points
            at_s = from_s + each_s * count * share
            for message in room.telling:
                self._written(message, at_s - message.published_s, count / points)
        return each_s * count

    def _end(self, finished: list[Message]) -> None:
        for message in finished:
            self._finished(message)
        if self._inbox or self._rooms:
            self._turn()
        else:
            self._busy = False
