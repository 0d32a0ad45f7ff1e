"""What a request for approval may say, and the gate that it opens. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from channels import events as e
from channels.errors import BadRequest, Conflict
from channels.ids import check_id
from services.approval_store import MAX_DEADLINE_MS
from services.gate import Change, Gate, to_time

__all__ = [
    "MAX_NAME",
    "MAX_TEXT",
    "OnTimeout",
    "check_actor",
    "check_approvers",
    "check_quorum",
    "check_same",
    "check_terms",
    "check_text",
    "opened",
]

OnTimeout: TypeAlias = Literal["reject", "approve", "escalate"]
_MAX_APPROVERS: Final = 100
#: Characters of a reason or a comment.
MAX_TEXT: Final = 4_000
#: Characters of what names a tool, a run, a thread.
MAX_NAME: Final = 200


def opened(gate: Gate, now_ms: int, term_ms: int | None, escalated_ms: int) -> Change:
    """Return the gate that is opened now, and the event that tells of it."""
    gate = Gate(
        **{
            **{name: getattr(gate, name) for name in gate.__struct_fields__},
            "created_at": to_time(now_ms),
            "expires_at": None if term_ms is None else to_time(now_ms + term_ms),
            "escalate_in_ms": escalated_ms,
        }
    )
    told = e.ApprovalRequestedData.__struct_fields__
    data = e.ApprovalRequestedData(**{name: getattr(gate, name) for name in told})
    return Change(gate, e.ApprovalRequested(data=data, time=gate.created_at))


def check_same(asked: Gate, existing: Gate) -> None:
    """Check that the gate there is was requested for the same action.

    Raises:
        Conflict: it was not.
    """

    def action(gate: Gate) -> tuple[str, str, str]:
        return gate.tool, gate.args_sha256, gate.requested_by

    if action(asked) != action(existing):
        raise Conflict(
            f"gate {asked.gate!r} is for {existing.tool!r} with arguments "
            f"{existing.args_sha256[:16]}..., requested by {existing.requested_by!r}; expected "
            f"{asked.tool!r}, {asked.args_sha256[:16]}... and {asked.requested_by!r}"
        )
    if weaker := _weaker(asked, existing):
        raise Conflict(
            f"gate {asked.gate!r} was requested with another {weaker}, by which it takes less to "
            "be approved; expected one that asks for as much"
        )


def _weaker(asked: Gate, existing: Gate) -> str:
    """Return in what the gate there is asks for less; empty if it does not.

    Whoever guesses an id must not open its gate first, for their friends to approve.
    """
    if existing.quorum < asked.quorum:
        return "quorum"
    if existing.allow_self and not asked.allow_self:
        return "allow_self"
    if existing.on_timeout == "approve" != asked.on_timeout:
        return "on_timeout"
    if not asked.approvers or _anybody(asked):
        return ""
    able = {*asked.approvers, *asked.escalate_to}
    people = {*existing.approvers, *existing.escalate_to}
    if not existing.approvers or _anybody(existing) or not able.issuperset(people):
        return "list of approvers"
    return ""


def _anybody(gate: Gate) -> bool:
    """Return whether everybody may decide after a while."""
    return gate.on_timeout == "escalate" and not gate.escalate_to


def check_terms(
    gate: Gate, expires_in_s: float | None, escalate_in_s: float | None
) -> tuple[int | None, int]:
    """Return the milliseconds until the deadline (None: never) and after an escalation.

    Raises:
        BadRequest: they make no sense together, or are out of range.
    """
    if gate.on_timeout not in {"reject", "approve", "escalate"}:
        raise BadRequest(f"expected reject, approve or escalate; got {gate.on_timeout!r}")
    term_ms = None if expires_in_s is None else _check_term(expires_in_s, "expires_in_s")
    if gate.on_timeout != "escalate":
        if gate.escalate_to or escalate_in_s is not None:
            raise BadRequest('escalate_to and escalate_in_s go with on_timeout="escalate"')
        return term_ms, 0
    if term_ms is None:
        raise BadRequest('on_timeout="escalate" needs a deadline: expected expires_in_s')
    if escalate_in_s is None:
        return term_ms, term_ms
    return term_ms, _check_term(escalate_in_s, "escalate_in_s")


def _check_term(seconds: float, what: str) -> int:
    if not 0 < seconds <= MAX_DEADLINE_MS / 1000:
        raise BadRequest(f"{what} must be above 0 and at most a year; got {seconds}")
    return max(1, round(seconds * 1000))


def check_quorum(gate: Gate) -> None:
    """Check that there can be as many votes as the gate needs.

    Raises:
        BadRequest: there cannot.
    """
    if gate.quorum < 1:
        raise BadRequest(f"a quorum is 1 or more; got {gate.quorum}")
    for people in (gate.approvers, gate.escalate_to):
        able = [one for one in people if gate.allow_self or one != gate.requested_by]
        if people and len(able) < gate.quorum:
            raise BadRequest(
                f"a quorum of {gate.quorum} needs as many approvers besides the requester; "
                f"got {', '.join(people)}"
            )


def check_approvers(approvers: Sequence[str], what: str) -> list[str]:
    """Return each of ``approvers`` once, in order.

    Raises:
        BadRequest: one of them is no id, or they are too many.
    """
    if isinstance(approvers, str):
        raise BadRequest(f"{what} is a list of ids; got the text {approvers[:80]!r}")
    if len(approvers) > _MAX_APPROVERS:
        raise BadRequest(f"{what} may be at most {_MAX_APPROVERS}; got {len(approvers)}")
    return list(dict.fromkeys(check_id(one, f"each of {what}") for one in approvers))


def check_actor(actor: str, what: str, *, needed: bool = True) -> str:
    """Return who acts, an id; where nobody needs to be named, empty for nobody."""
    return check_id(actor, what) if actor or needed else ""


def check_text(text: str, what: str, most: int, *, needed: bool = False) -> str:
    """Return ``text`` if it is no longer than ``most`` and there where it is needed."""
    if (needed and not text) or len(text) > most:
        raise BadRequest(f"{what} must be {1 if needed else 0}-{most} characters; got {len(text)}")
    return text
