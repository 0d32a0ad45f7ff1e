"""Entries of what was used, checked: ids, names, amounts, the time and the organisation."""

from __future__ import annotations

from datetime import datetime, tzinfo

from channels.errors import BadRequest, DatabaseUnavailable
from channels.ids import check_id, new_id
from services.context import Context
from services.usage.account import period_of
from services.usage.amounts import check_amount
from services.usage.entry import EntryKind, UsageEntry
from services.usage.names import check_name
from services.usage.scopes import Organisations

__all__ = ["AHEAD_MS", "Entries"]

#: How far in the future something may have been used: clocks differ.
AHEAD_MS = 5 * 60_000
#: Nothing that we count is older: a date before it is a mistake.
_OLDEST_MS = 946_684_800_000  # 2000-01-01
#: Quarters of an hour whose day is remembered.
_QUARTERS = 1_000


class Entries:
    """Makes entries."""

    __slots__ = ("_context", "_days", "_organisations", "_zone")

    def __init__(self, context: Context, organisations: Organisations, zone: tzinfo) -> None:
        """Make it; ``zone`` is the billing time zone."""
        self._context = context
        self._organisations = organisations
        self._zone = zone
        self._days: dict[int, str] = {}

    async def make(
        self,
        kind: EntryKind,
        user: str,
        workspace: str,
        amounts: tuple[int, int, int, int],
        *,
        agent: str,
        model: str,
        event_id: str | None,
        organisation: str | None,
        occurred_at: datetime | None,
    ) -> UsageEntry:
        """Return the entry of what was used; amounts are cost, tokens in and out, requests.

        Raises:
            BadRequest: an id, a name, an amount or the time is none.
        """
        signed = kind == "correction"
        cost, tokens_in, tokens_out, requests = amounts
        check_id(user, "user")
        check_id(workspace, "workspace")
        now_ms = self._context.clock.now_ms()
        occurred_ms = now_ms if occurred_at is None else _occurred(occurred_at, now_ms)
        id_ = new_id() if event_id is None else check_id(event_id, "event id")
        agent, model = check_name(agent, "agent"), check_name(model, "model")
        check_amount(cost, "cost_micro_usd", signed=signed)
        check_amount(tokens_in, "tokens_input", signed=signed)
        check_amount(tokens_out, "tokens_output", signed=signed)
        check_amount(requests, "requests", signed=signed)
        if organisation is None:
            organisation = self._organisations.known(workspace)
            if organisation is None:
                try:
                    organisation = await self._organisations.find(workspace)
                except DatabaseUnavailable:
                    organisation = None  # the writer finds it
        elif organisation:
            check_id(organisation, "organisation")
        return UsageEntry(
            id_,
            kind,
            user,
            workspace,
            organisation,
            agent,
            model,
            tokens_in,
            tokens_out,
            cost,
            requests,
            self._day(occurred_ms),
            occurred_ms,
            now_ms,
        )

    def _day(self, at_ms: int) -> str:
        """Return the day in the billing time zone."""
        # Time zones differ by quarters of an hour, and have since long before we count.
        quarter = at_ms // 900_000
        day = self._days.get(quarter)
        if day is None:
            if len(self._days) >= _QUARTERS:
                self._days.clear()
            day = self._days[quarter] = period_of(at_ms, self._zone).day
        return day


def _occurred(at: datetime, now_ms: int) -> int:
    """Return a time in ms; refused without a time zone, in the future, or of another century."""
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise BadRequest(f"occurred_at must be a time with a time zone; got {at!r:.60}")
    at_ms = int(at.timestamp() * 1000)
    if at_ms > now_ms + AHEAD_MS:
        raise BadRequest(f"occurred_at must not be in the future; got {at.isoformat()}")
    if at_ms < _OLDEST_MS:
        raise BadRequest(f"occurred_at must be after 1999; got {at.isoformat()}")
    return at_ms
