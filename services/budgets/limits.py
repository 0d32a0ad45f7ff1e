"""The limits of budgets: in the database, and in the accounts that scripts go by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from sqlalchemy import Table, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from channels.errors import NotAvailable, OutcomeUnknown
from channels.ids import new_id
from channels.scope import Scope
from services.budgets.settings import BudgetRule
from services.context import Context
from services.database.tables import ORGANISATIONS, USERS, WORKSPACES
from services.store.port import Argument
from services.store.script import load_script
from services.usage.account import Period

__all__ = ["Limits"]

_TABLES: Final[dict[str, Table]] = {"user": USERS, "workspace": WORKSPACES, "org": ORGANISATIONS}
_MONTHLY, _DAILY = "budget_limit_monthly_micro_usd", "token_limit_daily"
#: A change of a limit is over within this: database deadlines are shorter.
_CHANGE_MS: Final = 120_000
_ATTEMPTS = 8


class Limits:
    """Changes limits and reads them.

    A change marks the account first, then commits to the database, then reads what the database
    has and writes it to the account. While the mark is there nothing is granted by what the
    account says: whoever comes reads the limits from the database. So a crash at any point heals
    by itself, and so do two changes at once: whoever marked last reads last.
    """

    __slots__ = ("_context", "_rule", "_script", "_thresholds")

    def __init__(
        self, context: Context, rule: Callable[[Scope], BudgetRule], thresholds: Sequence[int]
    ) -> None:
        self._context = context
        self._rule = rule
        self._thresholds = " ".join(map(str, sorted(thresholds, reverse=True)))
        self._script = load_script("budget_limit")

    async def change(self, scope: Scope, period: Period, changes: dict[str, int | None]) -> None:
        """Write limits to the database and have the account follow.

        Raises:
            NotAvailable: there is no database.
            DatabaseUnavailable, StoreError: they may have been changed.
        """
        database = self._context.database
        if database is None:
            raise NotAvailable(
                "limits are kept in the database, and there is none: set them in the rules"
            )
        await self._mark(scope, period, self._new_mark())
        table = _TABLES[scope.kind]
        insert: Any = sqlite_insert if database.dialect == "sqlite" else postgresql_insert
        statement = insert(table).values(id=scope.id, created_at=datetime.now(UTC), **changes)
        statement = statement.on_conflict_do_update(index_elements=[table.c.id], set_=changes)
        async with database.begin() as connection:
            await connection.execute(statement)
        for _ in range(_ATTEMPTS):
            mark = self._new_mark()
            if not await self._mark(scope, period, mark):
                return  # the account begins with what the database has
            if await self._write(scope, period, mark, "clear") != -1:
                return

    async def refresh(self, scope: Scope, period: Period) -> str:
        """Have the account say what the database does; return the mark that is left on it.

        A mark that is old was left by somebody who died; it goes. A young one stays: its owner
        may be about to commit.

        Raises:
            DatabaseUnavailable, StoreError: it may not have been done.
        """
        key = self._context.keys.account(scope, period.month)
        mark = ""
        for _ in range(_ATTEMPTS):
            found = await self._context.store.execute("HGET", key, "x")
            if not isinstance(found, bytes):
                return ""
            mark = found.decode()
            old = int(mark.partition(":")[2] or 0) < self._context.clock.now_ms()
            if await self._write(scope, period, mark, "clear" if old else "keep") != -1:
                return "" if old else mark
        return mark

    async def read(self, scope: Scope) -> tuple[int | None, int | None]:
        """Return the limits of month and day that the database has; None for the rule's."""
        database = self._context.database
        if database is None:
            return None, None
        table = _TABLES[scope.kind]
        query = select(table.c[_MONTHLY], table.c[_DAILY]).where(table.c.id == scope.id)
        async with database.begin(write=False) as connection:
            row = (await connection.execute(query)).one_or_none()
        return (None, None) if row is None else (row[0], row[1])

    def _new_mark(self) -> str:
        return f"{new_id()}:{self._context.clock.now_ms() + _CHANGE_MS}"

    async def _mark(self, scope: Scope, period: Period, mark: str) -> bool:
        return await self._run(scope, period, mark, "", (None, None)) == 1

    async def _write(self, scope: Scope, period: Period, mark: str, how: str) -> int:
        return await self._run(scope, period, mark, how, await self.read(scope))

    async def _run(
        self,
        scope: Scope,
        period: Period,
        mark: str,
        how: str,
        limits: tuple[int | None, int | None],
    ) -> int:
        rule = self._rule(scope)
        args: list[Argument] = [mark, how]
        args += ["" if limit is None else limit for limit in limits]
        args += [period.day_of_month, self._thresholds]
        args += [
            "" if limit is None else limit for limit in (rule.monthly_micro_usd, rule.daily_tokens)
        ]
        key = self._context.keys.account(scope, period.month)

        async def attempt() -> int:
            return cast(int, await self._context.store.run(self._script, [key], args))

        try:
            return await attempt()
        except OutcomeUnknown:
            return await attempt()
