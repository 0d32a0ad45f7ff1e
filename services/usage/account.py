"""An account: what one scope used in one month, its limits, and what is reserved.

It is one hash (``Keys.account``), so that a script reads it with one HMGET and writes it with
one HSET, whatever it counts. ``DD`` is the day of the month, two digits, in the billing time
zone; amounts are micro-USD (``c``), tokens in and out (``i``, ``o``) and requests (``n``).

    seeded          1 once the sums began from the database (or there is none)
    c i o n         sums of the month
    DD:c DD:i ...   sums of a day
    DD:a:AGENT:c    of a day and an agent (...:i, ...:o, ...:n), in users' accounts only, as are
    DD:m:MODEL:c    of a day and a model
    DD:w:WORKSPACE:c    of a day and a workspace
    L               limit of the month, micro-USD; absent for none
    D               limit of each day, tokens in and out together; absent for none
    r               reserved of the month, micro-USD
    DD:r            reserved of the day, tokens
    T               highest percentage of L that was told this month
    DD:T            highest percentage of D that was told this day

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
