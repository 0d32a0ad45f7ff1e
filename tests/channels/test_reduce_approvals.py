"""The reference reducer: which events open, change and end a gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from channels.event import EventDecoder
from channels.events import ApprovalConsumed, ApprovalExpired
from channels.events.approvals import ApprovalConsumedData, ApprovalExpiredData
from channels.reduce_approvals import OpenApprovals

from .strategies import EVENT_CLASSES

GOLDEN = json.loads((Path(__file__).parent / "golden_events.json").read_text(encoding="utf-8"))
decoder = EventDecoder(EVENT_CLASSES)


def event(name, **data):
    """Return a golden event of approvals about gate ``g``."""
    raw = GOLDEN[f"approval.{name}"]
    return decoder.decode(json.dumps(raw | {"data": raw["data"] | {"gate": "g"} | data}).encode())


def test_a_request_opens_and_an_end_closes():
    """Every end does, and only once."""
    for end in ("approved", "edited", "rejected", "expired", "cancelled"):
        approvals = OpenApprovals()
        assert approvals.apply(event("requested"))
        assert list(approvals.gates) == ["g"]
        options = {"outcome": "rejected"} if end == "expired" else {}
        assert approvals.apply(event(end, **options))
        assert not approvals.gates
        assert not approvals.apply(event(end, **options))


def test_a_vote_counts_and_an_edit_begins_anew():
    """Votes are for the same arguments."""
    approvals = OpenApprovals()
    approvals.apply(event("requested"))
    approvals.apply(event("voted", verdict="approve", payload=None, version=2, decision="d1"))
    assert [vote.decision for vote in approvals.gates["g"].votes] == ["d1"]
    approvals.apply(event("voted", verdict="edit", payload={"a": 1}, version=3, decision="d2"))
    gate = approvals.gates["g"]
    assert [vote.decision for vote in gate.votes] == ["d2"]
    assert (gate.proposed, gate.version) == ({"a": 1}, 3)
    assert not approvals.apply(event("voted", version=3))


def test_an_escalation_changes_who_may_decide():
    """And until when."""
    approvals = OpenApprovals()
    approvals.apply(event("requested"))
    told = event("escalated", version=2)
    assert approvals.apply(told)
    gate = approvals.gates["g"]
    assert (gate.approvers, gate.expires_at) == (told.data.approvers, told.data.expires_at)


@pytest.mark.parametrize(
    "nothing",
    [
        ApprovalConsumed(data=ApprovalConsumedData(workspace="w1", gate="g")),
        ApprovalExpired(data=ApprovalExpiredData(workspace="w1", gate="g", outcome="escalated")),
        event("voted"),
    ],
)
def test_what_is_not_about_an_open_gate_changes_nothing(nothing):
    """Its use, a gate that is not known, an escalation told the old way."""
    assert not OpenApprovals().apply(nothing)


def test_gates_in_brief_and_those_that_are_only_counted_end_too():
    """What is unknown was counted; what was requested since is known."""
    approvals = OpenApprovals(
        b'{"workspace":"w1","gates":[],"more":1,"brief":[{"gate":"b","version":1,"tool":"t",'
        b'"created_at":"2026-01-02T03:04:05Z"}]}'
    )
    assert approvals.apply(event("requested", gate="new"))
    for gate in ("b", "new", "old"):
        assert approvals.apply(event("approved", gate=gate))
    assert (approvals.gates, approvals.brief, approvals.more) == ({}, {}, 0)
    assert not approvals.apply(event("approved", gate="older"))
