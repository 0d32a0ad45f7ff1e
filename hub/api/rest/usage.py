"""``/v1/usage``: what agents used, counted once, and reports of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from channels.errors import BadRequest
from hub.api.rest.operation import Answer, Call, Operation
from hub.api.rest.scopes import BILLING, check_payer, readable, scope_of
from services.usage.report import DayUsage, MonthUsage, TopUser, Usage

__all__ = [
    "USAGE",
    "Correction",
    "RangeQuery",
    "TopQuery",
    "Use",
    "UseRecorded",
    "correct_usage",
    "get_daily_usage",
    "get_monthly_usage",
    "get_usage",
    "get_usage_users",
    "reconcile_usage",
    "record_usage",
]

_WRITE = "usage:write"
_DAYS = 30

_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_Change = Annotated[int, Meta(ge=-(2**53) + 1, le=2**53 - 1)]


class Use(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One use to count: a call of a model or tool.

    ``user`` is the caller unless named. The cost is ``cost_usd`` or ``cost_micro_usd``, not
    both. With an ``event_id`` it is counted once, however often it is sent.
    """

    workspace: str
    user: str = ""
    tokens_input: _Count = 0
    tokens_output: _Count = 0
    cost_usd: Annotated[float, Meta(ge=0)] | None = None
    cost_micro_usd: _Count | None = None
    agent: str = ""
    model: str = ""
    event_id: str | None = None
    organisation: str | None = None
    occurred_at: datetime | None = None
    requests: _Count = 1


class Correction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is added to what was used, or, where negative, taken away; once for each ``id``."""

    id: str
    reason: str
    user: str
    workspace: str
    tokens_input: _Change = 0
    tokens_output: _Change = 0
    cost_micro_usd: _Change = 0
    requests: _Change = 0
    agent: str = ""
    model: str = ""
    organisation: str | None = None
    occurred_at: datetime | None = None


class UseRecorded(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted; ``duplicate``: it had been, so nothing was added now."""

    event_id: str
    day: str
    cost_micro_usd: int
    duplicate: bool


class RangeQuery(msgspec.Struct, frozen=True):
    """From which day to which, both included, ``YYYY-MM-DD``: the last 30 days unless said."""

    since: str = ""
    until: str = ""


class TopQuery(msgspec.Struct, frozen=True):
    """The same, and how many."""

    since: str = ""
    until: str = ""
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 10


async def record_usage(call: Call) -> Answer:
    """Count one use."""
    use: Use = call.body
    if use.cost_usd is not None and use.cost_micro_usd is not None:
        raise BadRequest("expected cost_usd or cost_micro_usd, not both")
    recorded = await call.hub.services.usage.record_usage(
        check_payer(call, use.user, use.workspace, use.organisation),
        use.workspace,
        use.tokens_input,
        use.tokens_output,
        use.cost_usd or 0,
        use.agent,
        event_id=use.event_id or call.operation,
        model=use.model,
        organisation=use.organisation,
        occurred_at=use.occurred_at,
        requests=use.requests,
        cost_micro_usd=use.cost_micro_usd,
    )
    return Answer(UseRecorded(**recorded._asdict()), status=201)


async def correct_usage(call: Call) -> Answer:
    """Put right what was counted."""
    correction: Correction = call.body
    recorded = await call.hub.services.usage.correct(
        correction.user,
        correction.workspace,
        correction_id=correction.id,
        reason=correction.reason,
        tokens_input=correction.tokens_input,
        tokens_output=correction.tokens_output,
        cost_micro_usd=correction.cost_micro_usd,
        requests=correction.requests,
        agent_type=correction.agent,
        model=correction.model,
        organisation=correction.organisation,
        occurred_at=correction.occurred_at,
    )
    return Answer(UseRecorded(**recorded._asdict()), status=201)


async def get_usage(call: Call) -> Answer:
    """Return what was used, day by day."""
    scope = readable(call, scope_of(call))
    since, until = _range(call)
    return Answer(await call.hub.services.usage.get_scope_usage(scope, since, until))


async def get_daily_usage(call: Call) -> Answer:
    """Return what was used on one day."""
    scope = readable(call, scope_of(call))
    return Answer(await call.hub.services.usage.get_scope_daily(scope, call.path["day"]))


async def get_monthly_usage(call: Call) -> Answer:
    """Return what was used in one month."""
    scope = readable(call, scope_of(call))
    return Answer(await call.hub.services.usage.get_scope_monthly(scope, call.path["month"]))


async def get_usage_users(call: Call) -> Answer:
    """Return who used most."""
    scope = readable(call, scope_of(call))
    if scope.kind == "user":
        raise BadRequest("expected a workspace or an organisation: a user is one user")
    since, until = _range(call)
    found = await call.hub.services.usage.top_users(
        workspace=scope.id if scope.kind == "workspace" else "",
        organisation=scope.id if scope.kind == "org" else "",
        since=since,
        until=until,
        limit=call.query.limit,
    )
    return Answer(found)


async def reconcile_usage(call: Call) -> Answer:
    """Compare with the database, and correct what is different."""
    scope = scope_of(call)
    call.caller.need(BILLING)
    found = await call.hub.services.usage.reconcile(scope, call.path["month"])
    return Answer([difference._asdict() for difference in found])


def _range(call: Call) -> tuple[str, str]:
    zone = call.hub.services.usage.settings.zone
    now = datetime.fromtimestamp(call.hub.services.context.clock.now_ms() / 1000, UTC)
    until = call.query.until or now.astimezone(zone).date().isoformat()
    if call.query.since:
        return call.query.since, until
    try:
        first = date.fromisoformat(until) - timedelta(days=_DAYS - 1)
    except (ValueError, OverflowError):
        raise BadRequest(f"expected a day as YYYY-MM-DD; got {until[:40]!r}") from None
    return first.isoformat(), until


_SCOPE = "/v1/usage/{kind}/{id}"
_KINDS = "`kind` is `user`, `workspace` or `org`. Everybody sees their own and their workspaces'."
_DAY = DayUsage(
    date="2026-11-25",
    tokens_input=1_200,
    tokens_output=340,
    cost_usd=0.0123,
    cost_micro_usd=12_300,
    requests=1,
)

USAGE = (
    Operation(
        method="POST",
        path="/v1/usage",
        run=record_usage,
        summary="Count one use",
        description="Counted for the user, the workspace and its organisation, all or nothing.",
        scope=_WRITE,
        tenant=False,
        body=Use,
        result=UseRecorded,
        status=201,
        example=Use(
            workspace="w1",
            user="ann",
            tokens_input=1_200,
            tokens_output=340,
            cost_micro_usd=12_300,
            agent="writer",
            model="large-1",
            event_id="run-7-call-3",
        ),
        answer_example=UseRecorded(
            event_id="run-7-call-3", day="2026-11-25", cost_micro_usd=12_300, duplicate=False
        ),
        errors=(409, 413),
    ),
    Operation(
        method="POST",
        path="/v1/usage/corrections",
        run=correct_usage,
        summary="Put right what was counted",
        description="A refund or a price put right: an event of its own, never an overwrite.",
        scope=BILLING,
        tenant=False,
        body=Correction,
        result=UseRecorded,
        status=201,
        example=Correction(
            id="refund-17",
            reason="the call had failed",
            user="ann",
            workspace="w1",
            cost_micro_usd=-12_300,
        ),
        errors=(409, 413),
    ),
    Operation(
        method="GET",
        path=_SCOPE,
        run=get_usage,
        summary="Read what was used, day by day",
        description=_KINDS,
        tenant=False,
        query=RangeQuery,
        result=Usage,
        answer_example=Usage(
            since="2026-11-01",
            until="2026-11-25",
            days=[_DAY],
            tokens_input=1_200,
            tokens_output=340,
            cost_usd=0.0123,
            cost_micro_usd=12_300,
            requests=1,
        ),
    ),
    Operation(
        method="GET",
        path=_SCOPE + "/days/{day}",
        run=get_daily_usage,
        summary="Read what was used on one day",
        description=_KINDS,
        tenant=False,
        result=DayUsage,
        answer_example=_DAY,
    ),
    Operation(
        method="GET",
        path=_SCOPE + "/months/{month}",
        run=get_monthly_usage,
        summary="Read what was used in one month",
        description=_KINDS,
        tenant=False,
        result=MonthUsage,
    ),
    Operation(
        method="GET",
        path=_SCOPE + "/users",
        run=get_usage_users,
        summary="Read who used most",
        description="Of a workspace or an organisation, the most expensive first.",
        tenant=False,
        query=TopQuery,
        result=list[TopUser],
    ),
    Operation(
        method="POST",
        path=_SCOPE + "/months/{month}/reconciliation",
        run=reconcile_usage,
        summary="Compare a month with the database, and correct it",
        description="Answers the days that were different. Corrections are events.",
        scope=BILLING,
        tenant=False,
        result=list[dict[str, Any]],
    ),
)
