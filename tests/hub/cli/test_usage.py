"""``fanwire usage`` as a process, against a hub as a process with a database of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from .process import real_hub, run

KEY = "an-api-key"


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A hub with a Valkey of its own, and so with a file beside it."""
    async with real_hub(tmp_path, FANWIRE_API_KEY=KEY) as address:
        yield address


def call(url: str, method: str, path: str, body: dict[str, Any]) -> None:
    """Call the hub as the application."""
    answer = httpx.request(
        method, f"{url}{path}", json=body, headers={"X-API-Key": KEY}, timeout=10
    )
    answer.raise_for_status()


async def usage(url: str, *arguments: str) -> tuple[int, str, str]:
    """Run the command with the API key."""
    return await run("usage", *arguments, FANWIRE_URL=url, FANWIRE_API_KEY=KEY)


async def test_what_was_used_is_shown(url: str) -> None:
    """Days, agents and users as bars, the budget below; JSON for programs."""
    status, out, _ = await usage(url, "ann", "--no-budget")
    assert (status, out.splitlines()[1]) == (0, "nothing was used")
    for number, agent in enumerate(["writer", "writer", "critic\x1b[2J"]):
        use = {"user": "ann", "workspace": "w1", "agent": agent.partition("\x1b")[0]}
        more = {"tokens_input": 1_000, "cost_micro_usd": 250_000, "event_id": f"e{number}"}
        call(url, "POST", "/v1/usage", {**use, **more})
    call(url, "PATCH", "/v1/budgets/user/ann", {"monthly_micro_usd": 1_000_000})

    today = datetime.now(UTC).date().isoformat()
    status, out, errors = await usage(url, "ann")
    assert (status, errors) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("user:ann, ")
    assert lines[1].startswith(today)
    assert "$0.75" in lines[1]
    assert "3.0k tokens" in lines[1]
    assert "in all $0.75" in out
    assert f"budget {today[:7]}: $0.25 of $1.00 left, 75 % used" in out

    _, out, _ = await usage(url, "ann", "--by", "agent", "--no-budget")
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["writer", "critic"]
    status, out, errors = await usage(url, "workspace:w1", "--by", "day", "--json")
    whole = json.loads(out)
    assert (whole["cost_micro_usd"], whole["budget"]["scope"]) == (750_000, "workspace:w1")


@pytest.mark.parametrize(
    ("arguments", "status", "what"),
    [
        (["team:x"], 1, "expected a scope"),
        (["ann", "--by", "user"], 2, "a user is one user"),
        (["workspace:w1", "--by", "agent"], 2, "--by agent is for users"),
        (["ann", "--since", "yesterday"], 1, "YYYY-MM-DD"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_told(
    url: str, arguments: list[str], status: int, what: str
) -> None:
    """In one sentence, with the status that every command has for it."""
    ended, _, errors = await usage(url, *arguments)
    assert (ended, what in errors) == (status, True), errors
