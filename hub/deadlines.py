"""The deadlines of one connection: connect in time, answer pings, end with the token.

No clock and no timer: times are monotonic seconds that the caller brings.
"""

from __future__ import annotations

import random
from enum import Enum

__all__ = ["Deadlines", "Due"]


class Due(Enum):
    """What is to be done now."""

    EXPIRED = "the token ended"
    SILENT = "the client did not connect, or answer a ping, in time"
    PING = "the client is to be pinged"


class Deadlines:
    """When to ping, when to give up, when the token ends."""

    __slots__ = ("_answer_by", "_ping_at", "_ping_interval_s", "_pong_timeout_s", "expires")

    def __init__(self, *, connect_by: float, ping_interval_s: float, pong_timeout_s: float) -> None:
        self._ping_interval_s = ping_interval_s
        self._pong_timeout_s = pong_timeout_s
        #: When the token ends; None while there is none, or it has no end.
        self.expires: float | None = None
        self._ping_at: float | None = None
        #: When the client must have done what it owes: its connect command, then each pong.
        self._answer_by: float | None = connect_by

    @property
    def next(self) -> float | None:
        """When to ask what is due."""
        times = (self.expires, self._answer_by, self._ping_at)
        return min((time for time in times if time is not None), default=None)

    def begin_pinging(self, now: float) -> None:
        """The client is connected: ping it from now on."""
        # The first ping is spread, so that the clients of one restart do not ping together.
        self._ping_at = now + self._ping_interval_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._answer_by = None

    def pong(self, now: float) -> bool:
        """Take the answer to a ping; return False when there was none to answer."""
        if self._answer_by is None:
            return False
        # From ping to ping, however long the pong took: clients drop a server that is silent
        # for its interval and a few seconds.
        pinged_at = self._answer_by - self._pong_timeout_s
        self._ping_at = max(now, pinged_at + self._ping_interval_s)
        self._answer_by = None
        return True

    def due(self, now: float, *, busy: bool) -> Due | None:
        """Return what is due at ``now``; a ping that is due counts as sent.

        ``busy`` says that the hub is at work for the client, and so has not read its pong.
        """
        if self.expires is not None and now >= self.expires:
            return Due.EXPIRED
        if self._answer_by is not None and now >= self._answer_by:
            if not busy:
                return Due.SILENT
            self._answer_by = now + self._pong_timeout_s
        elif self._ping_at is not None and now >= self._ping_at:
            self._ping_at = None
            self._answer_by = now + self._pong_timeout_s
            return Due.PING
        return None

    def stop(self) -> None:
        """Nothing is due any more."""
        self.expires = self._ping_at = self._answer_by = None
