"""``/v1/budgets``: what may still be used, and setting it aside for a call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from channels.errors import BadRequest, NotFound
from hub.api.rest.operation import Answer, Call, Operation
from hub.api.rest.scopes import BILLING, check_payer, readable, scope_of, writable
from services.budgets.hold import Committed, Hold
from services.budgets.standing import Budget, BudgetCheck, Line

__all__ = [
    "BUDGETS",
    "Commit",
    "HoldExtension",
    "Limits",
    "Question",
    "Renewal",
    "Reservation",
    "check_budget",
    "commit_hold",
    "extend_hold",
    "get_budget",
    "get_hold",
    "release_hold",
    "renew_hold",
    "reserve",
    "set_limits",
]

_WRITE = "usage:write"
_ADMIN = "budgets:admin"

_Amount = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_Ttl = Annotated[float, Meta(ge=1, le=86_400)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits to set; null is the default again, what is absent stays as it is."""

    monthly_micro_usd: _Amount | UnsetType | None = UNSET
    daily_tokens: _Amount | UnsetType | None = UNSET


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What would be used; ``user`` is the caller unless named."""

    workspace: str
    user: str = ""
    organisation: str | None = None
    estimated_micro_usd: _Amount | None = None
    estimated_tokens: _Amount | None = None
    model: str = ""


class Reservation(Question, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be set aside. With a ``hold`` id it is done once, however often it is sent."""

    hold: str | None = None
    ttl_s: _Ttl | None = None


class HoldExtension(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much more is to be set aside."""

    more_micro_usd: _Amount = 0
    more_tokens: _Amount = 0
    ttl_s: _Ttl | None = None


class Renewal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long, from now."""

    ttl_s: _Ttl | None = None


class Commit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was really used; the rest is free again. Without a cost it is priced or estimated."""

    actual_micro_usd: _Amount | None = None
    tokens_input: _Amount = 0
    tokens_output: _Amount = 0
    agent: str = ""
    model: str = ""
    event_id: str | None = None
    occurred_at: datetime | None = None
    requests: _Amount = 1


async def get_budget(call: Call) -> Answer:
    """Return where a budget stands."""
    return Answer(await call.hub.services.budgets.get_budget(readable(call, scope_of(call))))


async def set_limits(call: Call) -> Answer:
    """Change the limits of a budget."""
    scope = writable(call, scope_of(call), _ADMIN)
    changes = msgspec.structs.asdict(call.body)
    changes = {name: value for name, value in changes.items() if value is not UNSET}
    if not changes:
        raise BadRequest("expected monthly_micro_usd, daily_tokens or both; got neither")
    return Answer(await call.hub.services.budgets.set_limit(scope, **changes))


async def check_budget(call: Call) -> Answer:
    """Tell whether something could be afforded now."""
    asked: Question = call.body
    user = check_payer(call, asked.user, asked.workspace, asked.organisation)
    micro = asked.estimated_micro_usd
    found = await call.hub.services.budgets.check_budget(
        user,
        None if micro is None else _usd(micro),
        workspace=asked.workspace,
        organisation=asked.organisation,
        estimated_tokens=asked.estimated_tokens,
        model=asked.model,
    )
    return Answer(found)


async def reserve(call: Call) -> Answer:
    """Set something aside."""
    asked: Reservation = call.body
    user = check_payer(call, asked.user, asked.workspace, asked.organisation)
    hold = await call.hub.services.budgets.reserve(
        user,
        asked.workspace,
        organisation=asked.organisation,
        estimated_micro_usd=asked.estimated_micro_usd,
        estimated_tokens=asked.estimated_tokens,
        model=asked.model,
        hold_id=asked.hold or call.operation,
        ttl_s=asked.ttl_s,
    )
    return Answer(hold, status=201, location=f"/v1/budgets/holds/{hold.user}/{hold.id}")


async def get_hold(call: Call) -> Answer:
    """Return what was set aside."""
    return Answer(await _hold(call))


async def extend_hold(call: Call) -> Answer:
    """Set more aside for the same."""
    hold, more = await _hold(call), call.body
    extended = await call.hub.services.budgets.extend(
        hold,
        more_micro_usd=more.more_micro_usd,
        more_tokens=more.more_tokens,
        op_id=call.operation,
        ttl_s=more.ttl_s,
    )
    return Answer(extended)


async def renew_hold(call: Call) -> Answer:
    """Keep it set aside for longer."""
    hold = await _hold(call)
    return Answer(await call.hub.services.budgets.renew(hold, ttl_s=call.body.ttl_s))


async def commit_hold(call: Call) -> Answer:
    """Charge what was used, and free the rest."""
    hold, used = await _hold(call), call.body
    committed = await call.hub.services.budgets.commit(
        hold,
        actual_micro_usd=used.actual_micro_usd,
        tokens_input=used.tokens_input,
        tokens_output=used.tokens_output,
        agent=used.agent,
        model=used.model,
        event_id=used.event_id or call.operation,
        occurred_at=used.occurred_at,
        requests=used.requests,
    )
    return Answer(committed)


async def release_hold(call: Call) -> Answer:
    """Free what was set aside."""
    await call.hub.services.budgets.release(await _hold(call))
    return Answer()


async def _hold(call: Call) -> Hold:
    """Return the hold of the path; those of other people are not there for the caller."""
    user, id_ = call.path["user"], call.path["hold"]
    caller = call.caller
    found = await call.hub.services.budgets.get_hold(id_, user=user)
    mine = found is not None and (
        caller.trusted
        or (
            found.workspace in caller.identity.workspaces
            and (user == caller.identity.user or caller.may(BILLING))
        )
    )
    if found is None or not mine:
        raise NotFound(f"user {user!r} has no hold {id_!r}, or it ended days ago")
    return found


def _usd(micro: int) -> str:
    return f"{micro // 1_000_000}.{micro % 1_000_000:06}"


_KINDS = "`kind` is `user`, `workspace` or `org`."
_ONE = "/v1/budgets/{kind}/{id}"
_HOLD = "/v1/budgets/holds/{user}/{hold}"
_BUDGET = Budget(
    scope="user:ann",
    mode="hard",
    month=Line(
        unit="micro_usd",
        period="2026-11",
        limit=20_000_000,
        spent=1_230_000,
        reserved=50_000,
        remaining=18_720_000,
    ),
    day=Line(
        unit="tokens",
        period="2026-11-25",
        limit=200_000,
        spent=4_100,
        reserved=2_000,
        remaining=193_900,
    ),
)
_AT = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
_EXAMPLE = Hold(
    id="run-7",
    user="ann",
    workspace="w1",
    state="open",
    month="2026-11",
    day="2026-11-25",
    amount_micro_usd=50_000,
    amount_tokens=2_000,
    created_at=_AT,
    expires_at=_AT.replace(minute=2),
    budgets=(_BUDGET,),
)
_ALL = (
    "The user's, the workspace's and the organisation's budgets at once, all or nothing; "
    "402 says which of them does not allow it."
)

BUDGETS = (
    Operation(
        method="POST",
        path="/v1/budgets/check",
        run=check_budget,
        summary="Ask whether something could be afforded",
        description="Nothing is set aside: others may be faster. Reserve to make sure.",
        tenant=False,
        body=Question,
        result=BudgetCheck,
        example=Question(workspace="w1", estimated_micro_usd=50_000),
    ),
    Operation(
        method="POST",
        path="/v1/budgets/holds",
        run=reserve,
        summary="Set something aside for a call",
        description=_ALL,
        scope=_WRITE,
        tenant=False,
        body=Reservation,
        result=Hold,
        status=201,
        example=Reservation(
            workspace="w1", user="ann", estimated_micro_usd=50_000, hold="run-7", ttl_s=120
        ),
        answer_example=_EXAMPLE,
        errors=(402, 409),
    ),
    Operation(
        method="GET",
        path=_HOLD,
        run=get_hold,
        summary="Read a hold",
        scope=_WRITE,
        tenant=False,
        result=Hold,
        answer_example=_EXAMPLE,
        errors=(404,),
    ),
    Operation(
        method="POST",
        path=_HOLD + "/extension",
        run=extend_hold,
        summary="Set more aside",
        description=_ALL + " Refused, the hold is as it was.",
        scope=_WRITE,
        tenant=False,
        body=HoldExtension,
        result=Hold,
        example=HoldExtension(more_micro_usd=20_000),
        errors=(402, 404, 409),
    ),
    Operation(
        method="POST",
        path=_HOLD + "/renewal",
        run=renew_hold,
        summary="Keep it set aside for longer",
        scope=_WRITE,
        tenant=False,
        body=Renewal,
        result=Hold,
        example=Renewal(ttl_s=120),
        errors=(404, 409),
    ),
    Operation(
        method="POST",
        path=_HOLD + "/commit",
        run=commit_hold,
        summary="Charge what was used",
        description="It is charged also when the hold has ended, or was too small.",
        scope=_WRITE,
        tenant=False,
        body=Commit,
        result=Committed,
        example=Commit(actual_micro_usd=41_200, tokens_input=1_200, tokens_output=340),
        errors=(404, 409, 413),
    ),
    Operation(
        method="DELETE",
        path=_HOLD,
        run=release_hold,
        summary="Free what was set aside",
        scope=_WRITE,
        tenant=False,
        status=204,
        errors=(404,),
    ),
    Operation(
        method="GET",
        path=_ONE,
        run=get_budget,
        summary="Read where a budget stands",
        description=_KINDS,
        tenant=False,
        result=Budget,
        answer_example=_BUDGET,
    ),
    Operation(
        method="PATCH",
        path=_ONE,
        run=set_limits,
        summary="Change the limits of a budget",
        description=_KINDS + " Null is the default again.",
        tenant=False,
        body=Limits,
        result=Budget,
        example=Limits(monthly_micro_usd=20_000_000),
        answer_example=_BUDGET,
    ),
)
