"""``/v1/approvals``, over HTTP, on a real Valkey."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from channels.canonical import digest
from tests.hub.serving import Served

from .callers import application, caller

ARGS = {"to": "ada@example.org", "amount": 120}


def agent(hub: Served) -> httpx.AsyncClient:
    """Return whoever asks."""
    return caller(hub, "agent", scopes=("approvals:request",))


def person(hub: Served, user: str = "ann", workspace: str = "w1") -> httpx.AsyncClient:
    """Return whoever decides."""
    return caller(hub, user, workspaces=(workspace,), scopes=("approvals:decide",))


async def ask(client: httpx.AsyncClient, gate: str = "g1", **more: Any) -> httpx.Response:
    """Ask for an approval."""
    return await client.post(
        "/v1/approvals", json={"id": gate, "tool": "pay", "args": ARGS, **more}
    )


async def test_a_gate_from_request_to_use(hub: Served) -> None:
    """Asked, found among the open ones, approved, used once; the audit has it all."""
    async with agent(hub) as asking, person(hub) as ann:
        asked = await ask(asking)
        assert (asked.status_code, asked.headers["etag"]) == (201, '"1"')
        assert asked.headers["location"] == "/v1/approvals/g1?workspace=w1"
        assert asked.json()["requested_by"] == "agent"
        assert (await ask(asking)).json() == asked.json()

        waiting = (await ann.get("/v1/approvals")).json()["items"]
        assert [gate["gate"] for gate in waiting] == ["g1"]

        decided = await ann.post(
            "/v1/approvals/g1/decision", json={"verdict": "approve", "id": "d1", "comment": "ok"}
        )
        assert decided.json()["status"] == "approved"
        assert decided.json()["decision"]["actor"] == "ann"
        ready = (await ann.get("/v1/approvals", params={"status": "dispatchable"})).json()["items"]
        assert [gate["gate"] for gate in ready] == ["g1"]

        use = {"args_sha256": digest(ARGS), "run": "r1"}
        for _ in range(2):
            used = await asking.post("/v1/approvals/g1/consume", json=use)
            assert (used.status_code, used.json()["status"]) == (200, "consumed")
        other = await asking.post("/v1/approvals/g1/consume", json={**use, "run": "r2"})
        assert other.status_code == 409

        audit = (await ann.get("/v1/approvals/g1/audit")).json()["items"]
        assert [entry["what"] for entry in audit] == [
            "approval.requested",
            "approval.approved",
            "approval.consumed",
        ]
        assert (await ann.get("/v1/audit/approvals")).json()["items"] == audit


@pytest.mark.parametrize("alone", [{"allow_self": True}, {"on_timeout": "approve"}], ids=str)
async def test_nobody_approves_what_they_asked_for(hub: Served, alone: dict[str, Any]) -> None:
    """Not by asking for a gate that needs no other person either, unless that is their right."""
    both = ("approvals:request", "approvals:decide")
    async with caller(hub, "ann", scopes=both) as ann, application(hub) as app:
        assert (await ask(ann, requested_by="bob")).status_code == 403
        refused = await ask(ann, **alone)
        assert (refused.status_code, "approvals:admin" in refused.text) == (403, True)
        assert (await app.get("/v1/approvals/g1")).status_code == 404
        assert (await ask(ann, requested_by="")).json()["requested_by"] == "ann"
        for verdict in ({"verdict": "approve"}, {"verdict": "edit", "payload": {}}):
            for actor in ({}, {"actor": "ann"}, {"actor": "bob"}):
                said = await ann.post("/v1/approvals/g1/decision", json={**verdict, **actor})
                assert said.status_code == 403
        assert (await app.get("/v1/approvals/g1")).json()["version"] == 1
        assert (await ask(app, "g2", **alone)).status_code == 201
    async with caller(hub, "root", scopes=(*both, "approvals:admin")) as root:
        assert (await ask(root, "g3", **alone)).status_code == 201


async def test_the_first_answer_wins(hub: Served) -> None:
    """Of many at once one is taken, and everybody else is told which."""
    async with agent(hub) as asking, person(hub) as ann, person(hub, "bob") as bob:
        await ask(asking)
        answers = await asyncio.gather(
            *(
                who.post("/v1/approvals/g1/decision", json={"verdict": verdict, "id": f"{n}"})
                for n, (who, verdict) in enumerate([(ann, "approve"), (bob, "reject")] * 10)
            )
        )
        winners = [answer for answer in answers if answer.status_code == 200]
        assert len(winners) == 1
        gate = winners[0].json()
        for answer in answers:
            if answer.status_code != 200:
                assert answer.status_code == 409
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["gate"] == gate


async def test_a_decision_may_be_sent_again(hub: Served) -> None:
    """By its id, or by the idempotency key of the request."""
    async with agent(hub) as asking, person(hub) as ann:
        for gate, body, head in (
            ("g1", {"verdict": "approve", "id": "d1"}, {}),
            ("g2", {"verdict": "approve"}, {"Idempotency-Key": "k1"}),
        ):
            await ask(asking, gate)
            path = f"/v1/approvals/{gate}/decision"
            first = await ann.post(path, json=body, headers=head)
            again = await ann.post(path, json=body, headers=head)
            assert (again.status_code, again.json()) == (200, first.json())
        audit = (await ann.get("/v1/audit/approvals")).json()["items"]
        assert len(audit) == 4


async def test_an_edit_is_checked(hub: Served) -> None:
    """Against the schema of the answer; then it is what may be used."""
    schema = {
        "type": "object",
        "properties": {"amount": {"type": "integer", "maximum": 100}},
        "required": ["amount"],
    }
    async with agent(hub) as asking, person(hub) as ann:
        await ask(asking, response_schema=schema)
        path = "/v1/approvals/g1/decision"
        wrong = await ann.post(path, json={"verdict": "edit", "payload": {"amount": 101}})
        assert wrong.status_code == 400
        edited = await ann.post(path, json={"verdict": "edit", "payload": {"amount": 99}})
        assert edited.json()["status"] == "edited"
        stale = await asking.post(
            "/v1/approvals/g1/consume", json={"args_sha256": digest(ARGS), "run": "r"}
        )
        assert stale.status_code == 412
        used = await asking.post(
            "/v1/approvals/g1/consume", json={"args_sha256": digest({"amount": 99}), "run": "r"}
        )
        assert used.status_code == 200


async def test_who_may_do_what(hub: Served) -> None:
    """Scopes ask and decide; nobody decides their own; other workspaces are not there."""
    async with (
        caller(hub, "agent", scopes=("approvals:request", "approvals:decide")) as both,
        person(hub) as ann,
        caller(hub, "tim") as tim,
        person(hub, "eve", "w2") as eve,
        application(hub) as app,
    ):
        assert (await ask(ann)).status_code == 403
        await ask(both, approvers=["ann", "agent", "zoe"])
        path, word = "/v1/approvals/g1/decision", {"verdict": "approve"}
        assert (await both.post(path, json=word)).status_code == 403
        assert (await tim.post(path, json=word)).status_code == 403
        assert (await tim.get("/v1/approvals/g1")).status_code == 200
        assert (await eve.post(path, json=word)).status_code == 404
        for place in ("w1", "w1:approvals", "w2}:x{w1"):
            answer = await eve.get("/v1/approvals/g1", params={"workspace": place})
            assert answer.status_code in {400, 403}
        assert (await eve.get("/v1/approvals", params={"status": "all"})).json()["items"] == []
        # In somebody else's name: the application only, and only somebody who may.
        assert (await ann.post(path, json={**word, "actor": "zoe"})).status_code == 403
        assert (await app.post(path, json={**word, "actor": "tim"})).status_code == 403
        assert (await app.post(path, json={**word, "actor": "zoe"})).status_code == 200


async def test_a_request_may_be_taken_back(hub: Served) -> None:
    """Then nobody can decide it any more."""
    async with agent(hub) as asking, person(hub) as ann:
        await ask(asking)
        gone = await asking.post("/v1/approvals/g1/cancel", json={"reason": "not needed"})
        assert (gone.json()["status"], gone.json()["cancelled_by"]) == ("cancelled", "agent")
        late = await ann.post("/v1/approvals/g1/decision", json={"verdict": "approve"})
        assert (late.status_code, late.json()["gate"]["status"]) == (409, "cancelled")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"tool": ""}, "tool"),
        ({"tool": "pay", "quorum": 0}, "the body is wrong"),
        ({"tool": "pay", "expires_in_s": 0}, "the body is wrong"),
        ({"tool": "pay", "on_timeout": "explode"}, "the body is wrong"),
        ({"tool": "pay", "response_schema": {"type": 7}}, "schema"),
        ({"tool": "pay", "id": "a/b"}, "the body is wrong"),
        ({"tool": "pay", "colour": 1}, "unknown field"),
    ],
)
async def test_a_bad_request_is_told_why(hub: Served, body: dict[str, Any], why: str) -> None:
    """400, and nothing waits."""
    async with agent(hub) as asking:
        answer = await asking.post("/v1/approvals", json=body)
        assert answer.status_code == 400
        assert why in answer.json()["detail"]
        assert (await asking.get("/v1/approvals")).json()["items"] == []
