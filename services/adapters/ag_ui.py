"""AG-UI: a gate as an interrupt of a run, the next run's resume entries as decisions.

    gate = await approvals.request("refund", args, run=run_id, thread_id=thread_id)
    yield encoder.encode(interrupted([gate], thread_id=thread_id, run_id=run_id))
    ...
    gates = await resume(approvals, run_input.resume, actor=user, run_id=run_input.run_id)

An answer is ``{"approved": true | false, "editedArgs"?: ..., "comment"?: "..."}``, or just true
or false. It is one way to decide among others: the gate is in the hub's list, too, and whoever
is first decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ag_ui.core import Interrupt, ResumeEntry, RunFinishedEvent, RunFinishedInterruptOutcome

from channels.errors import BadRequest
from services.adapters.derived import derived_id
from services.approvals import Approvals
from services.gate import AlreadyDecided, Gate, Verdict

__all__ = ["interrupt_of", "interrupted", "resume"]

#: Why a run stopped, in the word that AG-UI's own documents use for a tool that needs a yes.
REASON = "tool_call"


def interrupt_of(gate: Gate, *, tool_call_id: str | None = None) -> Interrupt:
    """Return the interrupt that stands for an open gate; its id is the gate's.

    ``metadata["fanwire"]`` has what a person must see to decide, and the digest of it.
    """
    edited = gate.response_schema or {"type": "object"}
    return Interrupt(
        id=gate.gate,
        reason=REASON,
        message=gate.reason or f"Approve {gate.tool}?",
        tool_call_id=tool_call_id or gate.interrupt_id or None,
        response_schema={
            "type": "object",
            "properties": {
                "approved": {"type": "boolean"},
                "editedArgs": edited,
                "comment": {"type": "string"},
            },
            "required": ["approved"],
        },
        expires_at=None if gate.expires_at is None else gate.expires_at.isoformat(),
        metadata={
            "fanwire": {
                "workspace": gate.workspace,
                "tool": gate.tool,
                "args": gate.args if not gate.proposed_sha256 else gate.proposed,
                "argsSha256": gate.digest,
                "version": gate.version,
                "approvers": list(gate.approvers),
                "quorum": gate.quorum,
                "votes": len(gate.votes),
            }
        },
    )


def interrupted(gates: Sequence[Gate], *, thread_id: str, run_id: str) -> RunFinishedEvent:
    """Return the event that ends a run because ``gates`` wait.

    Raises:
        BadRequest: there is none.
    """
    if not gates:
        raise BadRequest("a run is interrupted by one gate or more; got none")
    return RunFinishedEvent(
        thread_id=thread_id,
        run_id=run_id,
        outcome=RunFinishedInterruptOutcome(interrupts=[interrupt_of(gate) for gate in gates]),
    )


async def resume(
    approvals: Approvals, entries: Sequence[ResumeEntry] | None, *, actor: str, run_id: str
) -> list[Gate]:
    """Take the answers of a new run; return their gates as they are then.

    ``actor`` is who sent the run, as your server knows it: nothing in the request says so. A
    gate that was decided elsewhere is returned with that decision; one that is still open
    lacks votes, and interrupts the run again. The same run sent twice changes nothing.
    "cancelled" takes the request back.

    Raises:
        BadRequest: an answer is not of the form above; those before it were taken.
        NotFound, PermissionDenied, VersionConflict, Conflict, StoreError: as ``decide``.
    """
    return [
        await _take(approvals, entry, actor, derived_id("agui", run_id, entry.interrupt_id))
        for entry in entries or ()
    ]


async def _take(approvals: Approvals, entry: ResumeEntry, actor: str, decision: str) -> Gate:
    gate_id = entry.interrupt_id
    try:
        if entry.status == "cancelled":
            return await approvals.cancel(gate_id, actor=actor, op_id=decision)
        verdict, payload, comment = _read(entry)
        # What the person saw is not in the entry, so the answer is for the gate as it is; where
        # others may have edited it meanwhile the server that knows better calls decide itself.
        seen = (await approvals.get(gate_id)).digest if verdict == "approve" else ""
        return await approvals.decide(
            gate_id,
            verdict,
            actor=actor,
            decision_id=decision,
            comment=comment,
            payload=payload,
            args_sha256=_shown(entry) or seen,
        )
    except AlreadyDecided as decided:
        return decided.gate


def _shown(entry: ResumeEntry) -> str:
    """Return the digest that the client says it showed, empty where it does not."""
    metadata: Any = entry.metadata or {}
    told = metadata.get("argsSha256", "")
    return told if isinstance(told, str) else ""


def _read(entry: ResumeEntry) -> tuple[Verdict, object, str]:
    match entry.payload:
        case bool(approved):
            return ("approve" if approved else "reject"), None, ""
        case {"approved": False, **rest}:
            return "reject", None, str(rest.get("comment") or "")
        case {"approved": True, "editedArgs": edited, **rest} if edited is not None:
            return "edit", edited, str(rest.get("comment") or "")
        case {"approved": True, **rest}:
            return "approve", None, str(rest.get("comment") or "")
        case other:
            raise BadRequest(
                f"the answer to {entry.interrupt_id!r}: expected an object with approved, true or "
                f"false; got {str(other)[:80]!r}"
            )
