"""What happens to an approval gate: an action that waits for a person's word."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..event import Event
from ..ids import Id

__all__ = [
    "ApprovalApproved",
    "ApprovalCancelled",
    "ApprovalCancelledData",
    "ApprovalConsumed",
    "ApprovalConsumedData",
    "ApprovalData",
    "ApprovalDecisionData",
    "ApprovalEdited",
    "ApprovalEscalated",
    "ApprovalEscalatedData",
    "ApprovalExpired",
    "ApprovalExpiredData",
    "ApprovalRejected",
    "ApprovalRequested",
    "ApprovalRequestedData",
    "ApprovalVoted",
    "ApprovalVotedData",
]


class ApprovalData(msgspec.Struct, frozen=True, kw_only=True):
    """What every approval event tells: which gate, and its version after what happened.

    A request is version 1 and every event is one more; 0 where the writer keeps no versions.
    """

    workspace: Id
    gate: Id
    version: Annotated[int, Meta(ge=0)] = 0


class ApprovalRequestedData(ApprovalData, frozen=True, kw_only=True):
    """An action waits. The decision holds for exactly the arguments with this digest.

    ``approvers`` may decide, everybody in the workspace when there are none; ``requested_by``
    may not, unless ``allow_self``. ``response_schema`` is the JSON schema of an edited answer.
    ``on_timeout`` says what happens at ``expires_at`` when nobody decided; ``escalate_to`` are
    those who may decide then. ``interrupt_id`` and ``thread_id`` say where the agent stands.
    """

    tool: str
    args: dict[str, Any] = {}
    args_sha256: str = ""
    requested_by: str = ""
    run: str = ""
    approvers: list[str] = []
    quorum: Annotated[int, Meta(ge=1)] = 1
    allow_self: bool = False
    reason: str = ""
    response_schema: dict[str, Any] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    on_timeout: Literal["reject", "approve", "escalate"] = "reject"
    escalate_to: list[str] = []
    interrupt_id: str = ""
    thread_id: str = ""


class ApprovalDecisionData(ApprovalData, frozen=True, kw_only=True):
    """Who decided; ``payload`` holds the edited arguments or the answer.

    ``args_sha256`` is the digest of the arguments that were approved, empty where none were.
    """

    decision: Id
    actor: str
    comment: str = ""
    payload: Any = None
    args_sha256: str = ""


class ApprovalVotedData(ApprovalDecisionData, frozen=True, kw_only=True):
    """Who agreed, and how many of ``quorum`` now do.

    An edit proposes other arguments: earlier votes were for others and count no more.
    """

    verdict: Literal["approve", "edit"]
    votes: Annotated[int, Meta(ge=1)]
    quorum: Annotated[int, Meta(ge=1)]


class ApprovalEscalatedData(ApprovalData, frozen=True, kw_only=True):
    """Who may decide now, everybody when there are none, and until when."""

    approvers: list[str] = []
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class ApprovalExpiredData(ApprovalData, frozen=True, kw_only=True):
    """Nobody decided in time; ``outcome`` is what ``on_timeout`` made of it.

    ``escalated`` is for writers without ``approval.escalated``.
    """

    outcome: Literal["rejected", "approved", "escalated"] = "rejected"


class ApprovalCancelledData(ApprovalData, frozen=True, kw_only=True):
    """The action is no longer wanted."""

    actor: str = ""
    reason: str = ""


class ApprovalConsumedData(ApprovalData, frozen=True, kw_only=True):
    """The approved action was carried out by ``run``; the gate cannot be used again."""

    run: str = ""


class ApprovalRequested(Event, frozen=True, kw_only=True, tag="approval.requested"):
    """An action waits for a person."""

    data: ApprovalRequestedData


class ApprovalVoted(Event, frozen=True, kw_only=True, tag="approval.voted"):
    """One of several whose word is needed agrees."""

    data: ApprovalVotedData


class ApprovalEscalated(Event, frozen=True, kw_only=True, tag="approval.escalated"):
    """Nobody decided in time: now others may."""

    data: ApprovalEscalatedData


class ApprovalApproved(Event, frozen=True, kw_only=True, tag="approval.approved"):
    """The action may go ahead as asked."""

    data: ApprovalDecisionData


class ApprovalEdited(Event, frozen=True, kw_only=True, tag="approval.edited"):
    """The action may go ahead with other arguments."""

    data: ApprovalDecisionData


class ApprovalRejected(Event, frozen=True, kw_only=True, tag="approval.rejected"):
    """The action must not go ahead."""

    data: ApprovalDecisionData


class ApprovalExpired(Event, frozen=True, kw_only=True, tag="approval.expired"):
    """Nobody decided in time."""

    data: ApprovalExpiredData


class ApprovalCancelled(Event, frozen=True, kw_only=True, tag="approval.cancelled"):
    """The request was taken back."""

    data: ApprovalCancelledData


class ApprovalConsumed(Event, frozen=True, kw_only=True, tag="approval.consumed"):
    """The approval was used."""

    data: ApprovalConsumedData
