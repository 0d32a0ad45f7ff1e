"""AG-UI: what a client sees of a gate, and what its answers do."""

from __future__ import annotations

import json

import pytest
from ag_ui.core import ResumeEntry, RunAgentInput
from ag_ui.encoder import EventEncoder

from channels.canonical import digest
from channels.errors import BadRequest, NotFound, PermissionDenied, VersionConflict
from services.adapters.ag_ui import interrupt_of, interrupted, resume

from ..approval_support import Stage

ARGS = {"order": "o7", "amount": 5}


@pytest.fixture
async def approvals(store):
    """Approvals on an empty server."""
    return Stage(store).of()


async def ask(approvals, **options):
    """Request the gate ``g``."""
    return await approvals.request("refund", ARGS, **{"gate_id": "g"} | options)


def entry(payload=None, *, status="resolved", gate="g", **more):
    """Return an answer, as it comes over the wire."""
    raw = {"interruptId": gate, "status": status, "payload": payload, **more}
    asked = {"threadId": "t", "runId": "r2", "messages": [], "resume": [raw]}
    return RunAgentInput.model_validate(asked).resume[0]


async def take(approvals, *entries, actor="ann", run_id="r2"):
    """Answer as a run does."""
    return await resume(approvals, entries, actor=actor, run_id=run_id)


async def test_a_gate_is_an_interrupt(approvals):
    """The run ends with it, and the client has what it must show."""
    gate = await ask(
        approvals,
        reason="money",
        interrupt_id="call-1",
        approvers=["ann"],
        response_schema={"type": "object", "required": ["amount"]},
    )
    event = interrupted([gate], thread_id="t", run_id="r1")
    wire = EventEncoder().encode(event).removeprefix("data: ")
    told = json.loads(wire)
    assert (told["type"], told["outcome"]["type"]) == ("RUN_FINISHED", "interrupt")
    (one,) = told["outcome"]["interrupts"]
    assert (one["id"], one["reason"], one["message"], one["toolCallId"]) == (
        "g", "tool_call", "money", "call-1",
    )  # fmt: skip
    assert one["expiresAt"] == gate.expires_at.isoformat()
    assert one["responseSchema"]["properties"]["editedArgs"] == gate.response_schema
    shown = one["metadata"]["fanwire"]
    assert (shown["args"], shown["argsSha256"]) == (ARGS, digest(ARGS))
    with pytest.raises(BadRequest):
        interrupted([], thread_id="t", run_id="r1")
    assert interrupt_of(await approvals.request("pay", {})).message == "Approve pay?"


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (True, "approved"),
        (False, "rejected"),
        ({"approved": True}, "approved"),
        ({"approved": True, "editedArgs": None}, "approved"),
        ({"approved": True, "editedArgs": {"amount": 1}}, "edited"),
        ({"approved": False, "comment": "no"}, "rejected"),
    ],
)
async def test_an_answer_decides(approvals, payload, status):
    """In the forms that clients send; the same run again changes nothing."""
    await ask(approvals)
    (gate,) = await take(approvals, entry(payload))
    assert (gate.status, gate.decision.actor) == (status, "ann")
    assert await take(approvals, entry(payload)) == [gate]
    assert gate == await approvals.get("g")


@pytest.mark.parametrize("payload", [None, "yes", 1, {}, {"approved": "true"}, {"approved": None}])
async def test_what_is_no_answer_decides_nothing(approvals, payload):
    """Neither yes nor no: the gate stays open."""
    gate = await ask(approvals)
    with pytest.raises(BadRequest, match="approved, true or false"):
        await take(approvals, entry(payload))
    assert await approvals.get("g") == gate


async def test_an_interrupt_that_is_cancelled_takes_the_request_back(approvals):
    """As often as it comes."""
    await ask(approvals)
    for _ in range(2):
        (gate,) = await take(approvals, entry(status="cancelled"))
        assert (gate.status, gate.cancelled_by) == ("cancelled", "ann")


async def test_what_was_decided_elsewhere_stands(approvals):
    """The run learns of the decision there is, not of its own."""
    await ask(approvals)
    there = await approvals.decide("g", "reject", actor="bob", decision_id="d")
    assert await take(approvals, entry(True)) == [there]
    assert await take(approvals, entry(status="cancelled")) == [there]


async def test_several_people_answer_one_gate(approvals):
    """It interrupts the run again until all have."""
    await ask(approvals, quorum=2, approvers=["ann", "bob"])
    (gate,) = await take(approvals, entry(True))
    assert gate.open
    assert interrupt_of(gate).metadata["fanwire"]["votes"] == 1
    (gate,) = await take(approvals, entry(True), actor="bob", run_id="r3")
    assert gate.status == "approved"


async def test_only_approvers_answer(approvals):
    """Who sends the run is known to the server, not told by the client."""
    await ask(approvals, approvers=["ann"])
    with pytest.raises(PermissionDenied):
        await take(approvals, entry(True), actor="eve")
    with pytest.raises(NotFound):
        await take(approvals, entry(True, gate="nothing"))
    assert await resume(approvals, None, actor="ann", run_id="r") == []


async def test_a_client_may_say_what_it_showed(approvals):
    """Then its yes is for that and nothing else."""
    await ask(approvals)
    with pytest.raises(VersionConflict):
        await take(approvals, entry(True, metadata={"argsSha256": digest({"order": "o8"})}))
    (gate,) = await take(approvals, entry(True, metadata={"argsSha256": digest(ARGS)}))
    assert gate.dispatchable
    assert isinstance(entry(True), ResumeEntry)
