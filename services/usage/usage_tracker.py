"""Usage: what agents used, counted once, to the token and the micro-dollar.

    usage = services.usage
    await usage.record_usage("ann", "w1", 1200, 340, Decimal("0.0123"), "writer", event_id="e1")
    (await usage.get_daily_usage("ann")).cost_usd

One script counts it for the user, the workspace and the organisation, keeps it for the
database, and tells ``usage:{user}``: all or nothing, in one round trip. The database gets it
within seconds (``writer.py``); while it is away everything is counted all the same, and waits.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import NamedTuple, cast

from channels.errors import (
    BadRequest,
    Conflict,
    DatabaseUnavailable,
    LimitExceeded,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
)
from channels.event import encode_event
from channels.events import (
    UsageCorrected,
    UsageCorrectedData,
    UsageRecorded,
    UsageRecordedData,
)
from channels.ids import check_id
from channels.publication import encode_body
from channels.scope import Scope, ScopeKind
from services.auth_session import from_ms
from services.context import Context
from services.store.port import Argument
from services.store.script import load_script
from services.usage.account import Period, period_of
from services.usage.amounts import Usd, micro_usd
from services.usage.counting import Charge, Counting
from services.usage.entries import Entries
from services.usage.entry import UsageEntry
from services.usage.names import check_name
from services.usage.reconcile import DayDifference, Reconciler
from services.usage.report import DayUsage, MonthUsage, TopUser, Usage
from services.usage.reports import Reports, check_month
from services.usage.scopes import Organisations
from services.usage.seeding import Seeder
from services.usage.settings import UsageSettings
from services.usage.stats import UsageStats
from services.usage.writer import Writer

__all__ = ["Recorded", "UsageTracker"]

#: Runs of the script for one event: accounts that are missing, replies that are lost.
_RUNS = 32
_DOUBTS = 2
_RECORD = load_script("usage_record")


class Recorded(NamedTuple):
    """What was counted. ``duplicate``: it had been, so nothing was added now.

    ``day`` is the day of the billing time zone it belongs to (of a duplicate: this call's).
    """

    event_id: str
    day: str
    cost_micro_usd: int
    duplicate: bool


class UsageTracker:
    """Counts and reports what users, workspaces and organisations use."""

    __slots__ = (
        "_context",
        "_entries",
        "_zone",
        "counting",
        "organisations",
        "reconciler",
        "reports",
        "seeder",
        "settings",
        "stats",
        "writer",
    )

    def __init__(self, context: Context, settings: UsageSettings | None = None) -> None:
        """Make one, and have the sweeper of ``context`` write to the database. No I/O."""
        self._context = context
        self.settings = settings or UsageSettings()
        self._zone = self.settings.zone
        self.stats = UsageStats()
        self.organisations = Organisations(
            context.database, patience_s=self.settings.database_patience_s
        )
        self._entries = Entries(context, self.organisations, self._zone)
        self.seeder = Seeder(context, self.settings, self.stats)
        self.counting = Counting(context, self.settings, self.seeder)
        self.writer = Writer(context, self.organisations, self.seeder, self.stats)
        self.reconciler = Reconciler(context, self.settings, self.seeder, self.stats)
        self.reports = Reports(context, self._zone)

    # -- counting ----------------------------------------------------------------------------

    async def record_usage(
        self,
        user_id: str,
        workspace_id: str,
        tokens_input: int,
        tokens_output: int,
        cost_usd: Usd = 0,
        agent_type: str = "",
        *,
        event_id: str | None = None,
        model: str = "",
        organisation: str | None = None,
        occurred_at: datetime | None = None,
        requests: int = 1,
        cost_micro_usd: int | None = None,
    ) -> Recorded:
        """Count one use for the user, the workspace and its organisation; tell the user.

        With an ``event_id`` the call may be repeated as often as it takes: it is counted once.
        Ids are the user's own. (They are known for two days in Redis, and always in the
        database.) ``cost_micro_usd`` takes the place of ``cost_usd``, which is rounded half up
        to a micro-dollar: half of one is the most that a call is wrong by.

        It counts on the day of the billing time zone on which it occurred, however long ago.
        The organisation is looked up unless given; "" is none. A database that is away
        changes nothing: it is counted, and written when it is back.

        Raises:
            BadRequest: an id, a name, an amount or the time is none.
            Conflict: the event id was used for something else.
            LimitExceeded: a sum would be beyond 2^53 - 1; nothing was counted.
            StoreUnavailable, StoreRefused: nothing was counted.
            OutcomeUnknown: it may have been counted; repeat it with the id in the message.
        """
        if cost_micro_usd is None:
            cost_micro_usd = micro_usd(cost_usd)
        entry = await self._entries.make(
            "usage",
            user_id,
            workspace_id,
            (cost_micro_usd, tokens_input, tokens_output, requests),
            agent=agent_type,
            model=model,
            event_id=event_id,
            organisation=organisation,
            occurred_at=occurred_at,
        )
        event = UsageRecorded(
            id=entry.id,
            subject=entry.user,
            time=from_ms(entry.occurred_ms),
            data=UsageRecordedData(
                user=entry.user,
                workspace=entry.workspace,
                tokens_input=entry.tokens_input,
                tokens_output=entry.tokens_output,
                cost_micro_usd=entry.cost_micro_usd,
                agent=entry.agent,
                model=entry.model,
            ),
        )
        return await self._count(entry, encode_body(encode_event(event)))

    async def correct(
        self,
        user_id: str,
        workspace_id: str,
        *,
        correction_id: str,
        reason: str,
        tokens_input: int = 0,
        tokens_output: int = 0,
        cost_usd: Usd = 0,
        cost_micro_usd: int | None = None,
        requests: int = 0,
        agent_type: str = "",
        model: str = "",
        organisation: str | None = None,
        occurred_at: datetime | None = None,
    ) -> Recorded:
        """Add to what was used, or (negative amounts) take away: a refund, a price put right.

        It stands in the database as an event of kind ``correction`` and is told as
        ``usage.corrected``. Done once for each ``correction_id``. ``occurred_at`` says whose
        day it is; now by default. Raises like :meth:`record_usage`.
        """
        if cost_micro_usd is None:
            cost_micro_usd = micro_usd(cost_usd, signed=True)
        entry = await self._entries.make(
            "correction",
            user_id,
            workspace_id,
            (cost_micro_usd, tokens_input, tokens_output, requests),
            agent=agent_type,
            model=model,
            event_id=correction_id,
            organisation=organisation,
            occurred_at=occurred_at,
        )
        event = UsageCorrected(
            id=entry.id,
            subject=entry.user,
            data=UsageCorrectedData(
                scope=f"user:{entry.user}",
                day=entry.day,
                tokens_input=entry.tokens_input,
                tokens_output=entry.tokens_output,
                cost_micro_usd=entry.cost_micro_usd,
                requests=entry.requests,
                reason=check_name(reason, "reason", 200),
                workspace=entry.workspace,
                agent=entry.agent,
                model=entry.model,
            ),
        )
        return await self._count(entry, encode_body(encode_event(event)))

    async def entry(
        self,
        user_id: str,
        workspace_id: str,
        tokens_input: int,
        tokens_output: int,
        cost_micro_usd: int,
        agent_type: str = "",
        *,
        event_id: str | None = None,
        model: str = "",
        organisation: str | None = None,
        occurred_at: datetime | None = None,
        requests: int = 1,
    ) -> UsageEntry:
        """Return the checked entry of one use, for scripts that count it with something else.

        Raises:
            BadRequest: an id, a name, an amount or the time is none.
        """
        return await self._entries.make(
            "usage",
            user_id,
            workspace_id,
            (cost_micro_usd, tokens_input, tokens_output, requests),
            agent=agent_type,
            model=model,
            event_id=event_id,
            organisation=organisation,
            occurred_at=occurred_at,
        )

    async def tell_thresholds(self, charge: Charge, entry: UsageEntry, places: list[int]) -> None:
        """Have told what the accounts at ``places`` have to tell; never raises for it.

        Whoever counts in them next sees it too.
        """
        for scope in charge.scopes_at(places):
            try:
                await self._context.thresholds.reached(scope, charge.month, entry.day, entry.user)
            except (StoreError, DatabaseUnavailable):
                self.stats.untold += 1

    # -- reading -----------------------------------------------------------------------------

    async def get_daily_usage(self, user_id: str, date_str: str | None = None) -> DayUsage:
        """Return what a user used on a day (``YYYY-MM-DD``), today unless given.

        Exact up to the moment where Redis has the month; an older one is the database's, which
        is seconds behind. ``complete`` is false where a database that is away may have more.

        Raises:
            BadRequest: the user is no id, or the day is none.
            StoreError, DatabaseUnavailable: it could not be read.
        """
        return await self.get_scope_daily(self._scope("user", user_id), date_str)

    async def get_monthly_usage(self, user_id: str, month: str | None = None) -> MonthUsage:
        """Return what a user used in a month (``YYYY-MM``), this one unless given.

        With its days. Raises like :meth:`get_daily_usage`.
        """
        return await self.get_scope_monthly(self._scope("user", user_id), month)

    async def get_usage(self, user_id: str, since: date | str, until: date | str) -> Usage:
        """Return what a user used from ``since`` to ``until``, both included, day by day.

        400 days at most. Raises like :meth:`get_daily_usage`.
        """
        return await self.get_scope_usage(self._scope("user", user_id), since, until)

    async def get_workspace_usage(
        self, workspace_id: str, since: date | str, until: date | str
    ) -> Usage:
        """Return what a workspace used; like :meth:`get_usage`."""
        return await self.get_scope_usage(self._scope("workspace", workspace_id), since, until)

    async def get_organisation_usage(
        self, organisation_id: str, since: date | str, until: date | str
    ) -> Usage:
        """Return what an organisation used; like :meth:`get_usage`."""
        return await self.get_scope_usage(self._scope("org", organisation_id), since, until)

    async def get_scope_daily(self, scope: Scope, day: str | None = None) -> DayUsage:
        """Return what ``scope`` used on a day; like :meth:`get_daily_usage`."""
        return await self.reports.day(scope, day or self._today().day)

    async def get_scope_monthly(self, scope: Scope, month: str | None = None) -> MonthUsage:
        """Return what ``scope`` used in a month; like :meth:`get_monthly_usage`."""
        return await self.reports.month(scope, month or self._today().month)

    async def get_scope_usage(self, scope: Scope, since: date | str, until: date | str) -> Usage:
        """Return what ``scope`` used from day to day; like :meth:`get_usage`."""
        return await self.reports.range(scope, since, until)

    async def top_users(
        self,
        *,
        workspace: str = "",
        organisation: str = "",
        since: date | str,
        until: date | str,
        limit: int = 10,
    ) -> list[TopUser]:
        """Return the users of a workspace or organisation with the highest cost, first.

        From the database alone, which is seconds behind; without one there is nobody.

        Raises:
            BadRequest: not exactly one of workspace and organisation, or they or days are none.
            DatabaseUnavailable: it could not be read.
        """
        if bool(workspace) == bool(organisation):
            raise BadRequest("expected a workspace or an organisation, one of them")
        kind: ScopeKind = "workspace" if workspace else "org"
        scope = self._scope(kind, workspace or organisation)
        return await self.reports.top_users(scope, since, until, limit)

    # -- looking after it --------------------------------------------------------------------

    async def reconcile(self, scope: Scope, month: str | None = None) -> list[DayDifference]:
        """Compare an account in Redis with the database, and correct it by the differences.

        See :class:`~services.usage.reconcile.Reconciler`.
        """
        month = self._today().month if month is None else check_month(month)
        return await self.reconciler.reconcile(scope, month)

    async def drain(self, user_id: str) -> int:
        """Write what waits of a user to the database now; return how many entries it was.

        Raises:
            StoreError, DatabaseUnavailable: some of it may still wait.
        """
        return await self.writer.drain(check_id(user_id, "user"))

    # -- inside ------------------------------------------------------------------------------

    async def _count(self, entry: UsageEntry, body: bytes) -> Recorded:
        doubts: list[OutcomeUnknown] = []
        for _ in range(_RUNS):
            try:
                charge = await self.counting.charge(entry)
                outcome = await self._context.changes.run(
                    _RECORD, charge.channel, charge.keys, [body, *charge.terms], event=entry.id
                )
            except OutcomeUnknown as error:
                # Sent again with the same id, it is counted once.
                doubts.append(error)
                if len(doubts) > _DOUBTS:
                    raise _doubt(error, entry) from error
                continue
            except StoreError as error:
                if doubts:
                    raise _doubt(doubts[0], entry) from error
                raise
            if outcome.code == 3:
                await self.counting.seed(charge, cast("list[int]", outcome.values[0]))
                continue
            return await self._counted(entry, charge, outcome.code, outcome.values[0])
        raise StoreUnavailable("the accounts are lost as fast as they are made; try again later")

    async def _counted(
        self, entry: UsageEntry, charge: Charge, code: int, value: object
    ) -> Recorded:
        if code == 4:
            names = ", ".join(map(str, charge.scopes_at(cast("list[int]", value))))
            raise LimitExceeded(f"the sums of {names} would be larger than 2^53 - 1")
        if code == 2:
            terms = b" ".join(_bytes(term) for term in charge.terms[2:10])
            if value != terms:
                raise Conflict(f"the event id {entry.id!r} was used for something else")
            self.stats.duplicates += 1
        else:
            self.stats.recorded += 1
            places = cast("list[int]", value)
            if places:
                await self.tell_thresholds(charge, entry, places)
        return Recorded(entry.id, entry.day, entry.cost_micro_usd, code == 2)

    def _today(self) -> Period:
        return period_of(self._context.clock.now_ms(), self._zone)

    @staticmethod
    def _scope(kind: ScopeKind, id: str) -> Scope:
        return Scope(kind, check_id(id, kind))


def _doubt(error: OutcomeUnknown, entry: UsageEntry) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"it may have been counted; repeat it with event_id={entry.id!r}: {error}"
    )


def _bytes(term: Argument) -> bytes:
    return term if isinstance(term, bytes) else str(term).encode()
