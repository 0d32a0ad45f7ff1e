"""Approval gates on a real server: who may decide what, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from channels.canonical import digest
from channels.errors import (
    BadRequest,
    Conflict,
    LimitExceeded,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    VersionConflict,
)
from services import approval_store
from services.gate import AlreadyDecided
from services.store.port import Store
from services.store.tcp import TcpStore

from .approval_support import Stage, assert_agreement

ARGS = {"to": "ann@example.com", "amount": 5}


@pytest.fixture
def store(any_store: Store) -> Store:
    """Of each kind: a service must not see a difference."""
    return any_store


@pytest.fixture
async def stage(store) -> Stage:
    """Approvals on an empty server, at a time that stands still."""
    return Stage(store)


@pytest.fixture
def approvals(stage):
    """Those of one workspace."""
    return stage.of()


async def ask(approvals, **options):
    """Request a gate ``g``."""
    return await approvals.request(
        "pay", ARGS, **{"gate_id": "g", "requested_by": "agent"} | options
    )


async def say(approvals, verdict="approve", *, actor="ann", decision_id="d1", **options):
    """Decide gate ``g``."""
    return await approvals.decide("g", verdict, actor=actor, decision_id=decision_id, **options)


# -- requesting -----------------------------------------------------------------------------


async def test_a_request_opens_a_gate_and_tells_of_it(stage, approvals):
    """State, event, list and audit agree on what was asked."""
    gate = await ask(approvals, run="r1", reason="invoice 7", thread_id="t", interrupt_id="i")
    assert gate == await approvals.get("g")
    assert (gate.status, gate.version, gate.args, gate.args_sha256) == (
        "pending",
        1,
        ARGS,
        digest(ARGS),
    )
    assert gate.expires_at - gate.created_at == timedelta(hours=1)
    (event,) = await stage.events()
    assert event.time == gate.created_at
    for field in event.data.__struct_fields__:
        assert getattr(event.data, field) == getattr(gate, field), field
    assert (await approvals.list_open()).items == [gate]
    (entry,) = (await approvals.audit("g")).items
    assert (entry.event, entry.actor, entry.status) == (event.id, "agent", "pending")


async def test_a_request_is_idempotent_by_its_gate_id(stage, approvals):
    """Asked ten times at once, and again after the decision, it is one gate."""
    gates = await asyncio.gather(*(ask(approvals, run=f"r{n}") for n in range(10)))
    assert all(gate == gates[0] for gate in gates)
    decided = await say(approvals)
    assert await ask(approvals) == decided
    assert await stage.types() == ["requested", "approved"]


_ASKED = {"approvers": ["boss", "cfo"], "quorum": 2}
_LATER = {"on_timeout": "escalate", "escalate_to": ["ceo", "cfo"]}


@pytest.mark.parametrize(
    ("there", "asked", "what"),
    [
        ({"approvers": ["boss", "cfo"]}, _ASKED, "quorum"),
        ({**_ASKED, "allow_self": True}, _ASKED, "allow_self"),
        ({**_ASKED, "on_timeout": "approve"}, _ASKED, "on_timeout"),
        ({"quorum": 2}, _ASKED, "approvers"),
        ({**_ASKED, "approvers": ["boss", "mal"]}, _ASKED, "approvers"),
        ({**_ASKED, **_LATER}, _ASKED, "approvers"),
        ({**_ASKED, "on_timeout": "escalate"}, _ASKED, "approvers"),
        ({**_ASKED, "on_timeout": "escalate"}, {**_ASKED, **_LATER}, "approvers"),
        (_ASKED, {}, ""),
        (_ASKED, {**_ASKED, "approvers": ["cfo", "boss", "ceo"]}, ""),
        ({**_ASKED, **_LATER}, {**_ASKED, **_LATER}, ""),
        ({"on_timeout": "approve"}, {"on_timeout": "approve"}, ""),
        ({"allow_self": True}, {"allow_self": True}, ""),
    ],
    ids=repr,
)
async def test_a_gate_that_takes_less_is_not_taken(approvals, there, asked, what):
    """Whoever opens a gate of the same id first does not choose who approves it."""
    gate = await ask(approvals, **there)
    if what:
        with pytest.raises(Conflict, match=f"another .*{what}"):
            await ask(approvals, **asked)
    else:
        assert await ask(approvals, **asked) == gate


async def test_the_gate_there_is_may_have_been_escalated(stage, approvals):
    """Asked for again it is the same one, also where everybody may decide it then."""
    for number, more in enumerate((_LATER, {"on_timeout": "escalate"})):
        asked = {"gate_id": f"g{number}", "expires_in_s": 10, **_ASKED, **more}
        await ask(approvals, **asked)
        stage.hand.move(11)
        gate = await approvals.get(f"g{number}")
        assert gate.escalated_at is not None
        assert await ask(approvals, **asked) == gate


@pytest.mark.parametrize(
    "other", [{"tool": "other"}, {"args": {"to": "b"}}, {"requested_by": "somebody"}]
)
async def test_a_gate_id_stands_for_one_action(approvals, other):
    """The same id for other arguments is refused: an approval must not be for two things."""
    await ask(approvals)
    asked = {"tool": "pay", "args": ARGS, "gate_id": "g", "requested_by": "agent"} | other
    with pytest.raises(Conflict, match="gate 'g' is for 'pay'"):
        await approvals.request(**asked)


@pytest.mark.parametrize(
    "wrong",
    [
        {"gate_id": "a:b"}, {"gate_id": ""}, {"requested_by": "a b"}, {"approvers": "ann"},
        {"approvers": ["a*"]}, {"quorum": 0}, {"approvers": ["ann"], "quorum": 2},
        {"approvers": ["ann", "ann"], "quorum": 2}, {"approvers": ["agent"]},
        {"approvers": ["ann", "agent"], "quorum": 2}, {"expires_in_s": 0},
        {"expires_in_s": float("nan")}, {"expires_in_s": 1e9}, {"on_timeout": "maybe"},
        {"on_timeout": "escalate", "expires_in_s": None}, {"escalate_to": ["bob"]},
        {"escalate_in_s": 5}, {"on_timeout": "escalate", "escalate_in_s": -1},
        {"response_schema": {"type": "nonsense"}}, {"reason": "x" * 4001},
        {"on_timeout": "escalate", "escalate_to": ["bob"], "quorum": 2},
    ],
    ids=repr,
)  # fmt: skip
async def test_a_wrong_request_opens_nothing(stage, approvals, wrong):
    """It is refused before anything is written."""
    with pytest.raises(BadRequest):
        await ask(approvals, **wrong)
    assert await stage.store.execute("DBSIZE") == 0


@pytest.mark.parametrize(
    "args", [{"n": 2**53}, {"n": float("inf")}, {"t": "\ud800"}, {"o": object()}, {1: 2}]
)
async def test_arguments_are_what_a_browser_can_show(approvals, args):
    """What would be shown as something else cannot be approved."""
    with pytest.raises(BadRequest):
        await approvals.request("pay", args)


async def test_arguments_are_bounded(approvals):
    """They travel in an event, which is bounded."""
    with pytest.raises(LimitExceeded):
        await approvals.request("pay", {"text": "x" * 70_000})


async def test_open_gates_are_bounded(approvals, monkeypatch):
    """A workspace has so many open gates and no more; one that is decided makes room."""
    monkeypatch.setattr(approval_store, "MAX_OPEN", 2)
    await ask(approvals)
    await approvals.request("pay", ARGS, gate_id="g2")
    with pytest.raises(LimitExceeded, match="2 open gates"):
        await approvals.request("pay", ARGS, gate_id="g3")
    await say(approvals)
    await approvals.request("pay", ARGS, gate_id="g3")


# -- deciding -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "payload", "status"),
    [
        ("approve", None, "approved"),
        ("approve", {"note": "fine"}, "approved"),
        ("edit", {"to": "bob@example.com"}, "edited"),
        ("reject", None, "rejected"),
    ],
)
async def test_a_decision_is_kept_told_and_audited(stage, approvals, verdict, payload, status):
    """All three say the same, and the gate is open no more."""
    await ask(approvals)
    stage.hand.move(7)
    gate = await say(approvals, verdict, payload=payload, comment="because")
    assert gate == await approvals.get("g")
    assert (gate.status, gate.version) == (status, 2)
    assert gate.decision.at == gate.ended_at == gate.created_at + timedelta(seconds=7)
    assert (gate.decision.actor, gate.decision.comment, gate.answer) == ("ann", "because", payload)
    event = (await stage.events())[-1]
    assert (event.data.decision, event.data.actor, event.data.payload) == ("d1", "ann", payload)
    assert event.data.version == 2
    approved = payload if verdict == "edit" else ARGS
    if status != "rejected":
        assert gate.approved_args == approved
        assert gate.digest == event.data.args_sha256 == digest(approved)
    assert gate.dispatchable == (status != "rejected")
    assert (await approvals.list_open()).items == []
    assert (await approvals.list_dispatchable()).items == ([gate] if gate.dispatchable else [])
    entry = (await approvals.audit("g")).items[-1]
    assert (entry.what, entry.status, entry.actor, entry.decision, entry.event, entry.at) == (
        f"approval.{status}", status, "ann", "d1", event.id, event.time,
    )  # fmt: skip
    assert entry.data == msgspec.to_builtins(event.data)


async def test_the_first_answer_wins_and_the_others_are_told(stage, approvals):
    """Everybody who comes later is given the decision that stands."""
    await ask(approvals)
    answers = await asyncio.gather(
        *(
            say(approvals, ("approve", "reject")[n % 2], actor=f"a{n}", decision_id=f"d{n}")
            for n in range(20)
        ),
        return_exceptions=True,
    )
    (won,) = [gate for gate in answers if not isinstance(gate, BaseException)]
    for lost in answers:
        if lost is not won:
            assert type(lost) is AlreadyDecided
            assert lost.gate == won
            assert repr(won.decision.actor) in lost.message
    assert len(await stage.types()) == len((await approvals.audit()).items) == 2


async def test_a_decision_repeated_is_the_same_answer(stage, approvals):
    """After any time, also when the gate was used since; the id of another one is refused."""
    await ask(approvals)
    gate = await say(approvals)
    assert await say(approvals) == gate
    used = await approvals.consume("g", run="r1", args_sha256=gate.digest)
    assert await say(approvals) == used
    for other in ({"actor": "bob"}, {"verdict": "reject"}, {"comment": "no"}, {"payload": 1}):
        with pytest.raises(Conflict, match="'d1' was approve by 'ann'"):
            await say(approvals, **other)
    assert await stage.types() == ["requested", "approved", "consumed"]


async def test_a_decision_that_lost_stays_lost(approvals):
    """Repeating it tells the winner again."""
    await ask(approvals)
    await say(approvals)
    for _ in range(2):
        with pytest.raises(AlreadyDecided) as told:
            await say(approvals, "reject", actor="bob", decision_id="d2")
        assert told.value.gate.decision.decision == "d1"


async def test_only_approvers_decide(stage, approvals):
    """Who is none is refused and noted, beside the audit."""
    await ask(approvals, approvers=["ann", "bob"])
    for verdict in ("approve", "reject"):
        with pytest.raises(PermissionDenied, match="'eve' is none of those"):
            await say(approvals, verdict, actor="eve")
    assert [(one.actor, one.verdict) for one in await approvals.refused()] == [
        ("eve", "reject"),
        ("eve", "approve"),
    ]
    assert len((await approvals.audit()).items) == 1
    assert (await say(approvals, actor="bob")).status == "approved"


async def test_nobody_decides_what_they_asked_for(approvals):
    """Unless the gate says so."""
    await ask(approvals, requested_by="ann")
    with pytest.raises(PermissionDenied, match="somebody else decides it"):
        await say(approvals, actor="ann")
    await ask(approvals, gate_id="own", requested_by="ann", allow_self=True)
    assert (await approvals.decide("own", "approve", actor="ann", decision_id="d")).dispatchable


async def test_a_decision_is_for_the_version_that_was_seen(approvals):
    """And for the arguments that were seen, where they are named."""
    await ask(approvals)
    with pytest.raises(VersionConflict) as told:
        await say(approvals, expected_version=2)
    assert told.value.current == 1
    with pytest.raises(VersionConflict):
        await say(approvals, args_sha256=digest({"to": "eve"}))
    assert (await say(approvals, expected_version=1, args_sha256=digest(ARGS))).dispatchable


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": "maybe"}, {"actor": ""}, {"actor": "a:b"}, {"decision_id": "x y"},
        {"verdict": "edit"}, {"verdict": "edit", "payload": [1]},
        {"verdict": "reject", "payload": {}}, {"comment": "x" * 4001}, {"payload": {1, 2}},
    ],
    ids=repr,
)  # fmt: skip
async def test_a_wrong_decision_changes_nothing(approvals, wrong):
    """It is refused and the gate is as it was."""
    gate = await ask(approvals)
    with pytest.raises(BadRequest):
        await say(approvals, **wrong)
    assert await approvals.get("g") == gate


async def test_an_edit_fits_the_schema(approvals):
    """So does an answer; what does not changes nothing."""
    schema = {
        "type": "object",
        "properties": {"to": {"type": "string"}, "amount": {"type": "integer", "maximum": 10}},
        "required": ["to", "amount"],
        "additionalProperties": False,
    }
    await ask(approvals, response_schema=schema)
    for payload in ({"to": "b"}, {"to": "b", "amount": 11}, {"to": 1, "amount": 1}, 7):
        for verdict in ("edit", "approve"):
            with pytest.raises(BadRequest, match="schema at"):
                await say(approvals, verdict, payload=payload)
    gate = await say(approvals, "edit", payload={"to": "b", "amount": 10})
    assert gate.approved_args == {"to": "b", "amount": 10}


@pytest.mark.filterwarnings("ignore")  # where something would be fetched, a warning is no help
@pytest.mark.parametrize("place", ["file", "http", "nowhere"])
async def test_a_schema_fetches_nothing(approvals, tmp_path, place):
    """A reference to elsewhere is an error, also where there is a schema that fits."""
    (tmp_path / "schema.json").write_text("{}", encoding="utf-8")
    with contextlib.ExitStack() as servers:
        reference = "#/nowhere"
        if place == "file":
            reference = (tmp_path / "schema.json").as_uri()
        elif place == "http":
            handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
            server = servers.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.callback(server.shutdown)
            reference = f"http://127.0.0.1:{server.server_port}/schema.json"
        await ask(approvals, response_schema={"$ref": reference})
        with pytest.raises(BadRequest, match="cannot be applied"):
            await say(approvals, "edit", payload={})


# -- several people -------------------------------------------------------------------------


async def test_a_quorum_is_of_different_people(stage, approvals):
    """Each counts once; the one who completes it decides."""
    await ask(approvals, approvers=["ann", "bob", "cy"], quorum=2)
    gate = await say(approvals)
    assert (gate.status, gate.version, [one.actor for one in gate.votes]) == ("pending", 2, ["ann"])
    assert await say(approvals) == gate
    with pytest.raises(Conflict, match="'ann' has voted"):
        await say(approvals, decision_id="d2")
    gate = await say(approvals, actor="bob", decision_id="d3")
    assert (gate.status, gate.decision.actor) == ("approved", "bob")
    assert [one.actor for one in gate.votes] == ["ann", "bob"]
    assert await stage.types() == ["requested", "voted", "approved"]
    voted = (await stage.events())[1].data
    assert (voted.votes, voted.quorum, voted.verdict) == (1, 2, "approve")


async def test_one_who_rejects_is_enough(approvals):
    """However many agreed before."""
    await ask(approvals, quorum=3)
    await say(approvals)
    await say(approvals, actor="bob", decision_id="d2")
    gate = await say(approvals, "reject", actor="ann", decision_id="d3")
    assert (gate.status, gate.decision.actor) == ("rejected", "ann")
    assert not gate.dispatchable


async def test_a_quorum_agrees_on_the_same_arguments(approvals):
    """An edit begins anew, and nobody approves what they have not seen."""
    edited = {"to": "bob@example.com"}
    await ask(approvals, quorum=2)
    await say(approvals)
    gate = await say(approvals, "edit", actor="bob", decision_id="d2", payload=edited)
    assert (gate.status, [one.actor for one in gate.votes]) == ("pending", ["bob"])
    assert (gate.proposed, gate.digest) == (edited, digest(edited))
    with pytest.raises(VersionConflict, match="were edited"):
        await say(approvals, actor="cy", decision_id="d3")
    with pytest.raises(VersionConflict):
        await say(approvals, actor="cy", decision_id="d3", args_sha256=digest(ARGS))
    # The first one may agree again, to what stands there now.
    gate = await say(approvals, decision_id="d4", args_sha256=digest(edited))
    assert (gate.status, gate.approved_args) == ("edited", edited)
    assert await say(approvals) == gate  # a vote that counts no more was said all the same
    used = await approvals.consume("g", run="r", args_sha256=digest(edited))
    assert used.status == "consumed"


async def test_many_at_once_make_one_quorum(stage, approvals):
    """Of twenty people three complete it; the others come too late."""
    await ask(approvals, quorum=3)
    answers = await asyncio.gather(
        *(say(approvals, actor=f"a{n}", decision_id=f"d{n}") for n in range(20)),
        return_exceptions=True,
    )
    assert sum(not isinstance(one, AlreadyDecided) for one in answers) == 3
    assert await stage.types() == ["requested", "voted", "voted", "approved"]


async def test_what_is_said_of_a_gate_is_bounded(approvals):
    """Edits without end do not make it grow without end; a rejection still ends it."""
    await ask(approvals, quorum=2)

    async def edit_without_end() -> None:
        for n in range(100):
            await say(approvals, "edit", decision_id=f"d{n}", payload={"t": str(n) * 10_000})

    with pytest.raises(LimitExceeded, match="all that was said"):
        await edit_without_end()
    assert (await say(approvals, "reject", decision_id="no")).status == "rejected"


# -- cancelling and using -------------------------------------------------------------------


async def test_a_request_is_taken_back_once(stage, approvals):
    """Again is the same; a decision comes too late then, and the other way round."""
    await ask(approvals)
    gate = await approvals.cancel("g", actor="agent", reason="no need", op_id="op1")
    assert (gate.status, gate.cancelled_by, gate.cancel_reason) == ("cancelled", "agent", "no need")
    assert await approvals.cancel("g", actor="agent", op_id="op1") == gate
    with pytest.raises(AlreadyDecided):
        await say(approvals)
    assert [event.id for event in await stage.events()][1:] == ["op1"]
    await ask(approvals, gate_id="g2")
    await approvals.decide("g2", "approve", actor="ann", decision_id="d")
    with pytest.raises(AlreadyDecided):
        await approvals.cancel("g2")


async def test_an_approval_is_used_once(stage, approvals):
    """By one run, for the arguments that were approved; that run may ask again."""
    await ask(approvals)
    with pytest.raises(Conflict, match="is pending"):
        await approvals.consume("g", run="r1", args_sha256=digest(ARGS))
    await say(approvals, "edit", payload={"to": "bob"})
    with pytest.raises(VersionConflict, match="was approved for arguments"):
        await approvals.consume("g", run="r1", args_sha256=digest(ARGS))
    with pytest.raises(BadRequest):
        await approvals.consume("g", run="r1", args_sha256="")
    right = digest({"to": "bob"})
    answers = await asyncio.gather(
        *(approvals.consume("g", run=f"r{n % 4}", args_sha256=right) for n in range(12)),
        return_exceptions=True,
    )
    won = [one for one in answers if not isinstance(one, AlreadyDecided)]
    assert len(won) == 3  # one run, three times
    assert len({gate.consumed_by for gate in won}) == 1
    assert (await stage.types())[-1] == "consumed"
    assert len(await stage.types()) == 3
    assert (await approvals.list_dispatchable()).items == []


async def test_without_a_run_nobody_is_answered_twice(approvals):
    """Two callers who name no run are not taken for one."""
    await ask(approvals)
    gate = await say(approvals)
    await approvals.consume("g", args_sha256=gate.digest)
    with pytest.raises(AlreadyDecided, match="was used by"):
        await approvals.consume("g", args_sha256=gate.digest)


@pytest.mark.parametrize("verdict", ["reject", "cancel"])
async def test_what_was_refused_is_never_used(approvals, verdict):
    """Neither by its arguments nor by any others."""
    gate = await ask(approvals)
    await (approvals.cancel("g") if verdict == "cancel" else say(approvals, "reject"))
    with pytest.raises(AlreadyDecided):
        await approvals.consume("g", args_sha256=gate.digest)


# -- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_timeout", "status"), [("reject", "expired"), ("approve", "approved")])
async def test_a_gate_ends_by_itself(stage, approvals, on_timeout, status):
    """At its deadline, not before, once, whoever sweeps; and tells of it."""
    await ask(approvals, expires_in_s=10, on_timeout=on_timeout)
    stage.hand.move(9.999)
    await stage.context.sweeper.sweep()
    assert (await approvals.get("g")).open
    stage.hand.move(0.001)
    await asyncio.gather(*(stage.context.sweeper.sweep() for _ in range(5)))
    gate = await approvals.get("g")
    assert (gate.status, gate.decision, gate.version) == (status, None, 2)
    assert gate.ended_at == gate.expires_at
    assert await stage.types() == ["requested", "expired"]
    outcome = "rejected" if status == "expired" else "approved"
    assert (await stage.events())[-1].data.outcome == outcome
    assert await stage.store.execute("ZCARD", stage.context.keys.due("w1")) == 0
    assert (await approvals.list_open()).items == []
    assert bool((await approvals.list_dispatchable()).items) == (status == "approved")


async def test_a_late_decision_finds_the_gate_ended(stage, approvals):
    """Nobody swept: the decision itself ends the gate, and tells of that only."""
    await ask(approvals, expires_in_s=10)
    stage.hand.move(10)
    with pytest.raises(AlreadyDecided) as told:
        await say(approvals)
    assert told.value.gate.status == "expired"
    assert await stage.types() == ["requested", "expired"]


async def test_looking_ends_what_is_over(stage, approvals):
    """Nobody is shown as open what nobody can decide any more."""
    await ask(approvals, expires_in_s=10)
    stage.hand.move(11)
    assert (await approvals.get("g")).status == "expired"


async def test_others_decide_what_nobody_decided(stage, approvals):
    """After the deadline the escalation's approvers have a deadline of their own."""
    await ask(
        approvals, approvers=["ann"], expires_in_s=10, on_timeout="escalate",
        escalate_to=["boss"], escalate_in_s=60,
    )  # fmt: skip
    stage.hand.move(10)
    await stage.context.sweeper.sweep()
    gate = await approvals.get("g")
    assert (gate.open, gate.approvers, gate.version) == (True, ["boss"], 2)
    assert gate.expires_at - gate.created_at == timedelta(seconds=70)
    told = (await stage.events())[-1]
    assert (told.data.approvers, told.data.expires_at) == (["boss"], gate.expires_at)
    with pytest.raises(PermissionDenied):
        await say(approvals)
    assert (await say(approvals, actor="boss")).status == "approved"
    assert await stage.types() == ["requested", "escalated", "approved"]


async def test_an_escalation_ends_too(stage, approvals):
    """When the others say nothing either, the gate is rejected."""
    await ask(approvals, expires_in_s=10, on_timeout="escalate", escalate_to=["boss"])
    stage.hand.move(10)
    await stage.context.sweeper.sweep()
    stage.hand.move(9)
    await stage.context.sweeper.sweep()
    assert (await approvals.get("g")).open
    stage.hand.move(1)
    await stage.context.sweeper.sweep()
    assert (await approvals.get("g")).status == "expired"
    assert await stage.types() == ["requested", "escalated", "expired"]


async def test_an_approver_of_the_escalation_may_be_first_to_notice(stage, approvals):
    """A decision that comes at the deadline escalates and then holds, in order."""
    await ask(approvals, approvers=["ann"], expires_in_s=10, on_timeout="escalate",
              escalate_to=["boss"])  # fmt: skip
    stage.hand.move(10)
    assert (await say(approvals, actor="boss")).status == "approved"
    assert await stage.types() == ["requested", "escalated", "approved"]


async def test_silence_does_not_approve_what_somebody_changed(stage, approvals):
    """Other arguments were proposed and not agreed to: neither these nor those run."""
    await ask(approvals, quorum=2, expires_in_s=10, on_timeout="approve")
    await say(approvals, "edit", payload={"to": "bob"})
    stage.hand.move(10)
    assert (await approvals.get("g")).status == "expired"


async def test_without_a_deadline_a_gate_waits(stage, approvals):
    """It does not end, and its key does not either."""
    await ask(approvals, expires_in_s=None)
    stage.hand.move(400 * 86_400)
    await stage.context.sweeper.sweep()
    assert (await approvals.get("g")).open
    assert await stage.store.execute("PTTL", stage.context.keys.approval("w1", "g")) == -1


async def test_keys_outlive_what_they_say(stage, approvals):
    """The end is told long before Redis would forget the gate."""
    await ask(approvals, expires_in_s=10)
    key = stage.context.keys.approval("w1", "g")
    assert await stage.store.execute("PTTL", key) > 89 * 86_400_000
    await say(approvals)
    assert await stage.store.execute("PTTL", key) > 89 * 86_400_000


async def test_a_deadline_of_a_gate_that_is_gone_is_forgotten(stage, approvals):
    """The sweeper does not look for it for ever."""
    await ask(approvals, expires_in_s=10)
    keys = stage.context.keys
    await stage.store.execute("DEL", keys.approval("w1", "g"), keys.approvals_open_gates("w1"))
    stage.hand.move(10)
    await stage.context.sweeper.sweep()
    assert await stage.store.execute("EXISTS", keys.due("w1"), keys.approvals_open("w1")) == 0


async def test_an_open_gate_that_redis_forgot_ends_all_the_same(stage, approvals):
    """Nobody swept for months, or Redis made room: its end is told, and it counts no more."""
    await ask(approvals, expires_in_s=10)
    keys = stage.context.keys
    await stage.store.execute("DEL", keys.approval("w1", "g"))
    stage.hand.move(10)
    await asyncio.gather(approvals.expire("g"), approvals.expire("g"))
    assert await stage.types() == ["requested", "expired"]
    left = (keys.due("w1"), keys.approvals_open("w1"), keys.approvals_open_gates("w1"))
    assert await stage.store.execute("EXISTS", *left) == 0
    assert (await approvals.get("g")).status == "expired"


async def test_what_a_workspace_keeps_of_its_gates_ends(stage, approvals):
    """Also where nobody asks for anything any more."""
    await ask(approvals, approvers=["ann"])
    with pytest.raises(PermissionDenied):
        await say(approvals, actor="eve")
    await say(approvals)
    keys, day = stage.context.keys, 86_400_000
    for key, days in (
        (keys.approvals("w1"), 456),
        (keys.approvals_ready("w1"), 90),
        (keys.approvals_audit("w1"), 400),
        (keys.approvals_refused("w1"), 400),
    ):
        assert (days - 1) * day < await stage.store.execute("PTTL", key) <= days * day


async def test_decisions_alone_keep_house(stage, approvals):
    """Where each hour begins with one, and never with a request."""
    await ask(approvals, gate_id="old")
    await stage.store.execute("ZADD", stage.context.keys.approvals_ready("w1"), 1, "lost")
    await ask(approvals, expires_in_s=None)
    stage.hand.move(500 * 86_400)
    await say(approvals)
    for key in (stage.context.keys.approvals("w1"), stage.context.keys.approvals_ready("w1")):
        members = await stage.store.execute("ZRANGE", key, 0, -1)
        assert members == ([] if key.endswith("approvals") else [b"g"])


async def test_a_page_of_what_is_large_is_short(stage, approvals):
    """And goes on where it ended: nobody reads a hundred megabytes at once."""
    for n in range(130):
        await approvals.request("pay", {"text": "x" * 60_000}, gate_id=f"g{n}")
    found, pages, cursor = [], 0, ""
    while pages == 0 or cursor:
        page = await approvals.list_open(limit=500, cursor=cursor)
        found += [gate.gate for gate in page.items]
        pages, cursor = pages + 1, page.next
    assert pages == 2
    assert sorted(found) == sorted(f"g{n}" for n in range(130))
    for gate in (None, "g7"):
        found, pages, cursor = [], 0, ""
        while pages == 0 or cursor:
            page = await approvals.audit(gate, limit=500, cursor=cursor)
            found += [entry.gate for entry in page.items]
            pages, cursor = pages + 1, page.next
        assert pages == (2 if gate is None else 1)
        assert found == ([f"g{n}" for n in range(130)] if gate is None else ["g7"])


# -- lists ----------------------------------------------------------------------------------


async def test_lists_are_paged_newest_first(stage, approvals):
    """Every gate once, also of many in one millisecond, and while others are decided."""
    ids = []
    for n in range(23):
        ids.append((await approvals.request("pay", ARGS, gate_id=f"g{n:02}")).gate)
        stage.hand.move(0.001 * (n % 3 == 0))
    found, cursor, pages = [], "", 0
    while True:
        page = await approvals.list(limit=5, cursor=cursor)
        found += [gate.gate for gate in page.items]
        pages += 1
        if not page.next:
            break
        cursor = page.next
        await approvals.decide(page.items[-1].gate, "reject", actor="ann", decision_id="d")
    assert sorted(found) == ids
    assert pages == 5
    times = [(await approvals.get(id_)).created_at for id_ in found]
    assert times == sorted(times, reverse=True)
    opened = (await approvals.list_open(limit=100)).items
    assert len(opened) == 19


@pytest.mark.parametrize("protocol", [2, 3])
async def test_lists_are_the_same_in_both_protocols(valkey, protocol):
    """Scores come as text in RESP2 and as numbers in RESP3."""
    separator = "&" if "?" in valkey.url else "?"
    async with TcpStore(f"{valkey.url}{separator}protocol={protocol}") as spoken:
        stage = Stage(spoken)
        approvals = stage.of()
        for n in range(5):
            await approvals.request("pay", ARGS, gate_id=f"g{n}", expires_in_s=1)
            stage.hand.move(0.001)
        first = await approvals.list_open(limit=3)
        rest = await approvals.list_open(limit=3, cursor=first.next)
        assert [gate.gate for gate in [*first.items, *rest.items]] == ["g4", "g3", "g2", "g1", "g0"]
        await approvals.decide("g0", "approve", actor="ann", decision_id="d")
        stage.hand.move(10)
        await stage.context.sweeper.sweep()
        await assert_agreement(stage, "w1")
        assert (await approvals.list_dispatchable()).items[0].gate == "g0"


@pytest.mark.parametrize("cursor", ["x", "1", "1:", ":g", "-1:g", "1e5:g", "²:g"])
async def test_a_foreign_cursor_is_refused(approvals, cursor):
    """It is the caller's mistake, not the server's."""
    for call in (approvals.list, approvals.list_open, approvals.list_dispatchable):
        with pytest.raises(BadRequest):
            await call(cursor=cursor)
    with pytest.raises(BadRequest):
        await approvals.audit(cursor=cursor)


@pytest.mark.parametrize(
    "cursor", ["0-0", "1-", "-1", "18446744073709551615-18446744073709551615", f"{10**20}-0"]
)
async def test_a_cursor_that_no_page_of_the_audit_gave(approvals, cursor):
    """Redis is not asked what it would refuse."""
    await ask(approvals)
    for newest_first in (False, True):
        with pytest.raises(BadRequest, match="expected a cursor"):
            await approvals.audit(cursor=cursor, newest_first=newest_first)


async def test_a_page_of_the_audit_is_bounded_in_bytes(approvals):
    """However much people said: a page ends after 4 MiB, and the next one goes on from there."""
    large = {"text": "x" * 60_000}
    for number in range(80):
        await approvals.request("pay", large, gate_id=f"g{number}")
    await approvals.decide("g79", "approve", actor="ann", decision_id="d1")
    pages, cursor = [], ""
    while True:
        page = await approvals.audit(limit=500, cursor=cursor)
        pages.append([entry.gate for entry in page.items])
        cursor = page.next
        if not cursor:
            break
    assert [gate for page in pages for gate in page] == [f"g{n}" for n in range(80)] + ["g79"]
    assert 2 <= len(pages) < 5
    one, cursor = [], ""
    for _ in range(5):
        page = await approvals.audit("g79", cursor=cursor)
        one += [entry.what for entry in page.items]
        cursor = page.next
        if not cursor:
            break
    assert one == ["approval.requested", "approval.approved"]


async def test_the_audit_is_paged_both_ways(approvals):
    """In order, every entry once, of all gates and of one."""
    for n in range(6):
        await approvals.request("pay", ARGS, gate_id=f"g{n}")
        await approvals.decide(f"g{n}", "approve", actor="ann", decision_id="d")
    for newest_first in (False, True):
        seen, cursor = [], ""
        while True:
            page = await approvals.audit(limit=5, cursor=cursor, newest_first=newest_first)
            seen += [(entry.gate, entry.version) for entry in page.items]
            cursor = page.next
            if not cursor:
                break
        expected = [(f"g{n}", version) for n in range(6) for version in (1, 2)]
        assert seen == (expected[::-1] if newest_first else expected)
    entries = (await approvals.audit("g3")).items
    assert [(entry.gate, entry.version) for entry in entries] == [("g3", 1), ("g3", 2)]
    first = await approvals.audit("g3", limit=1)
    rest = await approvals.audit("g3", limit=1, cursor=first.next)
    assert [*first.items, *rest.items] == entries


# -- tenants --------------------------------------------------------------------------------


async def test_another_workspace_does_not_exist(stage, approvals):
    """Neither by id nor in lists, audit and snapshot; its gates may have the same ids."""
    await ask(approvals)
    others = stage.of("w2")
    for call in (
        others.get("g"),
        others.decide("g", "approve", actor="ann", decision_id="d"),
        others.cancel("g"),
        others.consume("g", args_sha256=digest(ARGS)),
        others.wait("g", timeout_s=1),
    ):
        with pytest.raises(NotFound):
            await call
    assert (await others.list()).items == (await others.list_open()).items == []
    assert (await others.audit()).items == (await others.audit("g")).items == []
    theirs = await others.request("other", {}, gate_id="g")
    await others.decide("g", "reject", actor="ann", decision_id="d1")
    assert (await approvals.get("g")).open
    assert theirs.workspace == "w2"
    assert await stage.types("w1") == ["requested"]


@pytest.mark.parametrize(
    "gate", ["w2:g", "}:g", "{w2}", "g\n", "*", "", "../g", "x" * 65, "g:", "g\x00", "open:gates"]
)
async def test_separators_lead_nowhere(approvals, gate):
    """An id with one is no id, whatever is asked with it."""
    for call in (
        approvals.get(gate),
        approvals.request("pay", ARGS, gate_id=gate),
        approvals.decide(gate, "approve", actor="ann", decision_id="d"),
        approvals.decide("g", "approve", actor=gate, decision_id="d"),
        approvals.cancel(gate),
        approvals.consume(gate, args_sha256=digest(ARGS)),
        approvals.audit(gate),
        approvals.wait(gate),
    ):
        with pytest.raises(BadRequest):
            await call


# -- unknown outcomes -----------------------------------------------------------------------


class _Doubtful:
    """A store whose replies to scripts get lost: the script ran, or it did not."""

    def __init__(self, store, *, ran: bool, times: int) -> None:
        self._store = store
        self.ran = ran
        self.times = times

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def run(self, script, keys, args, *, timeout_s=None):
        if self.times:
            self.times -= 1
            if self.ran:
                await self._store.run(script, keys, args, timeout_s=timeout_s)
            raise OutcomeUnknown("no reply")
        return await self._store.run(script, keys, args, timeout_s=timeout_s)


@pytest.mark.parametrize("ran", [True, False])
async def test_a_lost_reply_is_cleared_up(stage, store, ran):
    """Whether the script ran or not, each change is there once and is returned."""
    doubtful = _Doubtful(store, ran=ran, times=0)
    shaky = Stage(doubtful)
    shaky.hand = stage.hand
    approvals = shaky.of()
    doubtful.times = 1
    gate = await ask(approvals)
    assert gate == await stage.of().get("g")
    doubtful.times = 1
    gate = await say(approvals)
    doubtful.times = 1
    await approvals.consume("g", args_sha256=gate.digest)
    await ask(approvals, gate_id="g2")
    doubtful.times = 1
    await approvals.cancel("g2")
    assert await stage.types() == ["requested", "approved", "consumed", "requested", "cancelled"]


async def test_doubt_that_stays_is_told(stage, store):
    """After a few tries the caller learns that it may have happened."""
    doubtful = _Doubtful(store, ran=True, times=100)
    with pytest.raises(OutcomeUnknown):
        await ask(Stage(doubtful).of())
    assert (await stage.of().get("g")).open


# -- commands -------------------------------------------------------------------------------

_NOT_OURS = {"info", "ping", "select", "client", "hello", "config", "flushall", "script", "load"}


def _calls(valkey) -> dict[str, int]:
    with valkey.client() as client:
        stats = client.info("commandstats")
    names = {name.removeprefix("cmdstat_").partition("|")[0]: s for name, s in stats.items()}
    return {name: stat["calls"] for name, stat in names.items() if name not in _NOT_OURS}


async def test_an_operation_takes_few_commands(valkey, stage, approvals):
    """On some servers every call inside a script is billed, so the numbers are a promise."""

    async def used(call) -> int:
        before = _calls(valkey)
        await call
        after = _calls(valkey)
        told = {name: count - before.get(name, 0) for name, count in after.items()}
        # The log's TTL is renewed once a second; the gate's with its deadline.
        renewed = told.pop("pexpire", 0)
        assert renewed <= 2
        return sum(told.values())

    for n in range(2):  # scripts are loaded, the channel has its log
        gate = await ask(approvals, gate_id=f"warm{n}", quorum=2, on_timeout="escalate")
        await approvals.decide(gate.gate, "approve", actor="ann", decision_id="d")
        await approvals.decide(gate.gate, "approve", actor="bob", decision_id="d2")
        await approvals.consume(gate.gate, args_sha256=gate.digest)
    gate = await ask(approvals, quorum=2)
    # Of each: one to run the script, four for the event, one for the audit.
    assert await used(approvals.request("pay", ARGS, gate_id="g2")) == 14
    assert await used(approvals.request("pay", ARGS, gate_id="g2")) == 3  # it is there
    assert await used(approvals.get("g")) == 1
    assert await used(say(approvals)) == 10  # a vote
    assert await used(say(approvals)) == 1  # the same again
    assert await used(say(approvals, actor="bob", decision_id="d2")) == 13
    assert await used(approvals.consume("g", run="r", args_sha256=gate.digest)) == 10
    assert await used(approvals.cancel("g2")) == 12


def test_the_gate_reads_what_a_newer_one_wrote():
    """Fields of a later version are no reason to lose a gate."""
    gate = {
        "workspace": "w1", "gate": "g", "tool": "pay", "created_at": "2026-11-25T00:00:00Z",
        "later": {"x": 1},
    }  # fmt: skip
    assert approval_store._decode_gate(json.dumps(gate).encode()).status == "pending"
