"""An approval gate and the rules by which its state changes. No I/O.

    pending -> approved | edited | rejected | expired | cancelled
    approved, edited -> consumed

A rule takes the gate as it is and returns the change it makes, or None where that was done
before; it raises where it must not be. Whoever stores the change does so only if the gate is
still at the version that the rule saw.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from channels import events as e
from channels.canonical import canonical_json, digest
from channels.errors import BadRequest, Conflict, PermissionDenied, VersionConflict
from channels.event import Event
from channels.reduce_approvals import OpenGate, Vote, escalated, voted

__all__ = [
    "AlreadyDecided",
    "Change",
    "Gate",
    "Status",
    "Verdict",
    "Vote",
    "cancel",
    "consume",
    "decide",
    "expire",
    "to_ms",
    "to_time",
]

Status: TypeAlias = Literal[
    "pending", "approved", "edited", "rejected", "expired", "cancelled", "consumed"
]
Verdict: TypeAlias = Literal["approve", "edit", "reject"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_STATUS_AFTER: Final[dict[str, Status]] = {
    "approve": "approved",
    "edit": "edited",
    "reject": "rejected",
}


def to_time(ms: int) -> datetime:
    """Return the time that is ``ms`` milliseconds after 1970."""
    return _EPOCH + ms * _MS


def to_ms(time: datetime) -> int:
    """Return the whole milliseconds from 1970 to ``time``."""
    return (time - _EPOCH) // _MS


class Gate(OpenGate, frozen=True, kw_only=True, omit_defaults=True):
    """One action that waits for a person's word, and what became of it.

    ``decision`` is the one that decided it; None while it is open, and where its time-out or a
    cancellation did. ``past_votes`` are those that count no more, because an edit came after.
    """

    status: Status = "pending"
    decision: Vote | None = None
    past_votes: list[Vote] = msgspec.field(default_factory=list)
    escalate_in_ms: int = 0
    #: When it was approved, edited, rejected, expired or cancelled.
    ended_at: Annotated[datetime, Meta(tz=True)] | None = None
    cancelled_by: str = ""
    cancel_reason: str = ""
    consumed_by: str = ""
    consumed_at: Annotated[datetime, Meta(tz=True)] | None = None

    @property
    def open(self) -> bool:
        """Whether it still waits."""
        return self.status == "pending"

    @property
    def dispatchable(self) -> bool:
        """Whether its action may be carried out and was not yet."""
        return self.status in {"approved", "edited"}

    @property
    def approved_args(self) -> Any:  # noqa: ANN401 - whatever the schema of an edit allows
        """The arguments that an approval is for: the edited ones after an edit.

        Those of a gate that is open or was refused are approved by nobody: look at ``status``.
        """
        return self.proposed if self.proposed_sha256 else self.args

    @property
    def answer(self) -> Any:  # noqa: ANN401 - any JSON
        """What the decision brought along, None for nothing."""
        return None if self.decision is None else self.decision.payload


class AlreadyDecided(Conflict):
    """The gate is not open any more; ``gate`` says what became of it and who decided."""

    def __init__(self, message: str, gate: Gate) -> None:
        super().__init__(message)
        self.gate = gate

    @property
    def details(self) -> dict[str, object]:
        """The gate as it was decided."""
        return {"gate": self.gate}


class Change(NamedTuple):
    """The gate after a change, and the event that tells of it."""

    gate: Gate
    event: Event


def _ended(gate: Gate) -> AlreadyDecided:
    by = f" by {gate.decision.actor!r}" if gate.decision is not None else ""
    return AlreadyDecided(
        f"gate {gate.gate!r} is {gate.status}{by}; expected one that is open", gate
    )


def decide(gate: Gate, vote: Vote, *, expected_version: int | None, seen: str) -> Change | None:
    """Take one person's word.

    ``seen`` is the digest of the arguments that the person was shown, empty where unknown.

    Raises:
        AlreadyDecided: the gate is not open.
        PermissionDenied: the person may not decide this gate.
        VersionConflict: it is not at ``expected_version``, or the arguments are others than
            those that were shown.
        Conflict: the decision's id was used for something else, or the person voted already.
    """
    before = _find(gate, vote.decision)
    if before is not None:
        if not _same(before, vote):
            raise Conflict(
                f"decision {vote.decision!r} was {before.verdict} by {before.actor!r}; "
                "another one needs an id of its own"
            )
        return None
    if not gate.open:
        raise _ended(gate)
    _check_actor(gate, vote.actor)
    if expected_version is not None and gate.version != expected_version:
        raise VersionConflict(
            f"expected gate {gate.gate!r} at version {expected_version}; it is at {gate.version}",
            gate.version,
        )
    if vote.verdict == "reject":
        return _decided(gate, vote, gate.proposed, "")
    if vote.verdict == "approve":
        _check_seen(gate, seen, informed=expected_version is not None)
        if any(one.actor == vote.actor for one in gate.votes):
            raise Conflict(f"{vote.actor!r} has voted on gate {gate.gate!r} already")
        return _agreed(gate, vote, gate.digest, [*gate.votes, vote])
    return _agreed(gate, vote, digest(vote.payload), [vote])


def _agreed(gate: Gate, vote: Vote, sha: str, votes: list[Vote]) -> Change:
    if len(votes) >= gate.quorum:
        proposed = vote.payload if vote.verdict == "edit" else gate.proposed
        return _decided(gate, vote, proposed, sha)
    event = e.ApprovalVoted(
        data=e.ApprovalVotedData(
            **_of(gate),
            **_told(vote),
            args_sha256=sha,
            verdict="edit" if vote.verdict == "edit" else "approve",
            votes=len(votes),
            quorum=gate.quorum,
        ),
        time=vote.at,
    )
    after = voted(gate, event)
    if vote.verdict == "edit":
        after = msgspec.structs.replace(after, past_votes=[*gate.past_votes, *gate.votes])
    return Change(after, event)


def _decided(gate: Gate, vote: Vote, proposed: object, sha: str) -> Change:
    data = e.ApprovalDecisionData(**_of(gate), **_told(vote), args_sha256=sha)
    event: Event
    status = _STATUS_AFTER[vote.verdict]
    # What others had edited before stays edited when the last of them approves it.
    if status == "approved" and sha != gate.args_sha256:
        status = "edited"
    if status == "approved":
        event = e.ApprovalApproved(data=data, time=vote.at)
    elif status == "rejected":
        event = e.ApprovalRejected(data=data, time=vote.at)
    else:
        if vote.verdict == "approve":
            data = msgspec.structs.replace(data, payload=proposed)
        event = e.ApprovalEdited(data=data, time=vote.at)
    after = msgspec.structs.replace(
        gate,
        version=gate.version + 1,
        status=status,
        decision=vote,
        votes=gate.votes if vote.verdict == "reject" else [*_still(gate, vote), vote],
        past_votes=[*gate.past_votes, *(gate.votes if vote.verdict == "edit" else [])],
        proposed=proposed,
        proposed_sha256=sha if status == "edited" else gate.proposed_sha256,
        ended_at=vote.at,
    )
    return Change(after, event)


def _still(gate: Gate, vote: Vote) -> list[Vote]:
    return [] if vote.verdict == "edit" else gate.votes


def _find(gate: Gate, decision: str) -> Vote | None:
    known = [*gate.past_votes, *gate.votes]
    if gate.decision is not None:
        known.append(gate.decision)
    return next((vote for vote in known if vote.decision == decision), None)


def _same(one: Vote, other: Vote) -> bool:
    return (one.actor, one.verdict, one.comment) == (
        other.actor,
        other.verdict,
        other.comment,
    ) and canonical_json(one.payload) == canonical_json(other.payload)


def _check_actor(gate: Gate, actor: str) -> None:
    if actor == gate.requested_by and not gate.allow_self:
        raise PermissionDenied(f"{actor!r} asked for gate {gate.gate!r}: somebody else decides it")
    if gate.approvers and actor not in gate.approvers:
        raise PermissionDenied(f"{actor!r} is none of those who may decide gate {gate.gate!r}")


def _check_seen(gate: Gate, seen: str, *, informed: bool) -> None:
    if seen and seen != gate.digest:
        raise VersionConflict(
            f"the arguments of gate {gate.gate!r} have the digest {gate.digest}; "
            f"the approval is for {seen}",
            gate.version,
        )
    if gate.proposed_sha256 and not seen and not informed:
        raise VersionConflict(
            f"the arguments of gate {gate.gate!r} were edited: an approval must say which "
            f"version of the gate (now {gate.version}), or which arguments, it is for",
            gate.version,
        )


def expire(gate: Gate, now_ms: int) -> Change | None:
    """End the gate, or let others decide, if its time is over; None if it is not.

    What nobody agreed to is never carried out: where ``on_timeout`` is "approve" but somebody
    proposed other arguments, the gate is rejected.
    """
    if not gate.open or gate.expires_at is None or now_ms < to_ms(gate.expires_at):
        return None
    now = to_time(now_ms)
    if gate.on_timeout == "escalate" and gate.escalated_at is None:
        told = e.ApprovalEscalated(
            data=e.ApprovalEscalatedData(
                **_of(gate),
                approvers=gate.escalate_to,
                expires_at=to_time(now_ms + gate.escalate_in_ms),
            ),
            time=now,
        )
        after = escalated(gate, told)
        return Change(after, told)
    approved = gate.on_timeout == "approve" and not gate.proposed_sha256
    event = e.ApprovalExpired(
        data=e.ApprovalExpiredData(**_of(gate), outcome="approved" if approved else "rejected"),
        time=now,
    )
    after = msgspec.structs.replace(
        gate,
        version=gate.version + 1,
        status="approved" if approved else "expired",
        ended_at=now,
    )
    return Change(after, event)


def cancel(gate: Gate, *, actor: str, reason: str, now: datetime, event_id: str) -> Change | None:
    """Take the request back; None if that was done before.

    Raises:
        AlreadyDecided: it was decided.
    """
    if gate.status == "cancelled":
        return None
    if not gate.open:
        raise _ended(gate)
    event = e.ApprovalCancelled(
        data=e.ApprovalCancelledData(**_of(gate), actor=actor, reason=reason),
        id=event_id,
        time=now,
    )
    after = msgspec.structs.replace(
        gate,
        version=gate.version + 1,
        status="cancelled",
        ended_at=now,
        cancelled_by=actor,
        cancel_reason=reason,
    )
    return Change(after, event)


def consume(gate: Gate, *, run: str, args_sha256: str, now: datetime) -> Change | None:
    """Use the approval, for the one time it can be used; None if ``run`` did so before.

    Raises:
        BadRequest: the digest is none.
        VersionConflict: the approval is for other arguments.
        Conflict: another run used it, or it was never given.
    """
    if len(args_sha256) != 64:
        raise BadRequest(f"expected a SHA-256 in 64 hexadecimal digits; got {args_sha256[:80]!r}")
    if gate.open:
        raise Conflict(f"gate {gate.gate!r} is pending; expected one that is approved")
    if not gate.dispatchable and gate.status != "consumed":
        raise _ended(gate)
    if args_sha256 != gate.digest:
        raise VersionConflict(
            f"gate {gate.gate!r} was approved for arguments with the digest {gate.digest}; "
            f"got {args_sha256}",
            gate.version,
        )
    if gate.status == "consumed":
        if gate.consumed_by == run:
            return None
        raise AlreadyDecided(f"gate {gate.gate!r} was used by run {gate.consumed_by!r}", gate)
    event = e.ApprovalConsumed(data=e.ApprovalConsumedData(**_of(gate), run=run), time=now)
    after = msgspec.structs.replace(
        gate, version=gate.version + 1, status="consumed", consumed_by=run, consumed_at=now
    )
    return Change(after, event)


def _of(gate: Gate) -> dict[str, Any]:
    return {"workspace": gate.workspace, "gate": gate.gate, "version": gate.version + 1}


def _told(vote: Vote) -> dict[str, Any]:
    return {
        "decision": vote.decision,
        "actor": vote.actor,
        "comment": vote.comment,
        "payload": vote.payload,
    }
