"""``fanwire approvals`` as a process, against a hub as a process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import ValkeyServer

from .process import fanwire, line, real_hub, run

KEY = "an-api-key"
SECRET = "a secret of at least thirty-two bytes"
AT = {"workspace": "w1"}


@pytest.fixture
async def url(valkey: ValkeyServer, tmp_path: Path) -> AsyncIterator[str]:
    """A hub that wants tokens and a key."""
    async with real_hub(
        tmp_path,
        FANWIRE_REDIS_URL=valkey.url,
        FANWIRE_API_KEY=KEY,
        FANWIRE_TOKEN_HMAC_SECRET=SECRET,
    ) as address:
        yield address


def ask(url: str, gate: str, **more: Any) -> None:
    """Ask for an approval, as the application."""
    body = {"id": gate, "tool": "pay", "args": {"amount": 7}, "requested_by": "agent", **more}
    answer = httpx.post(
        f"{url}/v1/approvals", params=AT, json=body, headers={"X-API-Key": KEY}, timeout=10
    )
    answer.raise_for_status()


async def token(user: str, *scopes: str) -> str:
    """Return a token, as ``fanwire token`` makes it."""
    options = [option for scope in scopes for option in ("--scope", scope)]
    status, out, errors = await run(
        "token", "--user", user, "--workspace", "w1", *options, FANWIRE_TOKEN_HMAC_SECRET=SECRET
    )
    assert status == 0, errors
    return out.strip()


async def approvals(url: str, *arguments: str, proof: str) -> tuple[int, str, str]:
    """Run the command with a token."""
    return await run("approvals", *arguments, FANWIRE_URL=url, FANWIRE_TOKEN=proof)


async def test_somebody_decides_at_the_terminal(url: str) -> None:
    """Listed, shown, approved; the next one is told who was first."""
    ann, bob = await token("ann", "approvals:decide"), await token("bob", "approvals:decide")
    status, out, errors = await approvals(url, "list", proof=ann)
    assert (status, out, errors) == (0, "", "Nothing waits.\n")
    ask(url, "g1", reason="\x1b[2Jclear")
    ask(url, "g2")

    status, out, _ = await approvals(url, "list", proof=ann)
    assert status == 0
    assert [one.split()[0] for one in out.splitlines()] == ["g2", "g1"]
    assert 'pay {"amount": 7}' in out
    status, out, _ = await approvals(url, "list", "--json", "-n", "1", proof=ann)
    assert json.loads(out)["gate"] == "g2"

    status, out, _ = await approvals(url, "show", "g1", proof=ann)
    assert status == 0
    assert "approval.requested by agent" in out
    assert "\x1b" not in out

    status, out, errors = await approvals(
        url, "approve", "g1", "-m", "go ahead", "--id", "d1", proof=ann
    )
    assert (status, errors) == (0, "")
    assert out.startswith("g1  approved")
    again = await approvals(url, "approve", "g1", "-m", "go ahead", "--id", "d1", proof=ann)
    assert again == (status, out, errors)

    status, out, errors = await approvals(url, "reject", "g1", proof=bob)
    assert (status, out) == (1, "")
    assert "ann at " in errors
    assert "approve, 'go ahead'" in errors

    status, out, _ = await approvals(url, "reject", "g2", "-m", "no", proof=bob)
    assert (status, out.split()[:2]) == (0, ["g2", "rejected"])
    status, out, _ = await approvals(url, "show", "g2", "--json", proof=ann)
    assert [entry["what"] for entry in json.loads(out)["audit"]] == [
        "approval.requested",
        "approval.rejected",
    ]


async def test_an_edit(url: str) -> None:
    """Other arguments than were asked for."""
    ann = await token("ann", "approvals:decide")
    ask(url, "g1")
    status, _, errors = await approvals(url, "approve", "g1", "--args", "{", proof=ann)
    assert status == 2
    assert "expected JSON" in errors
    status, out, _ = await approvals(url, "approve", "g1", "--args", '{"amount":6}', proof=ann)
    assert status == 0
    assert 'edited  pay {"amount": 6}' in out


async def test_what_others_edited_is_approved_by_its_digest(url: str) -> None:
    """Two must agree: the second says which arguments it saw, and no others."""
    ann, bob = await token("ann", "approvals:decide"), await token("bob", "approvals:decide")
    ask(url, "g1", quorum=2)
    await approvals(url, "approve", "g1", "--args", '{"amount":6}', proof=ann)
    _, out, _ = await approvals(url, "show", "g1", "--json", proof=bob)
    shown = json.loads(out)
    for digest in ((), ("--digest", shown["args_sha256"])):
        status, _, errors = await approvals(url, "approve", "g1", *digest, proof=bob)
        assert status == 1
        assert "g1" in errors
    status, out, _ = await approvals(
        url, "approve", "g1", "--digest", shown["proposed_sha256"], proof=bob
    )
    assert (status, out.split()[:2]) == (0, ["g1", "edited"])


async def test_who_may_not_is_told_why(url: str) -> None:
    """One sentence and status 1, whatever is wrong."""
    tim = await token("tim")
    ask(url, "g1")
    for arguments, why in (
        (("approve", "g1"), "this needs a token with the scope 'approvals:decide'"),
        (("show", "g9"), "g9"),
        (("show", "a/b"), ""),
        (("list", "-w", "w2"), "the token is not for workspace 'w2'"),
    ):
        status, out, errors = await approvals(url, *arguments, proof=tim)
        assert (status, out) == (1, "") or status == 2
        assert why in errors
        assert "Traceback" not in errors
    status, _, errors = await approvals(url, "list", proof="nonsense")
    assert status == 1
    assert "token" in errors


async def test_no_hub_is_told_soon() -> None:
    """After seconds, not a minute."""
    status, _, errors = await run("approvals", "list", "--url", "http://127.0.0.1:9")
    assert status == 1
    assert "http://127.0.0.1:9" in errors


async def test_watching(url: str) -> None:
    """What waits first, then what becomes of it."""
    ann = await token("ann", "approvals:decide")
    ask(url, "g1")
    async with fanwire(
        "approvals", "watch", "-w", "w1", "-n", "2", FANWIRE_URL=url, FANWIRE_TOKEN=ann
    ) as watching:
        first = await line(watching)
        assert first.startswith("g1  pending")
        ask(url, "g2")
        assert "approval.requested" in await line(watching)
        await approvals(url, "reject", "g1", proof=ann)
        assert "approval.rejected" in await line(watching)
        assert await watching.wait() == 0


async def test_watching_many_large_gates(url: str) -> None:
    """All of them are shown, those that a snapshot has no room for without their arguments."""
    ann = await token("ann", "approvals:decide")
    for number in range(12):
        ask(url, f"g{number}", args={"text": "x" * 60_000})
    async with fanwire(
        "approvals", "watch", "-w", "w1", "-n", "1", FANWIRE_URL=url, FANWIRE_TOKEN=ann
    ) as watching:
        shown = [await line(watching) for _ in range(12)]
        assert sorted(one.split()[0] for one in shown) == sorted(f"g{n}" for n in range(12))
        assert [one.split()[0] for one in shown if 'pay "..."' in one] == ["g3", "g2", "g1", "g0"]
        await approvals(url, "reject", "g0", proof=ann)
        assert "approval.rejected" in await line(watching)
