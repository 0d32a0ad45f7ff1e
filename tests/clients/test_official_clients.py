"""The official clients take a publication that says what it supersedes for any other.

Their applications are not told how many there were; what matters here is that no client
refuses the unknown field or takes the hole in the offsets for a loss, and that each comes
back from the last offset it saw.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.hub.transports.test_official_clients import js_client, python_client

from .fake_hub import FakeHub

CHANNEL = "chat"

_PACKAGES = Path(__file__).parents[1] / "js" / "node_modules"
needs_node = pytest.mark.skipif(
    not os.environ.get("CI")
    and (shutil.which("node") is None or not (_PACKAGES / "centrifuge").is_dir()),
    reason="Node with the packages of tests/js is needed",
)


async def _speak(hub: FakeHub) -> None:
    await hub.publish(CHANNEL, 1)
    hub.supersede(CHANNEL, 2, 3)
    await hub.publish(CHANNEL, 4, 5)


def _resumed(hub: FakeHub) -> list[int]:
    asked = [command["subscribe"] for command in hub.commands if "subscribe" in command]
    return [request["offset"] for request in asked if request.get("recover")]


async def test_python_goes_on_over_what_was_skipped() -> None:
    """It delivers what came, stays connected, and resumes from where it was."""
    async with FakeHub() as hub, python_client(f"ws://127.0.0.1:{hub.port}") as (_, _, notes):
        await _speak(hub)
        await notes.until_offset(5)
        await hub.cut()
        await notes.until_subscribed(2)
        await hub.publish(CHANNEL, 6)
        await notes.until_offset(6)
        assert notes.offsets == [1, 4, 5, 6]
        assert (notes.codes, _resumed(hub)) == ([], [5])


@needs_node
@pytest.mark.parametrize("how", ["cut", "slow"])
async def test_js_goes_on_over_what_was_skipped(how: str) -> None:
    """It delivers what came, stays connected, and resumes from where it was."""
    async with FakeHub() as hub, js_client(f"ws://127.0.0.1:{hub.port}") as js:
        await js.do("subscribe", channel=CHANNEL)
        await js.do("connect")
        await js.next("subscribed")
        await _speak(hub)
        assert await js.offsets(5) == [1, 4, 5]
        await hub.cut(*((3008, "slow consumer") if how == "slow" else ()))
        await js.next("subscribed")
        await hub.publish(CHANNEL, 6)
        assert await js.offsets(6) == [1, 4, 5, 6]
        assert _resumed(hub) == [5]
