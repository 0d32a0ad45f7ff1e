"""Usage and budgets over HTTP, on a real Valkey and a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.database import Database
from tests.hub.serving import API_KEY, Served, served, strict_settings
from tests.servers import ValkeyServer

from .callers import caller

WRITE = ("usage:write",)
USE = {
    "workspace": "w1",
    "tokens_input": 1_200,
    "tokens_output": 300,
    "cost_micro_usd": 12_300,
    "agent": "writer",
    "model": "large-1",
}


@pytest.fixture
async def hub(valkey: ValkeyServer, tmp_path: Path) -> AsyncIterator[Served]:
    """A hub that wants tokens, with a database whose tables are there."""
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    async with Database(url) as database:
        await database.migrate()
    async with served(strict_settings(valkey.url, database_url=url)) as at:
        yield at


def application(hub: Served) -> Any:
    """Return a client with the API key, for no workspace in particular."""
    return hub.client(headers={"X-API-Key": API_KEY})


async def test_a_use_is_counted_once_and_reported(hub: Served) -> None:
    """By its event id, and by the key of the request; by day, month and range."""
    today = datetime.now(UTC).date().isoformat()
    async with caller(hub, scopes=WRITE) as ann:
        first = await ann.post("/v1/usage", json={**USE, "event_id": "e1"})
        assert (first.status_code, first.json()["duplicate"]) == (201, False)
        again = await ann.post("/v1/usage", json={**USE, "event_id": "e1"})
        assert again.json()["duplicate"] is True
        for _ in range(2):
            await ann.post("/v1/usage", json=USE, headers={"Idempotency-Key": "k1"})
        day = (await ann.get(f"/v1/usage/user/ann/days/{today}")).json()
        assert (day["requests"], day["cost_micro_usd"], day["tokens_input"]) == (2, 24_600, 2_400)
        assert day["agents"]["writer"]["requests"] == 2
        month = (await ann.get(f"/v1/usage/user/ann/months/{today[:7]}")).json()
        assert month["cost_usd"] == 0.0246
        spread = (await ann.get("/v1/usage/user/ann")).json()
        assert [one["date"] for one in spread["days"]] == [today]
        assert (await ann.get("/v1/usage/workspace/w1")).json()["requests"] == 2


async def test_who_may_count_and_who_may_see(hub: Served) -> None:
    """Nobody charges another tenant, names an organisation, or sees what is not theirs."""
    async with (
        caller(hub, scopes=WRITE) as ann,
        caller(hub, "bob", workspaces=("w2",)) as bob,
        caller(hub, "carol", scopes=("billing",)) as carol,
        application(hub) as app,
    ):
        assert (await bob.post("/v1/usage", json={**USE, "workspace": "w2"})).status_code == 403
        assert (await ann.post("/v1/usage", json={**USE, "workspace": "w2"})).status_code == 403
        chosen = await ann.post("/v1/usage", json={**USE, "organisation": ""})
        assert chosen.status_code == 403
        named = await app.post("/v1/usage", json={**USE, "user": "ann", "organisation": "acme"})
        assert named.status_code == 201
        assert (await app.post("/v1/usage", json=USE)).status_code == 400
        for path in ("user/ann", "workspace/w1", "org/acme"):
            assert (await bob.get(f"/v1/usage/{path}")).status_code == 403
            assert (await bob.get(f"/v1/budgets/{path}")).status_code == 403
            assert (await carol.get(f"/v1/usage/{path}")).json()["requests"] == 1
        assert (await ann.get("/v1/usage/org/acme")).status_code == 403
        assert (await ann.get("/v1/usage/team/x")).status_code == 400


@pytest.mark.parametrize(
    "change",
    [
        {"cost_micro_usd": -1},
        {"cost_micro_usd": 2**53},
        {"tokens_input": "many"},
        {"cost_usd": 0.1},
        {"costs": 1},
        {"event_id": "a:b"},
        {"agent": "x" * 1_000},
        {"occurred_at": "2026-11-25T09:00:00"},
        {"occurred_at": "2999-01-01T00:00:00Z"},
        {"occurred_at": "0001-01-01T00:00:00+14:00"},
        {"occurred_at": "9999-12-31T23:59:59-14:00"},
    ],
    ids=str,
)
async def test_a_use_that_cannot_be_is_refused(hub: Served, change: dict[str, Any]) -> None:
    """With a sentence; nothing is counted."""
    async with caller(hub, scopes=WRITE) as ann:
        answer = await ann.post("/v1/usage", json={**USE, **change})
        assert answer.status_code == 400
        assert answer.json()["detail"]
        assert (await ann.get("/v1/usage/user/ann")).json()["requests"] == 0


async def test_corrections_and_reconciliation_are_for_billing(hub: Served) -> None:
    """A refund is taken off once; a month that agrees has no differences."""
    month = datetime.now(UTC).date().isoformat()[:7]
    refund = {"id": "r1", "reason": "failed", "user": "ann", "workspace": "w1"}
    async with caller(hub, scopes=WRITE) as ann, application(hub) as app:
        await ann.post("/v1/usage", json=USE)
        body = {**refund, "cost_micro_usd": -2_300}
        assert (await ann.post("/v1/usage/corrections", json=body)).status_code == 403
        for _ in range(2):
            assert (await app.post("/v1/usage/corrections", json=body)).status_code == 201
        assert (await ann.get("/v1/usage/user/ann")).json()["cost_micro_usd"] == 10_000
        await hub.hub.services.usage.drain("ann")
        path = f"/v1/usage/user/ann/months/{month}/reconciliation"
        assert (await ann.post(path)).status_code == 403
        assert (await app.post(path)).json() == []
        top = await app.get("/v1/usage/workspace/w1/users")
        assert [(one["user"], one["cost_micro_usd"]) for one in top.json()] == [("ann", 10_000)]


@pytest.mark.parametrize(
    "path",
    [
        "/days/0000-01-01",
        "/days/9999-12-31",
        "/months/0000-01",
        "/months/9999-12",
        "/months/2026-13",
        "?until=0001-01-05",
        "?since=9999-12-01&until=9999-12-31",
        "?until=x",
    ],
)
async def test_a_day_that_cannot_be_is_refused(hub: Served, path: str) -> None:
    """Also the ends of the calendar, where there is no day before or after."""
    async with caller(hub) as ann, application(hub) as app:
        assert (await ann.get(f"/v1/usage/user/ann{path}")).status_code == 400
        if path.startswith("/months"):
            answer = await app.post(f"/v1/usage/user/ann{path}/reconciliation")
            assert answer.status_code == 400


async def test_a_budget_is_set_asked_reserved_and_charged(hub: Served) -> None:
    """402 says which budget; a hold is extended, renewed, committed, released."""
    async with caller(hub, scopes=WRITE) as ann, application(hub) as app:
        low = await ann.patch("/v1/budgets/user/ann", json={"monthly_micro_usd": 10**9})
        assert low.status_code == 403, "nobody raises one's own limit"
        limits = {"monthly_micro_usd": 100_000, "daily_tokens": 5_000}
        set_ = await app.patch("/v1/budgets/user/ann", json=limits)
        assert set_.json()["month"]["limit"] == 100_000
        asked = {"workspace": "w1", "estimated_micro_usd": 60_000}
        fine = (await ann.post("/v1/budgets/check", json=asked)).json()
        assert (fine["can_afford"], fine["remaining"]) == (True, 0.1)
        made = await ann.post("/v1/budgets/holds", json={**asked, "hold": "h1"})
        assert made.status_code == 201
        assert made.headers["location"] == "/v1/budgets/holds/ann/h1"
        again = await ann.post("/v1/budgets/holds", json={**asked, "hold": "h1"})
        assert again.json()["id"] == "h1"
        denied = await ann.post("/v1/budgets/holds", json=asked)
        assert denied.status_code == 402
        problem = denied.json()
        assert problem["type"] == "urn:fanwire:problem:over-budget"
        assert (problem["scope"], problem["unit"], problem["remaining"]) == (
            "user:ann",
            "micro_usd",
            40_000,
        )
        hold = made.headers["location"]
        more = await ann.post(hold + "/extension", json={"more_micro_usd": 30_000})
        assert more.json()["amount_micro_usd"] == 90_000
        much = await ann.post(hold + "/extension", json={"more_micro_usd": 30_000})
        assert much.status_code == 402
        assert (await ann.post(hold + "/renewal", json={"ttl_s": 60})).status_code == 200
        used = {"actual_micro_usd": 50_000, "tokens_input": 10, "event_id": "c1"}
        for duplicate in (False, True):
            charged = (await ann.post(hold + "/commit", json=used)).json()
            assert (charged["charged_micro_usd"], charged["duplicate"]) == (50_000, duplicate)
        left = (await ann.get("/v1/budgets/user/ann")).json()["month"]
        assert (left["spent"], left["reserved"], left["remaining"]) == (50_000, 0, 50_000)
        second = await ann.post("/v1/budgets/holds", json={**asked, "estimated_micro_usd": 50_000})
        assert (await ann.delete(second.headers["location"])).status_code == 204
        assert (await ann.get("/v1/budgets/user/ann")).json()["month"]["reserved"] == 0
        assert (await ann.get("/v1/budgets/holds/ann/nothing")).status_code == 404


async def test_holds_are_of_their_user(hub: Served) -> None:
    """Nobody else sees or charges them, in the same workspace or another."""
    async with (
        caller(hub, scopes=WRITE) as ann,
        caller(hub, "bob", scopes=WRITE) as bob,
        caller(hub, "eve", workspaces=("w2",), scopes=WRITE) as eve,
    ):
        asked = {"workspace": "w1", "estimated_micro_usd": 10, "hold": "h1"}
        await ann.post("/v1/budgets/holds", json=asked)
        hold = "/v1/budgets/holds/ann/h1"
        for other in (eve, bob):
            # As if there was none: not even that is told.
            assert (await other.get(hold)).status_code == 404
            assert (await other.post(hold + "/commit", json={})).status_code == 404
            assert (await other.delete(hold)).status_code == 404
            mine = {**asked, "user": "ann", "hold": "h2"}
            assert (await other.post("/v1/budgets/holds", json=mine)).status_code == 403
            use = {**USE, "user": "ann"}
            assert (await other.post("/v1/usage", json=use)).status_code == 403
        foreign = await eve.post("/v1/budgets/holds", json={**asked, "workspace": "w1"})
        assert foreign.status_code == 403
        assert (await ann.get(hold)).json()["state"] == "open"


async def test_a_workspaces_limit_is_its_admins(hub: Served) -> None:
    """With the scope and in the workspace; null is the default again."""
    async with (
        caller(hub, scopes=("budgets:admin",)) as ann,
        caller(hub, "eve", workspaces=("w2",), scopes=("budgets:admin",)) as eve,
    ):
        limit = {"monthly_micro_usd": 7}
        assert (await eve.patch("/v1/budgets/workspace/w1", json=limit)).status_code == 403
        set_ = await ann.patch("/v1/budgets/workspace/w1", json=limit)
        assert set_.json()["month"]["limit"] == 7
        none = await ann.patch("/v1/budgets/workspace/w1", json={"monthly_micro_usd": None})
        assert none.json()["month"]["limit"] is None
        assert (await ann.patch("/v1/budgets/workspace/w1", json={})).status_code == 400
        assert (await ann.patch("/v1/budgets/user/ann", json=limit)).status_code == 403


async def test_what_is_done_shows_in_the_metrics(hub: Served) -> None:
    """Uses, holds and refusals, each under its name."""
    async with caller(hub, scopes=WRITE) as ann, application(hub) as app:
        for _ in range(2):
            await ann.post("/v1/usage", json={**USE, "event_id": "e1"})
        await app.patch("/v1/budgets/user/ann", json={"monthly_micro_usd": 20_000})
        for amount in (1, 10_000):
            asked = {"workspace": "w1", "estimated_micro_usd": amount, "hold": f"h{amount}"}
            await ann.post("/v1/budgets/holds", json=asked)
        for _ in range(2):  # what a hold is charged with is used
            used = {"actual_micro_usd": 1, "event_id": "e2"}
            await ann.post("/v1/budgets/holds/ann/h1/commit", json=used)
        text = (await app.get("/metrics")).text
    for sample in (
        'fanwire_usage_events_total{outcome="counted",worker="0"} 2.0',
        'fanwire_usage_events_total{outcome="duplicate",worker="0"} 2.0',
        'fanwire_budget_holds_total{what="reserved",worker="0"} 1.0',
        'fanwire_budget_denials_total{scope="user",worker="0"} 1.0',
    ):
        assert sample in text
