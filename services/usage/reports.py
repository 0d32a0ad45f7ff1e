"""Reports: what was used, from Redis where it has the month, else from the database.

A month is read from one of them as a whole, so that nothing is there twice. An account in Redis
has everything that the database has, and what still waits for it; where there is none (the month
is long over, or the account was lost) the database is asked, which is seconds behind.
"""

from __future__ import annotations

import asyncio
import re
from datetime import date, timedelta, tzinfo

import msgspec
from sqlalchemy import desc, func, select

from channels.errors import BadRequest
from channels.scope import Scope
from services.context import Context
from services.database.tables import USAGE_RECORDS
from services.usage.report import (
    DayUsage,
    MonthUsage,
    Source,
    TopUser,
    Usage,
    day_usage,
    fields_of,
    total,
)
from services.usage.stored_account import StoredAccount
from services.usage.sums import column_of, month_days, read_account

__all__ = ["Reports", "check_month"]

#: Nothing that is counted is of another millennium, and its months have a first and a last day.
_is_month = re.compile(r"\A2\d{3}-(0[1-9]|1[0-2])\Z").match
_is_day = re.compile(r"\A2\d{3}-\d{2}-\d{2}\Z").match
_MOST_DAYS = 400
_MOST_USERS = 1_000
_R = USAGE_RECORDS.c


class Reports:
    """Reads accounts and the database; changes nothing."""

    __slots__ = ("_context", "_zone")

    def __init__(self, context: Context, zone: tzinfo) -> None:
        self._context = context
        self._zone = zone

    async def day(self, scope: Scope, day: str) -> DayUsage:
        """Return what was used on a day; nothing is a report too."""
        text = _date(day, "day").isoformat()
        days, source, complete = await self._month(scope, text[:7])
        for found in days:
            if found.date == text:
                return found
        return DayUsage(date=text, source=source, complete=complete)

    async def month(self, scope: Scope, month: str) -> MonthUsage:
        """Return what was used in a month."""
        days, source, complete = await self._month(scope, check_month(month))
        return msgspec.convert(
            {
                **fields_of(total(days)),
                "month": month,
                "days": days,
                "source": source,
                "complete": complete,
            },
            MonthUsage,
        )

    async def range(self, scope: Scope, since: date | str, until: date | str) -> Usage:
        """Return what was used from day to day, both included."""
        first, last = _date(since, "since"), _date(until, "until")
        if not timedelta(0) <= last - first < timedelta(days=_MOST_DAYS):
            raise BadRequest(
                f"expected 1 to {_MOST_DAYS} days, since before until; got {first} to {last}"
            )
        months, month = [], first.replace(day=1)
        while month <= last:
            months.append(month.isoformat()[:7])
            month = month_days(months[-1])[1]
        read = await asyncio.gather(*(self._month(scope, month) for month in months))
        low, high = first.isoformat(), last.isoformat()
        days = [day for found, _, _ in read for day in found if low <= day.date <= high]
        return msgspec.convert(
            {
                **fields_of(total(days)),
                "since": low,
                "until": high,
                "days": days,
                "complete": all(complete for _, _, complete in read),
            },
            Usage,
        )

    async def top_users(
        self, scope: Scope, since: date | str, until: date | str, limit: int
    ) -> list[TopUser]:
        """Return the users of a workspace or organisation with the highest cost."""
        first, last = _date(since, "since"), _date(until, "until")
        if not 1 <= limit <= _MOST_USERS:
            raise BadRequest(f"limit must be 1 to {_MOST_USERS}; got {limit}")
        if self._context.database is None:
            return []
        cost = func.sum(_R.cost_micro_usd)
        query = (
            select(
                _R.user_id,
                cost,
                func.sum(_R.tokens_input),
                func.sum(_R.tokens_output),
                func.sum(_R.requests),
            )
            .where(column_of(scope) == scope.id, _R.date >= first, _R.date <= last)
            .group_by(_R.user_id)
            .order_by(desc(cost), _R.user_id)
            .limit(limit)
        )
        async with self._context.database.begin(write=False) as connection:
            rows = (await connection.execute(query)).all()
        return [
            msgspec.convert({"user": user, **fields_of((int(c), int(i), int(o), int(n)))}, TopUser)
            for user, c, i, o, n in rows
        ]

    async def _month(self, scope: Scope, month: str) -> tuple[list[DayUsage], Source, bool]:
        """Return the days of a month on which something was used, in order."""
        key = self._context.keys.account(scope, month)
        account = StoredAccount(await self._context.store.execute("HGETALL", key))
        if account.generation or self._context.database is None:
            days = [
                day_usage(f"{month}-{day}", sums, "redis", complete=account.complete)
                for day, sums in sorted(account.days.items())
                if any(sums.total)
            ]
            return days, "redis", account.complete or not account.generation
        stored = await read_account(self._context.database, scope, month)
        days = [
            day_usage(day, sums, "database", complete=True)
            for day, sums in sorted(stored.days.items())
        ]
        return days, "database", True


def _date(day: date | str, what: str) -> date:
    try:
        if isinstance(day, date):
            day = day.isoformat()
        if _is_day(day):
            return date.fromisoformat(day)
    except (TypeError, ValueError):
        pass
    raise BadRequest(f"{what} must be a day, YYYY-MM-DD, since 2000; got {day!r:.40}")


def check_month(month: str) -> str:
    """Return ``month`` if it is one, ``YYYY-MM``.

    Raises:
        BadRequest: it is none.
    """
    if not isinstance(month, str) or not _is_month(month):
        raise BadRequest(f"month must be YYYY-MM, since 2000; got {month!r:.40}")
    return month
