"""``fanwire publish`` as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.clients.fake_api import FakeApi, answer, serving

from .process import fanwire, run


@pytest.fixture
def api() -> FakeApi:
    """What the hub holds."""
    return FakeApi()


@pytest.fixture
def url(api: FakeApi) -> Iterator[str]:
    """Where it is."""
    with serving(api) as address:
        yield address


async def test_publishes_json_and_prints_the_position(api: FakeApi, url: str) -> None:
    """The position can be given to ``tail --since``."""
    status, out, errors = await run("publish", "log:x", '{"a": 1}', "--url", url)
    assert (status, out, errors) == (0, "e1:1\n", "")
    assert api.logs == {"log:x": [{"a": 1}]}


async def test_the_environment_says_where_and_with_which_key(api: FakeApi, url: str) -> None:
    """FANWIRE_URL and FANWIRE_API_KEY."""
    status, _, _ = await run("publish", "log:x", "1", FANWIRE_URL=url, FANWIRE_API_KEY="k")
    assert status == 0
    assert api.requests[0].headers["X-API-Key"] == "k"


async def test_the_same_key_publishes_once(api: FakeApi, url: str) -> None:
    """For scripts that run twice."""
    for _ in range(2):
        await run("publish", "log:x", "1", "--key", "daily", "--url", url)
    assert api.logs == {"log:x": [1]}


async def test_a_conflation_key_goes_with_one_event_or_every_line(api: FakeApi, url: str) -> None:
    """So that a stream of readings costs slow readers one at a time."""
    await run("publish", "log:x", "1", "--conflate", "cpu", "--url", url)
    await run("publish", "log:x", "-", "--conflate", "cpu", "--url", url, text=b"1\n2\n")
    bodies = [json.loads(request.content) for request in api.requests]
    assert bodies[0]["conflate"] == "cpu"
    lines = [command["publish"] for body in bodies[1:] for command in body["commands"]]
    assert [line["conflate"] for line in lines] == ["cpu", "cpu"]


@pytest.mark.parametrize("data", ["1", "-"])
async def test_a_conflation_key_is_checked_first(api: FakeApi, url: str, data: str) -> None:
    """The message says what one looks like."""
    status, _, errors = await run("publish", "log:x", data, "--conflate", "a b", "--url", url)
    assert status == 2
    assert "a conflation key is 1-128 characters" in errors
    assert api.requests == []


async def test_text_is_no_json(url: str) -> None:
    """The message says how to write it."""
    status, out, errors = await run("publish", "log:x", "hello", "--url", url)
    assert (status, out) == (2, "")
    assert "JSON is malformed" in errors
    assert "'\"hello\"'" in errors


async def test_every_line_of_standard_input_is_an_event(api: FakeApi, url: str) -> None:
    """In order, whatever it is, with a summary at the end."""
    text = b'{"n": 1}\n\ntext\n' + b"".join(b"%d\n" % n for n in range(500))
    status, out, errors = await run("publish", "log:x", "-", "--url", url, text=text)
    assert (status, out) == (0, "")
    assert api.logs["log:x"] == [{"n": 1}, {"line": "text"}, *range(500)]
    assert errors.startswith("published 502 events in ")
    assert errors.endswith("/s) to log:x\n")
    assert len(api.requests) <= 8


async def test_quiet_says_nothing(api: FakeApi, url: str) -> None:
    """For cron."""
    status, out, errors = await run("publish", "-q", "log:x", "-", "--url", url, text=b"1\n")
    assert (status, out, errors) == (0, "", "")
    assert api.logs == {"log:x": [1]}


async def test_a_live_log_is_published_as_it_grows(api: FakeApi, url: str) -> None:
    """The pipe stays open, the line is out; Ctrl-C ends it with a summary and status 130."""
    async with fanwire("publish", "log:x", "-", "--url", url) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"first\n")
        await process.stdin.drain()
        while not api.logs:  # noqa: ASYNC110 - the hub is a thread, which cannot set our events
            await asyncio.sleep(0.005)
        process.send_signal(signal.SIGINT)
        errors = await process.stderr.read()
        assert await process.wait() == 130
    assert api.logs == {"log:x": [{"line": "first"}]}
    assert errors.startswith(b"published 1 event")
    assert b"Traceback" not in errors


async def test_a_refused_line_stops_it_with_its_number(api: FakeApi, url: str) -> None:
    """How many went out is part of the message."""
    text = b"1\n2\n" + b"x" * 70_000 + b"\n4\n"
    status, _, errors = await run("publish", "log:x", "-", "--url", url, text=text)
    assert status == 1
    assert "Error: line 3: the line is too long" in errors
    assert "(2 events went out)" in errors
    assert api.logs == {"log:x": [1, 2]}


@pytest.mark.parametrize("data", ["1", "-"])
async def test_a_refusal_is_one_sentence(api: FakeApi, url: str, data: str) -> None:
    """Status 1, no traceback."""
    api.refuse["log:x"] = (103, "permission denied: publish on log:x")
    status, out, errors = await run("publish", "log:x", data, "--url", url, text=b"1\n")
    assert (status, out) == (1, "")
    assert "permission denied: publish on log:x" in errors
    assert "Traceback" not in errors


async def test_a_wrong_key_is_one_sentence(api: FakeApi, url: str) -> None:
    """What the hub said."""
    api.faults = [answer(401, {"error": {"code": 101, "message": "the API key is wrong"}})]
    status, _, errors = await run("publish", "log:x", "1", "--url", url)
    assert (status, errors) == (1, "Error: the API key is wrong\n")


@pytest.mark.parametrize(
    "arguments", [["publish", "log:x", "1"], ["publish", "log:x", "-"], ["channels"]]
)
async def test_a_hub_that_is_not_there_is_told_soon(arguments: list[str]) -> None:
    """Where it was looked for and for how long; not after the 15 s of the publishers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listened on: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        status, out, errors = await run(*arguments, "--url", url, text=b"1\n")
    assert (status, out) == (1, "")
    assert f"hub not reached within 2 s; last: {url}: ConnectError" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments",
    [["two words", "1"], ["log:x", "1", "--url", "nowhere"], ["log:x", "-", "--key", "k"], []],
)
async def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    """Nothing is asked of any hub."""
    status, out, errors = await run("publish", *arguments)
    assert status in {1, 2}
    assert out == ""
    assert "Error: " in errors
