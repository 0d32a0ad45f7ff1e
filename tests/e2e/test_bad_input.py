"""Bad input: each a documented code or exit status, and one sentence that helps."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import jwt
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from channels.publication import MAX_DATA_BYTES

from .processes import HubProcess, Place, Program
from .readers import (
    FeedReader,
    NodeEventSource,
    NodeSubscriber,
    OfficialSubscriber,
    OurSubscriber,
    joined,
)

StartHub = Callable[..., Awaitable[HubProcess]]
FANWIRE = (sys.executable, "-m", "hub.cli")
KEY = "an-api-key-of-this-test"
SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture
def start_secured(start_hub: StartHub) -> StartHub:
    """Return a coroutine that starts a hub with an API key and a token secret."""

    async def start(*flags: str) -> HubProcess:
        env = {"FANWIRE_API_KEY": KEY, "FANWIRE_TOKEN_HMAC_SECRET": SECRET}
        return await start_hub(*flags, insecure=False, env=env)

    return start


def check_sentence(text: str) -> None:
    """Fail unless ``text`` is one sentence for a person: not empty, one line, no traceback."""
    assert 10 < len(text) < 400, text
    assert "\n" not in text.strip(), text
    assert "Traceback" not in text, text


# -- the server API ----------------------------------------------------------------------------

_OK: dict[str, Any] = {"channel": "session:w:s", "data": {}}
#: What is sent, the status and the code it is answered with, and a word of the sentence.
API_CASES: dict[str, tuple[str, str | bytes, dict[str, str], int, int, str]] = {
    "no key": ("publish", "{}", {"X-API-Key": ""}, 401, 101, "key"),
    "a wrong key": ("publish", "{}", {"X-API-Key": "wrong"}, 401, 101, "wrong"),
    "an unknown method": ("fly", "{}", {}, 404, 104, "'fly'"),
    "a body that is not JSON": ("publish", "{nope", {}, 200, 107, "malformed"),
    "bytes that are not UTF-8": ("publish", b'{"channel":"\xff"}', {}, 200, 107, "publish"),
    "no data": ("publish", '{"channel":"session:w:s"}', {}, 200, 107, "data"),
    "data that is not JSON": ("publish", '{"channel":"x","data":nope}', {}, 200, 107, "publish"),
    "an unknown namespace": ("publish", '{"channel":"x:1","data":1}', {}, 200, 102, "'x:1'"),
    "a malformed channel": ("publish", '{"channel":"a b","data":1}', {}, 200, 107, "'a b'"),
    "a malformed parameter": (
        "publish", '{"channel":"session:w","data":1}', {}, 200, 102, "session:{workspace}",
    ),
    "an event the channel does not carry": (
        "publish", '{"channel":"session:w:s","data":{"type":"x"}}', {}, 200, 107, "session.created",
    ),
    "data over 64 KiB": (
        "publish",
        json.dumps({"channel": "run:w:r", "data": "x" * MAX_DATA_BYTES}),
        {}, 200, 106, str(MAX_DATA_BYTES),
    ),
    "a body over 1 MiB": ("publish", " " * (1024 * 1024 + 1), {}, 413, 106, "1048576"),
}  # fmt: skip


async def test_the_server_api_says_what_is_wrong(start_secured: StartHub) -> None:
    """Each bad request gets its status, the protocol's code and a sentence; the hub lives on."""
    hub = await start_secured()
    async with httpx.AsyncClient(base_url=hub.url) as http:
        for what, (method, body, headers, status, code, word) in API_CASES.items():
            answer = await http.post(
                f"/api/{method}", content=body, headers={"X-API-Key": KEY, **headers}
            )
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (status, code), (what, answer.text)
            assert word.lower() in error["message"].lower(), (what, error)
            check_sentence(error["message"])
            assert KEY not in answer.text
        answer = await http.post(
            "/api/publish",
            json={"channel": "run:w:r", "data": _event()},
            headers={"X-API-Key": KEY},
        )
        assert answer.json()["result"]["offset"] == 1, answer.text


def _event() -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": "e1", "source": "/t", "type": "run.event",
        "time": "2026-01-01T00:00:00Z", "data": {},
    }  # fmt: skip


# -- tokens ------------------------------------------------------------------------------------


def _token(**changes: Any) -> str:
    claims = {"sub": "u1", "exp": int(time.time()) + 60, "workspaces": ["w"], **changes}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def _unsigned() -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part({'sub': 'u1', 'exp': 2**40})}."


def bad_tokens() -> dict[str, tuple[str, int]]:
    """Return bad tokens, and the code each is answered with over WebSocket."""
    return {
        "expired": (_token(exp=int(time.time()) - 1), 109),
        "signed with another key": (
            jwt.encode({"sub": "u1", "exp": 2**40}, SECRET[::-1], algorithm="HS256"), 3500,
        ),
        "alg none": (_unsigned(), 3500),
        "of another algorithm": (
            jwt.encode({"sub": "u1", "exp": 2**40}, SECRET * 2, algorithm="HS512"), 3500,
        ),
        "without an end": (jwt.encode({"sub": "u1"}, SECRET, algorithm="HS256"), 3500),
        "no token at all": ("nonsense", 3500),
    }  # fmt: skip


async def test_a_bad_token_is_refused_over_websocket(start_secured: StartHub) -> None:
    """An expired token gets error 109, so that the client renews it; any other ends with 3500."""
    hub = await start_secured()
    for what, (token, code) in bad_tokens().items():
        async with connect(hub.ws_url) as ws:
            await say(ws, {"id": 1, "connect": {"token": token}})
            if code == 109:
                error = json.loads(await ws.recv())["error"]
                assert error["code"] == 109, what
                check_sentence(error["message"])
            else:
                got, reason = await ended(ws)
                assert got == code, (what, reason)
                check_sentence(reason)
                assert reason.startswith("invalid token"), reason
    async with connect(hub.ws_url) as ws:
        await say(ws, {"id": 1, "connect": {"token": _token()}})
        assert json.loads(await ws.recv())["connect"]["expires"] is True


async def test_a_bad_token_is_refused_by_the_feed(start_secured: StartHub) -> None:
    """The feed answers 401 with a sentence, 400 to a token in the address, and 403 without one."""
    hub = await start_secured()
    async with httpx.AsyncClient(base_url=hub.url) as http:
        for what, (token, _) in bad_tokens().items():
            answer = await http.get(
                "/events?channel=session:w:s", headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status_code == 401, what
            check_sentence(answer.json()["detail"])
        for query, status in (
            (f"channel=session:w:s&token={_token()}", 400),
            ("channel=session:w:s", 403),
            ("channel=x:1", 404),
            ("channel=a%20b", 400),
            ("", 400),
        ):
            answer = await http.get(f"/events?{query}")
            assert answer.status_code == status, (query, answer.text)
            check_sentence(answer.json()["detail"])


# -- the WebSocket protocol --------------------------------------------------------------------


async def say(ws: ClientConnection, *commands: object) -> None:
    """Send commands in one frame."""
    await ws.send("\n".join(json.dumps(command) for command in commands))


async def ended(ws: ClientConnection) -> tuple[int, str]:
    """Return the close code and reason, reading up to the end."""
    await ws.wait_closed()
    assert ws.close_code is not None
    assert ws.close_code != 1006, "the connection was cut without a word"
    return ws.close_code, ws.close_reason or ""


async def test_a_bad_command_gets_an_error_and_the_connection_lives(hub: HubProcess) -> None:
    """Unknown commands, channels and sizes are refused one by one, with the protocol's codes."""
    async with connect(hub.ws_url) as ws:
        await say(ws, {"id": 1, "connect": {}})
        await ws.recv()
        cases: list[tuple[dict[str, Any], int]] = [
            ({"fly": {}}, 104),
            ({}, 104),
            ({"rpc": {}}, 108),
            ({"subscribe": {"channel": "a b"}}, 107),
            ({"subscribe": {"channel": ""}}, 107),
            ({"subscribe": {"channel": "session:w"}}, 102),
            ({"publish": {"channel": "session:w:s", "data": {"type": "x"}}}, 107),
            ({"history": {"channel": "a\n"}}, 107),
        ]
        for number, (command, code) in enumerate(cases, 2):
            await say(ws, {"id": number, **command})
            reply = json.loads(await ws.recv())
            assert (reply["id"], reply["error"]["code"]) == (number, code), (command, reply)
            check_sentence(reply["error"]["message"])
        await say(ws, {"id": 100, "subscribe": {"channel": "fine"}})
        assert "subscribe" in json.loads(await ws.recv())
        await say(ws, {"id": 101, "subscribe": {"channel": "fine"}})
        assert json.loads(await ws.recv())["error"]["code"] == 105


async def test_what_is_no_protocol_at_all_ends_the_connection(hub: HubProcess) -> None:
    """Garbage, a command before connect and a second connect end with 3501, and say why."""
    hello = json.dumps({"id": 1, "connect": {}})
    cases: dict[str, tuple[list[str | bytes], int]] = {
        "garbage": (["garbage"], 3501),
        "garbage bytes": ([os.urandom(64)], 3501),
        "garbage after connect": ([hello, b"\xff\xfe\x00"], 3501),
        "an empty frame": ([hello, ""], 3501),
        "deep nesting": ([hello, "[" * 60_000], 3501),
        "JSON that is no command": ([hello, "[1,2]"], 3501),
        "a field of a wrong type": ([hello, '{"id":2,"subscribe":{"channel":7}}'], 3501),
        "a command before connect": (['{"id":1,"subscribe":{"channel":"a"}}'], 3501),
        "a second connect": ([hello, hello], 3501),
        "a pong nobody asked for": ([hello, "{}"], 3501),
        "a message over 64 KiB": ([hello, "x" * (MAX_DATA_BYTES + 1)], 1009),
        "a message over all limits": ([hello, "x" * (4 * MAX_DATA_BYTES)], 1009),
    }
    for what, (frames, code) in cases.items():
        async with connect(hub.ws_url, max_size=None) as ws:
            for frame in frames:
                await ws.send(frame)
            got, reason = await ended(ws)
        assert got == code, (what, reason)
        assert reason, what
        assert len(reason.encode()) <= 123
    await hub.ready()


async def test_a_foreign_page_cannot_connect(hub: HubProcess) -> None:
    """A handshake or a request from a foreign Origin gets 403 and a sentence."""
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(hub.ws_url, origin=websockets.Origin(origin))
        assert refused.value.response.status_code == 403
        assert b"origin" in (refused.value.response.body or b"").lower()
        async with httpx.AsyncClient(base_url=hub.url, headers={"Origin": origin}) as http:
            for answer in (
                await http.get("/events?channel=news"),
                await http.post("/api/publish", json={"channel": "news", "data": 1}),
            ):
                assert answer.status_code == 403
                assert origin in answer.json()["detail"]
    async with connect(hub.ws_url, origin=websockets.Origin(hub.url)) as ws:
        await say(ws, {"id": 1, "connect": {}})
        assert "connect" in json.loads(await ws.recv())


# -- the command line --------------------------------------------------------------------------


async def refused(place: Place, *args: str, env: dict[str, str] | None = None) -> str:
    """Run ``fanwire``, expect status 2, and return the sentence it ends with."""
    program = Program(place, *FANWIRE, *args, name=f"fanwire {args[0]}", env=env)
    assert await program.run() == 2, (args, program.err)
    assert program.out == []
    said = [line for line in program.err if line.startswith("Error: ")]
    assert len(said) == 1, program.err
    check_sentence(said[0])
    assert "Traceback" not in "\n".join(program.err)
    return said[0]


async def test_an_unknown_setting_is_refused_wherever_it_stands(place: Place) -> None:
    """In the file, in the environment, as a flag: status 2, its name, and a hint."""
    config = place.path / "wrong.toml"
    config.write_text("prot = 8001\n", encoding="utf-8")
    said = await refused(place, "serve", "--config", str(config))
    assert "'prot'" in said
    assert "port" in said.replace("'prot'", "")
    said = await refused(place, "serve", env={"FANWIRE_PROT": "8001"})
    assert "'FANWIRE_PROT'" in said
    assert "FANWIRE_PORT" in said
    assert "--prot" in await refused(place, "serve", "--prot", "8001")


async def test_a_wrong_value_is_refused_wherever_it_stands(place: Place) -> None:
    """The source and the name of the setting are told, and a secret's value never is."""
    wrong = place.path / "wrong.toml"
    wrong.write_text('port = "many"\n', encoding="utf-8")
    broken = place.path / "broken.toml"
    broken.write_text("port = \n", encoding="utf-8")
    said = await asyncio.gather(
        refused(place, "serve", "--config", str(wrong)),
        refused(place, "serve", "--config", str(broken)),
        refused(place, "serve", env={"FANWIRE_PORT": "70000"}),
        refused(place, "serve", env={"FANWIRE_TOKEN_HMAC_SECRET": "short-secret"}),
        refused(place, "serve", "--insecure", "--host", "0.0.0.0"),
    )
    for sentence, word in zip(
        said, ("port", "broken.toml", "FANWIRE_PORT", "32 bytes", "loopback"), strict=True
    ):
        assert word in sentence
    assert "short-secret" not in said[3]


async def test_a_port_in_use_is_told(hub: HubProcess, place: Place) -> None:
    """Status 2, the port, and what to do; the hub that has it does not notice."""
    data = str(place.path / "other")
    said = await refused(place, "serve", "--port", str(hub.port), "--data-dir", data)
    assert str(hub.port) in said
    assert "in use" in said
    await hub.ready()


async def test_a_data_directory_that_cannot_be_used_is_told(hub: HubProcess, place: Place) -> None:
    """Below a file (which not even root can write) or held by another hub: status 2."""
    (place.path / "file").write_text("not a directory", encoding="utf-8")
    below = str(place.path / "file" / "data")
    said = await refused(place, "serve", "--port", "0", "--data-dir", below)
    assert below in said
    assert "FANWIRE_DATA_DIR" in said
    said = await refused(place, "serve", "--port", "0", "--data-dir", str(hub.data_dir))
    assert f"process id {hub.pid}" in said


async def test_the_commands_say_what_is_wrong(hub: HubProcess, place: Place) -> None:
    """``publish`` and ``tail`` end with 1 or 2 and a sentence, also without a hub."""
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("publish", "news", "{nope"), 2, "JSON"),
        (("publish", "a b", "1"), 1, "'a b'"),
        (("publish", "news", json.dumps("x" * MAX_DATA_BYTES)), 2, str(MAX_DATA_BYTES)),
        (("publish", "news", "1", "--url", "http://127.0.0.1:9"), 1, "127.0.0.1:9"),
        (("tail", "a b"), 1, "'a b'"),
        (("tail", "news", "--since", "soon"), 2, "'soon'"),
        (("tail", "news", "--url", "ftp://x"), 2, "ftp://x"),
    ]

    async def check(args: tuple[str, ...], status: int, word: str) -> None:
        env = {"FANWIRE_URL": hub.url}
        program = Program(place, *FANWIRE, *args, name=f"fanwire {args[0]}", env=env)
        assert await program.run(timeout_s=40) == status, (args[:2], program.err)
        said = [line for line in program.err if line.startswith("Error: ")]
        assert len(said) == 1, (args[:2], program.err)
        assert word in said[0], (args[:2], said)

    await asyncio.gather(*(check(*case) for case in cases))


# -- odd text ----------------------------------------------------------------------------------

#: JSON texts of which each is delivered as sent, or refused; none may break a frame.
ODD: dict[str, bytes] = {
    "a newline between tokens": b'{"a":\n1}',
    "a carriage return between tokens": b'{"a":\r\n1}',
    "a newline in a string": b'"a\nb"',
    "an escaped newline": b'"a\\nb\\r\\u000a"',
    "U+2028 as it is": '"a\u2028b\u2029c\u0085d"'.encode(),
    "U+2028 escaped": b'"a\\u2028b"',
    "a lone surrogate escaped": b'"a\\ud800b"',
    "a lone surrogate in a key": b'{"\\udfff":1}',
    "a lone surrogate as bytes": b'"a\xed\xa0\x80b"',
    "a surrogate pair escaped": b'"\\ud83d\\ude00"',
    "NUL escaped": b'"a\\u0000b"',
    "a byte order mark": b'\xef\xbb\xbf"a"',
    "text that looks like SSE": b'"\\n\\ndata: forged\\n\\n"',
    "text that looks like a frame": b'{"push":{"channel":"odd","pub":{"offset":1}}}',
    "a number beyond 2^53": b"9007199254740993",
}
#: These are refused by every entry.
REFUSED = {
    "a newline in a string",
    "a lone surrogate escaped",
    "a lone surrogate in a key",
    "a lone surrogate as bytes",
    "a byte order mark",
}


async def _publish_by_api(hub: HubProcess, place: Place, data: bytes) -> bool:
    async with httpx.AsyncClient(base_url=hub.url) as http:
        answer = await http.post("/api/publish", content=b'{"channel":"odd","data":%b}' % data)
    if "result" in answer.json():
        return True
    assert answer.json()["error"]["code"] == 107
    return False


async def _publish_by_websocket(hub: HubProcess, place: Place, data: bytes) -> bool:
    async with connect(hub.ws_url) as ws:
        await say(ws, {"id": 1, "connect": {}})
        await ws.recv()
        # As binary, because bytes that are not UTF-8 are no text frame.
        await ws.send(b'{"id":2,"publish":{"channel":"odd","data":%b}}' % data)
        try:
            reply = json.loads(await ws.recv())
        except websockets.ConnectionClosed:
            assert ws.close_code == 3501
            return False
    assert "publish" in reply or reply["error"]["code"] == 107, reply
    return "publish" in reply


async def _publish_by_argument(hub: HubProcess, place: Place, data: bytes) -> bool:
    text = os.fsdecode(data)
    program = Program(place, *FANWIRE, "publish", "odd", text, "--url", hub.url)
    status = await program.run()
    assert status in {0, 2}, program.err
    return status == 0


@pytest.mark.parametrize("publish", [_publish_by_api, _publish_by_websocket, _publish_by_argument])
async def test_odd_text_arrives_as_sent_or_is_refused(
    hub: HubProcess,
    place: Place,
    node: str,
    publish: Callable[[HubProcess, Place, bytes], Awaitable[bool]],
) -> None:
    """Whatever an entry takes, five kinds of readers read the same; no frame is broken."""
    readers = [
        NodeSubscriber(place, node, hub.ws_url, "odd"),
        OfficialSubscriber(hub.ws_url, "odd"),
        OurSubscriber(hub.url, "odd"),
        NodeEventSource(place, node, hub.url, "odd"),
        FeedReader(hub.url, "odd"),
    ]
    async with joined(readers):
        # In the frame of a WebSocket, newlines separate commands.
        refused = REFUSED | (
            {"a newline between tokens", "a carriage return between tokens"}
            if publish is _publish_by_websocket
            else set()
        )
        taken = await asyncio.gather(*(publish(hub, place, data) for data in ODD.values()))
        for what, was_taken in zip(ODD, taken, strict=True):
            assert was_taken == (what not in refused), what
        for reader in readers:
            await reader.received(sum(taken))
    for reader in readers:
        assert reader.of("gap") == []
        got = reader.data()
        if isinstance(reader, NodeSubscriber | NodeEventSource):
            # A number of JavaScript has 53 bits; what came over the wire had all.
            got = [2**53 + 1 if value == 2**53 else value for value in got]
        sent = [json.loads(data) for data, it in zip(ODD.values(), taken, strict=True) if it]
        assert sorted(map(json.dumps, got)) == sorted(map(json.dumps, sent)), reader.kind


async def test_lines_of_a_pipe_arrive_as_text_or_as_json(hub: HubProcess, place: Place) -> None:
    """``publish -``: JSON as it is, other text as a line, odd bytes replaced, frames whole."""
    lines = [
        b'{"n":1}',
        "text with \u2028 and \x85 in it".encode(),
        b"bytes \xff\xfe that are no text",
        b'"a lone \\ud800 surrogate"',
        b"carriage return at the end\r",
        b"",
        b"\x00\x1b[31m",
        b'"the end"',
    ]
    async with joined([FeedReader(hub.url, "odd"), OfficialSubscriber(hub.ws_url, "odd")]) as both:
        program = Program(place, *FANWIRE, "publish", "odd", "-", "--url", hub.url)
        assert await program.run(b"\n".join(lines)) == 0, program.err
        for reader in both:
            await reader.until(lambda reader=reader: "the end" in reader.data())
    for reader in both:
        assert reader.data() == [
            {"n": 1},
            {"line": "text with \u2028 and \x85 in it"},
            {"line": "bytes \ufffd\ufffd that are no text"},
            {"line": '"a lone \\ud800 surrogate"'},
            {"line": "carriage return at the end"},
            {"line": "\x00\x1b[31m"},
            "the end",
        ]
