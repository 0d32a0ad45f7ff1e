"""``fanwire tail`` as a process."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.clients.fake_hub import FakeHub

from .process import fanwire, line, run


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    """A hub on a real socket."""
    async with FakeHub() as fake:
        yield fake


def subscribed(hub: FakeHub, channel: str = "log:x") -> bool:
    """Return whether somebody follows the channel."""
    return any(channel in channels for channels in hub.sockets.values())


async def test_prints_events_as_they_come(hub: FakeHub) -> None:
    """A line at once, without colours into a pipe; Ctrl-C ends it quietly with 130."""
    async with fanwire("tail", "log:x", "log:y", "--url", hub.url) as process:
        await hub.until(lambda: subscribed(hub) and subscribed(hub, "log:y"))
        await hub.publish("log:x", {"line": "first"})
        assert (await line(process)).split("  ")[1:] == ["log:x", "1", "first"]
        await hub.publish("log:y", [1])
        assert (await line(process)).split("  ")[1:] == ["log:y", "1", "[1]"]
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert process.stderr is not None
        assert await process.stderr.read() == b""


async def test_the_state_comes_first(hub: FakeHub) -> None:
    """And again after each gap; the past is another wish."""
    await hub.publish("log:x", 1, 2)
    arguments = ("tail", "log:x", "--snapshot", "--url", hub.url)
    async with fanwire(*arguments, "--json", "-n", "1") as process:
        first = json.loads(await line(process))
        assert first == {"channel": "log:x", "epoch": "e", "offset": 2, "snapshot": [1, 2]}
        hub.forget("log:x")
        await hub.cut()
        assert "gap" in json.loads(await line(process))
        assert json.loads(await line(process))["snapshot"] == []
        await hub.publish("log:x", 3)
        assert json.loads(await line(process))["data"] == 3
        assert await process.wait() == 0
    async with fanwire(*arguments) as process:
        assert (await line(process)).split("  ")[1:] == ["log:x", "1", "snapshot", "[3]"]
    status, _, errors = await run(*arguments, "--since", "all")
    assert status == 2
    assert "choose one" in errors


async def test_json_for_pipes_and_a_count(hub: FakeHub) -> None:
    """It ends by itself after so many."""
    async with fanwire("tail", "log:x", "--json", "-n", "2", "--url", hub.url) as process:
        await hub.until(lambda: subscribed(hub))
        await hub.publish("log:x", {"n": 1}, {"n": 2}, {"n": 3})
        lines = [json.loads(await line(process)) for _ in range(2)]
        assert await process.wait() == 0
    assert lines[1] == {"channel": "log:x", "epoch": "e", "offset": 2, "data": {"n": 2}}


async def test_a_terminal_that_lacks_a_character_gets_its_escape(hub: FakeHub) -> None:
    """For people an escape of Python, for programs JSON in UTF-8, and never a traceback."""
    await hub.publish("log:x", {"line": "é ☃"})
    arguments = ("tail", "log:x", "--since", "all", "-n", "1", "--url", hub.url)
    status, out, errors = await run(*arguments, PYTHONIOENCODING="ascii")
    assert (status, errors) == (0, "")
    assert out.endswith("  \\xe9 \\u2603\n")
    status, out, errors = await run(*arguments, "--json", PYTHONIOENCODING="ascii")
    assert (status, errors) == (0, "")
    assert json.loads(out)["data"] == {"line": "é ☃"}


async def test_since_all_prints_the_log_and_goes_on(hub: FakeHub) -> None:
    """More than one page of history, then what is new, with no seam."""
    await hub.publish("log:x", *range(1200))
    async with fanwire("tail", "log:x", "--since", "all", "--json", "--url", hub.url) as process:
        old = [json.loads(await line(process))["data"] for _ in range(1200)]
        await hub.until(lambda: subscribed(hub))
        await hub.publish("log:x", "new")
        assert json.loads(await line(process))["data"] == "new"
    assert old == list(range(1200))


async def test_since_a_position(hub: FakeHub) -> None:
    """Exactly what came after it."""
    await hub.publish("log:x", 1, 2, 3)
    options = ["--since", "e:1", "--json", "-n", "2", "--url", hub.url]
    status, out, errors = await run("tail", "log:x", *options)
    assert (status, errors) == (0, "")
    assert [json.loads(text)["data"] for text in out.splitlines()] == [2, 3]


async def test_since_a_duration_goes_by_the_time_of_the_event(hub: FakeHub) -> None:
    """Old ones are left out; those without a time are shown."""
    now = datetime.now(UTC)
    old, new = ({"time": (now - timedelta(minutes=ago)).isoformat(), "n": ago} for ago in (10, 1))
    await hub.publish("log:x", old, new, "timeless")
    options = ["--since", "5m", "--json", "-n", "2", "--url", hub.url]
    _, out, _ = await run("tail", "log:x", *options)
    assert [json.loads(text)["data"] for text in out.splitlines()] == [new, "timeless"]


async def test_a_lost_connection_is_not_noticed(hub: FakeHub) -> None:
    """What was published meanwhile comes."""
    async with fanwire("tail", "log:x", "--json", "--url", hub.url) as process:
        await hub.until(lambda: subscribed(hub))
        await hub.shut()
        await hub.publish("log:x", 1, 2)
        await hub.listen(hub.port)
        assert [json.loads(await line(process))["data"] for _ in range(2)] == [1, 2]


async def test_a_gap_is_a_line(hub: FakeHub) -> None:
    """Nobody believes that nothing was missed."""
    async with fanwire("tail", "log:x", "--since", "lost:5", "--url", hub.url) as process:
        assert "gap: events of log:x may be missing after lost:5" in await line(process)


async def test_a_reader_that_goes_away_ends_it_quietly(hub: FakeHub) -> None:
    """``fanwire tail | head -1``."""
    async with fanwire("tail", "log:x", "--url", hub.url) as process:
        await hub.until(lambda: subscribed(hub))
        assert process.stdout is not None
        process.stdout._transport.close()
        await hub.publish("log:x", 1)
        await hub.until(lambda: not hub.sockets)
        assert await process.wait() == 0
        assert process.stderr is not None
        assert await process.stderr.read() == b""


async def test_a_refusal_is_one_sentence(hub: FakeHub) -> None:
    """Status 1."""
    hub.subscribe_errors["log:x"] = [{"code": 103, "message": "permission denied"}]
    status, out, errors = await run("tail", "log:x", "--token", "t1", "--url", hub.url)
    assert (status, out, errors) == (1, "", "Error: permission denied\n")
    assert hub.tokens == ["t1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "yesterday"], "expected epoch:offset, 'all' (or 0), or a duration"),
        (["--since", "17"], "expected epoch:offset"),
        (["--since", "e:1", "log:y"], "a position belongs to one channel"),
        (["-n", "0"], "0 is not in the range"),
        (["--url", "redis://x"], "expected the hub's address as http://host:port"),
    ],
)
async def test_a_wrong_command_line_is_refused(options: list[str], message: str) -> None:
    """Status 2, and what was expected."""
    status, out, errors = await run("tail", "log:x", *options)
    assert (status, out) == (2, "")
    assert message in " ".join(errors.split())
