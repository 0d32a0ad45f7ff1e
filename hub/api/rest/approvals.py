"""``/v1/approvals``: actions that wait for a person's word."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from channels.ids import Id, new_id
from hub.api.rest.operation import Answer, Call, Operation, PageQuery
from services.approval_audit import AuditEntry
from services.gate import Gate, Verdict, Vote
from services.page import Page

__all__ = [
    "APPROVALS",
    "AuditQuery",
    "Cancellation",
    "Consumption",
    "Decision",
    "GateQuery",
    "NewGate",
    "approval_audit",
    "approvals_audit",
    "cancel_approval",
    "consume_approval",
    "decide_approval",
    "get_approval",
    "list_approvals",
    "request_approval",
]

#: Scopes of whoever asks for approvals and uses them, and of whoever gives them.
_REQUEST = "approvals:request"
_DECIDE = "approvals:decide"
#: Scope of whoever may ask for an approval that needs no other person's word.
_ADMIN = "approvals:admin"

_Seconds = Annotated[float, Meta(gt=0)]


class GateQuery(PageQuery, frozen=True):
    """Which gates: those that wait, those approved and not used, or all."""

    status: Literal["open", "dispatchable", "all"] = "open"


class AuditQuery(msgspec.Struct, frozen=True):
    """Which page of the audit."""

    limit: int = 100
    cursor: str = ""
    newest_first: bool = False


class NewGate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An action to ask for. ``expires_in_s`` null waits for ever.

    ``allow_self``, and "approve" for ``on_timeout``, need no other person's word: they are for
    callers with the scope ``approvals:admin``.
    """

    tool: str
    args: dict[str, Any] = {}
    id: Id | None = None
    requested_by: str = ""
    run: str = ""
    approvers: list[str] = []
    quorum: Annotated[int, Meta(ge=1)] = 1
    allow_self: bool = False
    response_schema: dict[str, Any] | None = None
    expires_in_s: _Seconds | None = 3_600.0
    on_timeout: Literal["reject", "approve", "escalate"] = "reject"
    escalate_to: list[str] = []
    escalate_in_s: _Seconds | None = None
    reason: str = ""
    interrupt_id: str = ""
    thread_id: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One person's word. ``actor`` is the caller unless the application says otherwise."""

    verdict: Verdict
    id: Id | None = None
    actor: str = ""
    comment: str = ""
    payload: Any = None
    args_sha256: str = ""


class Cancellation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the action is no longer wanted."""

    actor: str = ""
    reason: str = ""


class Consumption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs now: the digest of its arguments, and the run that is given the answer again."""

    args_sha256: str
    run: str = ""


def _gate(gate: Gate, status: int = 200, location: str = "") -> Answer:
    return Answer(gate, status, version=gate.version, location=location)


async def list_approvals(call: Call) -> Answer:
    """Return a page of gates."""
    query: GateQuery = call.query
    approvals = call.workspace.approvals
    read = {
        "open": approvals.list_open,
        "dispatchable": approvals.list_dispatchable,
        "all": approvals.list,
    }[query.status]
    page = await read(limit=query.limit, cursor=query.cursor)
    return Answer(page, next=page.next)


async def request_approval(call: Call) -> Answer:
    """Ask for an approval."""
    body: NewGate = call.body
    if body.allow_self or body.on_timeout == "approve":
        call.caller.need(_ADMIN)
    asks = msgspec.structs.asdict(body)
    gate_id = asks.pop("id") or call.operation or new_id()
    requester = body.requested_by or call.caller.identity.user
    asks["requested_by"] = call.caller.actor(requester) if requester else ""
    gate = await call.workspace.approvals.request(
        asks.pop("tool"), asks.pop("args"), gate_id=gate_id, **asks
    )
    return _gate(gate, 201, f"/v1/approvals/{gate.gate}?workspace={call.workspace_id}")


async def get_approval(call: Call) -> Answer:
    """Return a gate."""
    return _gate(await call.workspace.approvals.get(call.path["gate"]))


async def decide_approval(call: Call) -> Answer:
    """Approve, edit or reject."""
    body: Decision = call.body
    gate = await call.workspace.approvals.decide(
        call.path["gate"],
        body.verdict,
        actor=call.caller.actor(body.actor),
        decision_id=body.id or call.operation or new_id(),
        comment=body.comment,
        payload=body.payload,
        expected_version=call.expected_version,
        args_sha256=body.args_sha256,
    )
    return _gate(gate)


async def cancel_approval(call: Call) -> Answer:
    """Take a request back."""
    body: Cancellation = call.body
    actor = body.actor or call.caller.identity.user
    gate = await call.workspace.approvals.cancel(
        call.path["gate"],
        actor=call.caller.actor(actor) if actor else "",
        reason=body.reason,
        op_id=call.operation,
    )
    return _gate(gate)


async def consume_approval(call: Call) -> Answer:
    """Use an approval for the one time it can be used."""
    body: Consumption = call.body
    gate = await call.workspace.approvals.consume(
        call.path["gate"], run=body.run or call.operation or "", args_sha256=body.args_sha256
    )
    return _gate(gate)


async def approval_audit(call: Call) -> Answer:
    """Return what was done to one gate."""
    return await _audit(call, call.path["gate"])


async def approvals_audit(call: Call) -> Answer:
    """Return what was done to all gates."""
    return await _audit(call, None)


async def _audit(call: Call, gate: str | None) -> Answer:
    query: AuditQuery = call.query
    page = await call.workspace.approvals.audit(
        gate, limit=query.limit, cursor=query.cursor, newest_first=query.newest_first
    )
    return Answer(page, next=page.next)


_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_ARGS = {"to": "ada@example.org", "amount": 120}
_SHA = "c0b7a3fbd34a3d9c0d8b8a4c5f1d5e2a4f6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d"
_EXAMPLE = Gate(
    workspace="w1",
    gate="g1",
    version=2,
    tool="send_invoice",
    args=_ARGS,
    args_sha256=_SHA,
    requested_by="agent-7",
    run="r1",
    created_at=_NOW,
    expires_at=_NOW.replace(hour=13),
    status="approved",
    decision=Vote(decision="d1", actor="ada", verdict="approve", at=_NOW.replace(minute=1)),
    ended_at=_NOW.replace(minute=1),
)
_ALL = "/v1/approvals"
_ONE = "/v1/approvals/{gate}"

APPROVALS = (
    Operation(
        method="GET",
        path=_ALL,
        run=list_approvals,
        summary="List approval gates, newest first",
        query=GateQuery,
        result=Page[Gate],
    ),
    Operation(
        method="POST",
        path=_ALL,
        run=request_approval,
        summary="Ask for an approval",
        description=(
            "With an `id` the request may be repeated: the gate there is is returned. A token "
            "needs the scope `approvals:admin` for what no other person has to approve: "
            '`allow_self`, and `on_timeout` "approve".'
        ),
        scope=_REQUEST,
        body=NewGate,
        result=Gate,
        status=201,
        example=NewGate(tool="send_invoice", args=_ARGS, run="r1", approvers=["ada"]),
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="GET",
        path=_ONE,
        run=get_approval,
        summary="Read an approval gate",
        result=Gate,
        versioned=True,
        errors=(404,),
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="POST",
        path=_ONE + "/decision",
        run=decide_approval,
        summary="Approve, edit or reject",
        description=(
            "The first answer wins; whoever comes later gets 409 with the `gate` as it was "
            "decided. The same decision `id` again is answered as before. With `edit` the "
            "payload is what the arguments are to be."
        ),
        scope=_DECIDE,
        body=Decision,
        result=Gate,
        versioned=True,
        errors=(404,),
        example=Decision(verdict="approve", id="d1", comment="Fine."),
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="POST",
        path=_ONE + "/cancel",
        run=cancel_approval,
        summary="Take a request back",
        scope=_REQUEST,
        body=Cancellation,
        result=Gate,
        errors=(404,),
        example=Cancellation(reason="The order was cancelled."),
    ),
    Operation(
        method="POST",
        path=_ONE + "/consume",
        run=consume_approval,
        summary="Use an approval, once",
        description="Just before the action runs; the digest is that of the arguments that run.",
        scope=_REQUEST,
        body=Consumption,
        result=Gate,
        errors=(404, 412),
        example=Consumption(args_sha256=_SHA, run="r1"),
    ),
    Operation(
        method="GET",
        path=_ONE + "/audit",
        run=approval_audit,
        summary="Read what was done to a gate",
        query=AuditQuery,
        result=Page[AuditEntry],
    ),
    Operation(
        method="GET",
        path="/v1/audit/approvals",
        run=approvals_audit,
        summary="Read what was done to all gates",
        query=AuditQuery,
        result=Page[AuditEntry],
    ),
)
