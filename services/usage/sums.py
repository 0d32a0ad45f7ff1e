"""What the database has of an account: the sums of a month, and up to which batch."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Column, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.scope import Scope, ScopeKind
from services.database import Database
from services.database.tables import (
    ORGANISATIONS,
    USAGE_BATCHES,
    USAGE_RECORDS,
    USERS,
    WORKSPACES,
)

__all__ = ["Amounts", "DaySums", "Stored", "add", "column_of", "month_days", "read_account"]

#: Cost (micro-USD), tokens in, tokens out, requests.
Amounts: TypeAlias = tuple[int, int, int, int]

_R = USAGE_RECORDS.c
_SUMS = (
    func.sum(_R.cost_micro_usd),
    func.sum(_R.tokens_input),
    func.sum(_R.tokens_output),
    func.sum(_R.requests),
)
_OWNERS: dict[ScopeKind, Table] = {
    "user": USERS,
    "workspace": WORKSPACES,
    "org": ORGANISATIONS,
}
_COLUMNS: dict[ScopeKind, Column[str]] = {
    "user": _R.user_id,
    "workspace": _R.workspace_id,
    "org": _R.organisation_id,
}


class DaySums:
    """The sums of one day, and of the agents, models and workspaces in it."""

    __slots__ = ("names", "total")

    def __init__(self) -> None:
        self.total: Amounts = (0, 0, 0, 0)
        #: By ``a``, ``m`` and ``w``, and by name.
        self.names: dict[str, dict[str, Amounts]] = {"a": {}, "m": {}, "w": {}}

    def add(self, amounts: Amounts, agent: str = "", model: str = "", workspace: str = "") -> None:
        """Add what was used by one agent, with one model, in one workspace."""
        self.total = add(self.total, amounts)
        for sort, name in (("a", agent), ("m", model), ("w", workspace)):
            if name:
                names = self.names[sort]
                names[name] = add(names.get(name, (0, 0, 0, 0)), amounts)

    def bounded(self, sort: str, most: int) -> dict[str, Amounts]:
        """Return the ``most`` names with the highest cost; the others together are "other"."""
        names = self.names[sort]
        if len(names) <= most:
            return names
        kept: dict[str, Amounts] = {}
        for name in sorted(names, key=lambda name: names[name], reverse=True):
            slot = name if len(kept) < most else "other"
            kept[slot] = add(kept.get(slot, (0, 0, 0, 0)), names[name])
        return kept


class Stored(NamedTuple):
    """What the database has: sums by day (``YYYY-MM-DD``), limits, and the last batch in it."""

    batch: int
    days: dict[str, DaySums]
    monthly_limit: int | None
    daily_limit: int | None


def add(one: Amounts, other: Amounts) -> Amounts:
    """Return the sum of both."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])


def month_days(month: str) -> tuple[date, date]:
    """Return the first day of a month (``YYYY-MM``) and of the next one."""
    first = date.fromisoformat(f"{month}-01")
    return first, (first.replace(day=28) + timedelta(days=4)).replace(day=1)


def column_of(scope: Scope) -> Column[str]:
    """Return the column of USAGE_RECORDS that says that a row is the scope's."""
    return _COLUMNS[scope.kind]


async def read_account(database: Database, scope: Scope, month: str) -> Stored:
    """Read what the database has of an account, as of one moment.

    Raises:
        DatabaseUnavailable: it could not be read.
    """
    async with database.begin(write=False) as connection:
        if database.dialect == "postgresql":
            # One snapshot for everything: batches commit in order, so it holds all of them up
            # to the last that it sees, and nothing of a later one.
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        batch = (await connection.execute(select(USAGE_BATCHES.c.number))).scalar() or 0
        days = await _read_days(connection, scope, month)
        owner = _OWNERS[scope.kind].c
        limits = select(owner.budget_limit_monthly_micro_usd, owner.token_limit_daily)
        row = (await connection.execute(limits.where(owner.id == scope.id))).first()
    monthly, daily = (None, None) if row is None else (row[0], row[1])
    return Stored(batch, days, monthly, daily)


async def _read_days(connection: AsyncConnection, scope: Scope, month: str) -> dict[str, DaySums]:
    first, end = month_days(month)
    names = (_R.agent, _R.model, _R.workspace_id) if scope.kind == "user" else ()
    query = (
        select(_R.date, *_SUMS, *names)
        .where(_COLUMNS[scope.kind] == scope.id, _R.date >= first, _R.date < end)
        .group_by(_R.date, *names)
    )
    days: dict[str, DaySums] = defaultdict(DaySums)
    for row in await connection.execute(query):
        day, cost, tokens_in, tokens_out, requests, *found = tuple[Any, ...](row)
        amounts = (int(cost), int(tokens_in), int(tokens_out), int(requests))
        days[day.isoformat()].add(amounts, *found)
    return dict(days)
