"""An account: what one scope used in one month, its limits, and what is reserved.

It is one hash (``Keys.account``), so that a script reads it with one HMGET and writes it with
one HSET, whatever it counts. ``DD`` is the day of the month, two digits, in the billing time
zone; amounts are micro-USD (``c``), tokens in and out (``i``, ``o``) and requests (``n``).

    seeded          ``GENERATION BATCH``: a random word of this hash, and the last batch of the
                    database that its sums began with; -1 while the database was not read yet
                    (it was away: the sums are too low, and limits unknown), 0 without one
    c               cost of the month
    DD:c DD:i ...   sums of a day (those of the month are the sums of its days)
    DD:a:AGENT      ``c i o n`` of a day and an agent, in users' accounts only, as are
    DD:m:MODEL      of a day and a model
    DD:w:WORKSPACE  of a day and a workspace
    DD:a DD:m DD:w  how many names those are; what comes beyond 64 is counted as ``other``
    DD:p            entries of a day that were counted here and are not settled yet
    DD:s            the last batch that is in a day's sums for sure (reconciliation)
    k f             before it is seeded: who seeds it, and the last batch settled meanwhile
    L               limit of the month, micro-USD; absent for none
    D               limit of each day, tokens in and out together; absent for none
    r               reserved of the month, micro-USD
    DD:r            reserved of the day, tokens
    T               highest percentage of L that was told this month
    DD:T            highest percentage of D that was told this day

A hash without ``seeded`` is as good as none: it is seeded (``services/usage/seeding.py``), and
until then nothing is counted in it.

Usage counts (``services/usage``); limits, reservations and what is told are the business of
budgets (``services/budgets``). What is spent is what was used: there is no second sum.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

__all__ = ["Period", "period_of"]


class Period(NamedTuple):
    """When something counts: ``month`` is ``YYYY-MM``, ``day`` is ``YYYY-MM-DD``."""

    month: str
    day: str

    @property
    def day_of_month(self) -> str:
        """``DD``, as the fields of an account have it."""
        return self.day[-2:]


def period_of(at_ms: int, zone: tzinfo) -> Period:
    """Return the month and day in the billing time zone of a time in ms since 1970."""
    day = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).date().isoformat()
    return Period(day[:7], day)
