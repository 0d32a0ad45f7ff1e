"""``/v1/limits``: how often something may be done, for services in any language."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from channels.errors import BadRequest, RateLimited, SettingsError
from channels.ids import check_id, new_id
from hub.api.rest.operation import Answer, Call, Operation
from services.limits.fields import limit_fields
from services.limits.policy import Policy
from services.limits.result import LimitResult
from services.limits.rule import PolicyState

__all__ = [
    "LIMITS",
    "Check",
    "CheckResult",
    "LimitSubject",
    "PolicyStatus",
    "RemainingQuery",
    "RemainingResult",
    "Slot",
    "SlotAsked",
    "acquire_slot",
    "check_limits",
    "get_policies",
    "get_remaining",
    "release_slot",
    "reset_limits",
]

T = TypeVar("T")

_CHECK = "limits:check"
_ADMIN = "limits:admin"


class LimitSubject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who does what, under which policies; ``user`` is the caller unless named."""

    policy: str = "api"
    also: list[str] = []
    user: str = ""
    endpoint: str = "default"
    workspace: str = ""
    address: str = ""
    agent: str = ""


class Check(LimitSubject, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same, and what it costs; ``plan`` is looked up unless named."""

    cost: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1
    plan: str = ""


class SlotAsked(LimitSubject, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A slot; with the ``holder`` of one that is held it is renewed."""

    policy: str = "slots"
    plan: str = ""
    holder: str = ""


class RemainingQuery(msgspec.Struct, frozen=True):
    """The same as a query."""

    policy: str = "api"
    user: str = ""
    endpoint: str = "default"
    address: str = ""
    agent: str = ""
    plan: str = ""


class PolicyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where one policy stands; see the service's ``PolicyState``. Null is never."""

    name: str
    limit: int
    remaining: int
    reset_after_ms: int
    retry_after_ms: int | None
    next_after_ms: int
    window_s: float
    subject: str


class RemainingResult(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the policy with the least, and of each."""

    limit: int
    remaining: int
    reset_in_seconds: int
    policies: list[PolicyStatus]


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome: allowed and taken, or denied and nothing was taken.

    ``retry_after_ms`` is null for never; ``degraded``: Redis was away, the policies decided.
    """

    allowed: bool
    cost: int
    violated: tuple[str, ...]
    retry_after_ms: int | None
    degraded: bool
    policies: list[PolicyStatus]


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A slot that is held for ``lease_s`` seconds from now, unless renewed or given back."""

    holder: str
    lease_s: float
    degraded: bool
    policies: list[PolicyStatus]


async def get_policies(call: Call) -> Answer:
    """Return the declared policies."""
    return Answer(list(call.hub.services.rate_limiter.policies))


async def check_limits(call: Call) -> Answer:
    """Take what is asked for, if every policy allows it."""
    asked: Check = call.body
    result = await _asked(
        call.hub.services.rate_limiter.check_limit(
            asked.user or call.caller.identity.user,
            asked.policy,
            asked.endpoint,
            workspace=_workspace(call, asked.workspace),
            address=asked.address,
            agent=asked.agent,
            cost=asked.cost,
            plan=asked.plan,
            also=asked.also,
        )
    )
    return _with_fields(_outcome(result), result)


async def get_remaining(call: Call) -> Answer:
    """Return what is left; nothing is taken."""
    asked: RemainingQuery = call.query
    me = call.caller.identity.user
    user = asked.user or me
    if user != me or asked.address or asked.plan:
        call.caller.need(_CHECK)
    found = await _asked(
        call.hub.services.rate_limiter.get_remaining(
            user,
            asked.policy,
            asked.endpoint,
            workspace=call.workspace_id,
            address=asked.address,
            agent=asked.agent,
            plan=asked.plan,
        )
    )
    return Answer({**found, "policies": _states(found["policies"])})


async def reset_limits(call: Call) -> Answer:
    """Give everything back that policies counted for a subject."""
    asked: LimitSubject = call.body
    await _asked(
        call.hub.services.rate_limiter.reset(
            asked.user,
            asked.policy,
            asked.endpoint,
            workspace=_workspace(call, asked.workspace),
            address=asked.address,
            agent=asked.agent,
            also=asked.also,
        )
    )
    return Answer()


async def acquire_slot(call: Call) -> Answer:
    """Take a slot, or renew it."""
    asked: SlotAsked = call.body
    holder = check_id(asked.holder or call.operation or new_id(), "holder")
    lease = await _asked(
        call.hub.services.rate_limiter.acquire_slot(
            asked.user or call.caller.identity.user,
            asked.policy,
            asked.endpoint,
            workspace=_workspace(call, asked.workspace),
            address=asked.address,
            agent=asked.agent,
            plan=asked.plan,
            holder=holder,
        )
    )
    if not lease:
        raise RateLimited(
            f"no slot of {asked.policy!r} is free",
            retry_after_ms=lease.result.retry_after_ms,
            violated=lease.result.violated,
            fields=limit_fields(lease.result),
        )
    slot = Slot(
        holder=holder,
        lease_s=lease.rule.window_s,
        degraded=lease.degraded,
        policies=_states(lease.result.policies),
    )
    return _with_fields(slot, lease.result)


async def release_slot(call: Call) -> Answer:
    """Give a slot back; again does nothing."""
    asked: SlotAsked = call.body
    if not asked.holder:
        raise BadRequest("expected the holder whose slot is given back")
    await _asked(
        call.hub.services.rate_limiter.release_slot_of(
            asked.holder,
            asked.user or call.caller.identity.user,
            asked.policy,
            asked.endpoint,
            workspace=_workspace(call, asked.workspace),
            address=asked.address,
            agent=asked.agent,
        )
    )
    return Answer()


async def _asked(answer: Awaitable[T]) -> T:
    """Return the answer; a policy that is not there, or no such one, is the caller's mistake."""
    try:
        return await answer
    except SettingsError as error:
        raise BadRequest(error.message) from None


def _workspace(call: Call, asked: str) -> str:
    return call.caller.workspace(asked) if asked else ""


def _states(states: Iterable[PolicyState]) -> list[PolicyStatus]:
    return [PolicyStatus(**state._asdict()) for state in states]


def _outcome(result: LimitResult) -> CheckResult:
    return CheckResult(
        allowed=result.allowed,
        cost=result.cost,
        violated=result.violated,
        retry_after_ms=result.retry_after_ms,
        degraded=result.degraded,
        policies=_states(result.policies),
    )


def _with_fields(value: object, result: LimitResult) -> Answer:
    fields = limit_fields(result)
    return Answer(value, finish=lambda response: response.headers.update(fields))


_STATE = PolicyStatus(
    name="api",
    limit=100,
    remaining=42,
    reset_after_ms=34_800,
    retry_after_ms=0,
    next_after_ms=400,
    window_s=60,
    subject="endpoint",
)

LIMITS = (
    Operation(
        method="GET",
        path="/v1/limits",
        run=get_policies,
        summary="Read the declared policies",
        tenant=False,
        result=list[Policy],
    ),
    Operation(
        method="POST",
        path="/v1/limits/check",
        run=check_limits,
        summary="Take what is asked for, if every policy allows it",
        description=(
            "Denied by one, nothing is taken from any. The answer is 200 either way, with "
            "`RateLimit` and `RateLimit-Policy` fields to pass on."
        ),
        scope=_CHECK,
        tenant=False,
        body=Check,
        result=CheckResult,
        example=Check(policy="api", user="ann", endpoint="search", also=["daily"]),
        answer_example=CheckResult(
            allowed=True, cost=1, violated=(), retry_after_ms=0, degraded=False, policies=[_STATE]
        ),
    ),
    Operation(
        method="GET",
        path="/v1/limits/remaining",
        run=get_remaining,
        summary="Read what is left",
        description="Nothing is taken. Everybody may ask for themselves.",
        query=RemainingQuery,
        result=RemainingResult,
    ),
    Operation(
        method="POST",
        path="/v1/limits/reset",
        run=reset_limits,
        summary="Give everything back that was counted",
        scope=_ADMIN,
        tenant=False,
        body=LimitSubject,
        status=204,
        example=LimitSubject(policy="api", user="ann", endpoint="search"),
    ),
    Operation(
        method="POST",
        path="/v1/limits/slots",
        run=acquire_slot,
        summary="Take a slot, or renew it",
        description="429 when none is free. A slot that is not renewed frees itself.",
        scope=_CHECK,
        tenant=False,
        body=SlotAsked,
        result=Slot,
        example=SlotAsked(policy="slots", user="ann", holder="run-7"),
        errors=(429,),
    ),
    Operation(
        method="POST",
        path="/v1/limits/slots/release",
        run=release_slot,
        summary="Give a slot back",
        scope=_CHECK,
        tenant=False,
        body=SlotAsked,
        status=204,
        example=SlotAsked(policy="slots", user="ann", holder="run-7"),
    ),
)
