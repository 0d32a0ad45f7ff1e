"""Routes that cost: reserved before, charged after, refused with 402."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from hub.app import include
from hub.budget_guard import budget_guard
from services.budgets.spending import Spending
from tests.hub.serving import strict_settings, token

Spend = Annotated[Spending, Depends(budget_guard(estimated_cost="0.4", agent="writer"))]


def application(url: str) -> FastAPI:
    """Return an application with a hub inside and a route that costs."""
    app = FastAPI()
    include(app, strict_settings(url))

    @app.post("/workspaces/{workspace}/drafts")
    async def draft(spend: Spend, cost: str = "0.3") -> str:
        spend.add(tokens_output=10, cost_usd=cost)
        return spend.hold.user

    @app.post("/broken")
    async def broken(spend: Spend) -> None:
        spend.add(cost_usd="0.1")
        raise RuntimeError("broken")

    return app


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Run the application; ann is logged in, and is in w1."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {token(sub='ann', workspaces=['w1'])}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://app.example", headers=headers
        ) as client:
            yield client


async def test_a_route_is_charged_what_it_used_until_the_budget_says_no(valkey):
    """A dollar a month: three drafts; the fourth is refused as problem details."""
    app = application(valkey.url)
    async with client_of(app) as client:
        for _ in range(3):
            answer = await client.post("/workspaces/w1/drafts", params={"cost": "0.25"})
            assert (answer.status_code, answer.json()) == (200, "ann")
        answer = await client.post("/workspaces/w1/drafts")
        assert answer.status_code == 402
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["type"] == "urn:fanwire:problem:over-budget"
        assert (problem["scope"], problem["remaining"]) == ("user:ann", 250_000)
        budget = await app.state.hub.services.budgets.get_budget("user:ann")
        assert (budget.month.spent, budget.month.reserved) == (750_000, 0)


async def test_a_route_that_breaks_is_charged_too(valkey):
    """What it used until then; the rest is free."""
    app = application(valkey.url)
    async with client_of(app) as client:
        assert (await client.post("/broken")).status_code == 500
        budget = await app.state.hub.services.budgets.get_budget("workspace:w1")
        assert (budget.month.spent, budget.month.reserved) == (100_000, 0)


@pytest.mark.parametrize(
    ("path", "sub", "status"),
    [("/workspaces/w2/drafts", "ann", 403), ("/workspaces/w1/drafts", "", 401)],
)
async def test_nobody_spends_in_somebody_elses_name(valkey, path, sub, status):
    """A foreign workspace, and nobody at all."""
    app = application(valkey.url)
    async with client_of(app) as client:
        headers = {} if sub else {"Authorization": ""}
        assert (await client.post(path, headers=headers)).status_code == status
        budget = await app.state.hub.services.budgets.get_budget("workspace:w2")
        assert (budget.month.spent, budget.month.reserved) == (0, 0)
