"""Reconciliation: an account in Redis is compared with the database, and put right.

Day by day, by a difference that is told as ``usage.corrected``, never by overwriting. A day on
which something waits for the database cannot be compared, for it is in both, or in one, or on
its way: it is left alone (``busy``), and its time comes. Comparing again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from channels.catalogue import ORGANISATION, USAGE, WORKSPACE, Channel
from channels.event import encode_event
from channels.events import UsageCorrected, UsageCorrectedData
from channels.publication import encode_body
from channels.scope import Scope
from services.context import Context
from services.store.port import Argument
from services.store.script import load_script
from services.usage.seeding import Seeder
from services.usage.settings import UsageSettings
from services.usage.stats import UsageStats
from services.usage.stored_account import StoredAccount
from services.usage.sums import Amounts, DaySums, read_account

__all__ = ["DayDifference", "Reconciler"]

#: Looks at an account that changes while it is compared.
_LOOKS = 5
_NOTHING = DaySums()


class DayDifference(NamedTuple):
    """A day on which Redis had other sums than the database.

    Both are cost (micro-USD), tokens in, tokens out, requests. ``corrected``: Redis has those
    of the database by now; otherwise something was pending, and it was left alone.
    """

    day: str
    counted: Amounts
    stored: Amounts
    corrected: bool


class Reconciler:
    """Compares and corrects."""

    __slots__ = ("_context", "_seeder", "_settings", "_stats")

    def __init__(
        self, context: Context, settings: UsageSettings, seeder: Seeder, stats: UsageStats
    ) -> None:
        self._context = context
        self._settings = settings
        self._seeder = seeder
        self._stats = stats

    async def reconcile(self, scope: Scope, month: str) -> list[DayDifference]:
        """Compare the account of ``month`` with the database; return the days that differed.

        One that is not in Redis is seeded. Without a database there is nothing to compare.

        Raises:
            StoreError, DatabaseUnavailable: it may not have been done; do it again.
        """
        database = self._context.database
        differences: dict[str, DayDifference] = {}
        if database is None:
            return []
        for _ in range(_LOOKS):
            account = await self._read(scope, month)
            if not account.complete:
                await self._seeder.seed(scope, month)
                account = await self._read(scope, month)
            stored = await read_account(database, scope, month)
            if not account.complete:
                continue
            again = False
            for day in sorted({*stored.days, *(f"{month}-{day}" for day in account.days)}):
                counted = account.days.get(day[-2:], _NOTHING)
                wanted = stored.days.get(day, _NOTHING)
                if counted.total == wanted.total:
                    continue
                busy = account.pending.get(day[-2:], 0) > 0
                done = not busy and await self._correct(
                    scope, day, account, counted, wanted, stored.batch
                )
                if done or day not in differences:
                    differences[day] = DayDifference(day, counted.total, wanted.total, done)
                again = again or not (busy or done)
            if not again:
                break
        return list(differences.values())

    async def _read(self, scope: Scope, month: str) -> StoredAccount:
        key = self._context.keys.account(scope, month)
        return StoredAccount(await self._context.store.execute("HGETALL", key))

    async def _correct(
        self,
        scope: Scope,
        day: str,
        account: StoredAccount,
        counted: DaySums,
        wanted: DaySums,
        batch: int,
    ) -> bool:
        """Add the difference of a day; False if the account is another one by now."""
        cost, tokens_in, tokens_out, requests = (
            new - old for new, old in zip(wanted.total, counted.total, strict=True)
        )
        event = UsageCorrected(
            subject=scope.id,
            data=UsageCorrectedData(
                scope=str(scope),
                day=day,
                tokens_input=tokens_in,
                tokens_output=tokens_out,
                cost_micro_usd=cost,
                requests=requests,
                reason="reconciled",
            ),
        )
        gone, fields = self._names(scope, day[-2:], account.fields, wanted)
        outcome = await self._context.changes.run(
            load_script("usage_correct"),
            self._channel(scope),
            [self._context.keys.account(scope, day[:7])],
            [
                encode_body(encode_event(event)),
                *(account.generation, day[-2:], *counted.total, *wanted.total, batch),
                *(len(gone), *gone, *fields),
            ],
            event=event.id,
        )
        self._stats.corrected += outcome.code
        return outcome.code == 1

    def _names(
        self, scope: Scope, day: str, now: Mapping[str, str], wanted: DaySums
    ) -> tuple[list[str], list[Argument]]:
        """Return which fields of the breakdown go, and what comes."""
        if scope.kind != "user":
            return [], []
        fields: list[Argument] = []
        for sort in ("a", "m", "w"):
            kept = wanted.bounded(sort, self._settings.names)
            fields += (f"{day}:{sort}", len(kept))
            for name, amounts in kept.items():
                fields += (f"{day}:{sort}:{name}", " ".join(map(str, amounts)))
        prefixes = tuple(f"{day}:{sort}:" for sort in ("a", "m", "w"))
        gone = [field for field in now if field.startswith(prefixes) and field not in fields[::2]]
        return gone, fields

    def _channel(self, scope: Scope) -> Channel:
        match scope.kind:
            case "user":
                name = USAGE.name(user=scope.id)
            case "workspace":
                name = WORKSPACE.name(workspace=scope.id)
            case "org":
                name = ORGANISATION.name(organisation=scope.id)
        return self._context.catalogue.find(name)
