"""From a snapshot and the events after it to the gates that are open: the reference reducer.

What a dashboard does to keep its list: take the snapshot of ``approvals:{workspace}``, apply
every event after its position, and the list is that of the server. Every event stands for
itself, so nothing is asked of the server again until a gap is told.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from .event import Event
from .events.approvals import (
    ApprovalApproved,
    ApprovalCancelled,
    ApprovalData,
    ApprovalEdited,
    ApprovalEscalated,
    ApprovalExpired,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRequestedData,
    ApprovalVoted,
)
from .ids import Id

__all__ = [
    "ApprovalsSnapshot",
    "BriefGate",
    "OpenApprovals",
    "OpenGate",
    "Vote",
    "escalated",
    "voted",
]


class Vote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one person said of a gate; ``payload`` holds edited arguments or an answer."""

    decision: Id
    actor: str
    verdict: Literal["approve", "edit", "reject"]
    at: Annotated[datetime, Meta(tz=True)]
    comment: str = ""
    payload: Any = None


class OpenGate(ApprovalRequestedData, frozen=True, kw_only=True, omit_defaults=True):
    """A gate that waits.

    ``votes`` are those that count, for the same arguments: ``proposed`` after an edit that
    others have yet to agree to, ``args`` before. ``approvers`` and ``expires_at`` are those
    that hold now.
    """

    created_at: Annotated[datetime, Meta(tz=True)]
    escalated_at: Annotated[datetime, Meta(tz=True)] | None = None
    votes: list[Vote] = msgspec.field(default_factory=list)
    proposed: Any = None
    proposed_sha256: str = ""

    @property
    def digest(self) -> str:
        """The digest of the arguments that an approval would be for."""
        return self.proposed_sha256 or self.args_sha256


class BriefGate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a snapshot says of an open gate that is too large for it: enough to ask for it.

    Neither its arguments nor who may decide it: nobody must decide by what is told here.
    """

    gate: Id
    version: int
    tool: str
    created_at: Annotated[datetime, Meta(tz=True)]
    requested_by: str = ""
    run: str = ""
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class ApprovalsSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a snapshot of ``approvals:{workspace}``: its open gates, newest first.

    A snapshot is bounded. As many as go into it are in ``gates``, all others in ``brief``; and
    where there are too many even for that, ``more`` of the oldest are only counted.
    """

    workspace: Id
    gates: list[OpenGate]
    brief: list[BriefGate] = []
    more: Annotated[int, Meta(ge=0)] = 0


#: An open gate, or what holds more of one.
_G = TypeVar("_G", bound=OpenGate)

_snapshot_decoder = msgspec.json.Decoder(ApprovalsSnapshot)


class OpenApprovals:
    """The open gates of a workspace, kept by events. No I/O.

    ``brief`` are those that the snapshot had no room for, and ``more`` is how many it only
    counted; ask for them. No gate is in two of the three.
    """

    __slots__ = ("brief", "gates", "more")

    def __init__(self, snapshot: bytes | None = None) -> None:
        """Begin with the data of a snapshot; without one, where the channel begins."""
        self.gates: dict[str, OpenGate] = {}
        self.brief: dict[str, BriefGate] = {}
        self.more = 0
        if snapshot is not None:
            told = _snapshot_decoder.decode(snapshot)
            self.gates = {gate.gate: gate for gate in told.gates}
            self.brief = {gate.gate: gate for gate in told.brief}
            self.more = told.more

    def apply(self, event: Event) -> bool:
        """Take the next event of the channel; return whether it was about an open gate."""
        match event:
            case ApprovalRequested(data=data):
                fields = {name: getattr(data, name) for name in data.__struct_fields__}
                self.gates[data.gate] = OpenGate(**fields, created_at=event.time)
                return True
            case ApprovalVoted() | ApprovalEscalated():
                return self._renew(event)
            case (
                ApprovalApproved(data=ApprovalData(gate=ended))
                | ApprovalEdited(data=ApprovalData(gate=ended))
                | ApprovalRejected(data=ApprovalData(gate=ended))
                | ApprovalCancelled(data=ApprovalData(gate=ended))
            ):
                return self._end(ended)
            case ApprovalExpired(data=data) if data.outcome != "escalated":
                return self._end(data.gate)
        return False

    def _end(self, ended: str) -> bool:
        found = self.gates.pop(ended, None) or self.brief.pop(ended, None)
        if found is None and self.more:
            # All that were requested since are known, so it was one of those.
            self.more -= 1
            return True
        return found is not None

    def _renew(self, event: ApprovalVoted | ApprovalEscalated) -> bool:
        brief = self.brief.get(event.data.gate)
        if brief is not None and event.data.version > brief.version:
            changes: dict[str, Any] = {"version": event.data.version}
            if isinstance(event, ApprovalEscalated):
                changes["expires_at"] = event.data.expires_at
            self.brief[brief.gate] = msgspec.structs.replace(brief, **changes)
            return True
        gate = self.gates.get(event.data.gate)
        if gate is None or event.data.version <= gate.version:
            return False
        self.gates[gate.gate] = (
            voted(gate, event) if isinstance(event, ApprovalVoted) else (escalated(gate, event))
        )
        return True


def voted(gate: _G, event: ApprovalVoted) -> _G:
    """Return ``gate`` after a vote that did not decide it."""
    data = event.data
    vote = Vote(
        decision=data.decision,
        actor=data.actor,
        verdict=data.verdict,
        at=event.time,
        comment=data.comment,
        payload=data.payload,
    )
    edited = data.verdict == "edit"
    return msgspec.structs.replace(
        gate,
        version=data.version,
        votes=[vote] if edited else [*gate.votes, vote],
        proposed=data.payload if edited else gate.proposed,
        proposed_sha256=data.args_sha256 if edited else gate.proposed_sha256,
    )


def escalated(gate: _G, event: ApprovalEscalated) -> _G:
    """Return ``gate`` with those who may decide now."""
    return msgspec.structs.replace(
        gate,
        version=event.data.version,
        approvers=event.data.approvers,
        expires_at=event.data.expires_at,
        escalated_at=event.time,
    )
