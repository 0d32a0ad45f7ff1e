"""``/events`` over a real socket: what a browser's EventSource relies on."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from channels.cursor import encode_cursor_part
from channels.position import Position
from hub.app import create_app
from hub.auth import TOKEN_COOKIE
from hub.transports.uvicorn_http import FanwireHttpProtocol
from tests.hub.event_source import Event, EventSource, listening
from tests.hub.serving import Served, open_settings, served, strict_settings, token
from tests.servers import ValkeyServer


@pytest.fixture
async def hub(valkey: ValkeyServer) -> AsyncIterator[Served]:
    """A hub where everybody may do everything, quick to give up on slow readers."""
    async with served(open_settings(valkey.url, send_timeout_s=0.5)) as at:
        yield at


@pytest.fixture
async def client(hub: Served) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of it."""
    async with hub.client() as client:
        yield client


async def _publish(hub: Served, channel: str, *data: Any) -> None:
    for one in data:
        await hub.hub.services.events.publish(channel, one)


def _seen(events: list[Event]) -> list[tuple[str, int, Any]]:
    return [
        (event.json["channel"], event.offset, event.json["pub"]["data"])
        if event.type == "message"
        else (event.type, 0, event.json)
        for event in events
    ]


async def _empty(hub: Served) -> None:
    """Return when no reader is left, in the registry and in the rooms."""
    async with asyncio.timeout(5):
        await hub.hub.registry.wait_empty()
    assert [len(room) for room in hub.hub.engine.rooms.values() if len(room)] == []


async def test_what_is_published_arrives_at_once(hub: Served, client: httpx.AsyncClient) -> None:
    """Every publication is one event in the documented form, with headers that keep it flowing."""
    async with listening(client, "a:b") as source:
        await _publish(hub, "a:b", {"n": 1}, "two\u2028\u2029\n\rthree")
        first, second = await source.take(2)
        assert first.data == '{"channel":"a:b","pub":{"offset":1,"data":{"n":1}}}'
        assert second.json["pub"]["data"] == "two\u2028\u2029\n\rthree"
        assert source.retry_ms is not None
        assert 1000 <= source.retry_ms <= 3000
        headers = source.response.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert "no-store" in headers["cache-control"]
        assert headers["x-accel-buffering"] == "no"
    await _empty(hub)


async def test_a_reader_that_comes_back_misses_nothing(
    hub: Served, client: httpx.AsyncClient
) -> None:
    """With the last id it saw it gets what it missed on every channel, once and in order."""
    async with listening(client, "a:b", "c:d") as source:
        await _publish(hub, "a:b", 1, 2)
        await _publish(hub, "c:d", 1)
        assert len(await source.take(3)) == 3
        last_id = source.last_id
    await _publish(hub, "c:d", 2, 3)
    await _publish(hub, "a:b", 3)
    async with listening(client, "a:b", "c:d", last_id=last_id) as source:
        missed = _seen(await source.take(3))
        await _publish(hub, "a:b", 4)
        live = _seen(await source.take(1))
    assert missed == [("a:b", 3, 3), ("c:d", 2, 2), ("c:d", 3, 3)]
    assert live == [("a:b", 4, 4)]


async def test_any_event_may_be_the_last_one_seen(hub: Served, client: httpx.AsyncClient) -> None:
    """Wherever a reader is cut off, in the middle of a recovery too, nothing is lost or doubled."""
    await _publish(hub, "a:b", 0)
    async with listening(client, "a:b", "c:d", last_id="") as source:
        await _publish(hub, "c:d", 0)
        await source.next()
        cursor = source.last_id
    await _publish(hub, "a:b", 1, 2)
    await _publish(hub, "c:d", 1, 2)
    expected = [("a:b", 2, 1), ("a:b", 3, 2), ("c:d", 2, 1), ("c:d", 3, 2)]
    for cut_after in range(5):
        got: list[tuple[str, int, Any]] = []
        last_id = cursor
        for count in (cut_after, 4 - cut_after):
            async with listening(client, "a:b", "c:d", last_id=last_id) as source:
                got += _seen(await source.take(count))
                last_id = source.last_id
        assert got == expected


async def test_the_address_can_carry_the_cursor(hub: Served, client: httpx.AsyncClient) -> None:
    """A page's first connection resumes by ``last_event_id``; the header, being newer, wins."""
    async with listening(client, "a:b") as source:
        await _publish(hub, "a:b", 1)
        await source.next()
        first = source.last_id
        await _publish(hub, "a:b", 2)
        await source.next()
        second = source.last_id
    await _publish(hub, "a:b", 3)
    address = f"/events?channel=a:b&last_event_id={first}"
    async with client.stream("GET", address) as response:
        assert (await EventSource(response).next()).offset == 2
    async with client.stream("GET", address, headers={"Last-Event-ID": second}) as response:
        assert (await EventSource(response).next()).offset == 3


async def test_a_cut_before_the_first_event_loses_nothing(
    hub: Served, client: httpx.AsyncClient
) -> None:
    """The first block carries an id and no data: it sets the cursor and dispatches nothing."""
    async with listening(client, "a:b") as source:
        lines = []
        async for line in source.lines():
            if line.startswith("id: "):
                break
            lines.append(line)
        cursor = line.removeprefix("id: ")
    await _publish(hub, "a:b", 1)
    async with listening(client, "a:b", last_id=cursor) as source:
        assert (await source.next()).offset == 1


def _cursor(channel: str, position: Position, id: str = "") -> str:
    return encode_cursor_part(channel, position.epoch, position.offset, id).decode()


async def test_what_is_lost_is_told(hub: Served, client: httpx.AsyncClient) -> None:
    """Each reason for a gap is an event, after which the feed goes on from a new cursor."""
    position = await hub.hub.services.events.publish("a:b", 1)
    here = {"epoch": position.epoch, "offset": 1}
    for cursor, reason in (
        (_cursor("a:b", Position("otherepo", 1)), "epoch"),
        (_cursor("a:b", Position(position.epoch, 9)), "forked"),
        (_cursor("a:b", position, "another_id"), "forked"),
        (_cursor("c:d", position), "absent"),
        ("garbage \u00fc,,::::,\x01", "absent"),
    ):
        async with client.stream(
            "GET", "/events", params={"channel": "a:b", "last_event_id": cursor}
        ) as response:
            source = EventSource(response)
            gap = await source.next()
            assert (gap.type, gap.json["reason"]) == ("gap", reason)
            assert (gap.json["channel"], gap.json["position"]) == ("a:b", here)
        async with listening(client, "a:b", last_id=gap.id) as source:
            await _publish(hub, "c:d", 0)
            assert source.response.status_code == 200
            await hub.hub.services.events.remove_history("c:d")
    async with listening(client, "a:b", last_id=gap.id) as source:
        await _publish(hub, "a:b", 2)
        assert (await source.next()).offset == 2


async def test_a_gap_is_told_again_until_it_was_seen(
    hub: Served, client: httpx.AsyncClient
) -> None:
    """Whoever is cut off before the gap of the second channel was written hears of it again."""
    await _publish(hub, "a:b", 1)
    await _publish(hub, "c:d", 1)
    async with listening(client, "a:b", "c:d") as source:
        await _publish(hub, "a:b", 2)
        cursor = (await source.next()).id
    await _publish(hub, "a:b", 3)
    await _publish(hub, "c:d", 2)
    await hub.hub.services.events.remove_history("c:d")
    async with listening(client, "a:b", "c:d", last_id=cursor) as source:
        between = (await source.next()).id
        assert (await source.next()).type == "gap"
    async with listening(client, "a:b", "c:d", last_id=between) as source:
        gap = await source.next()
        assert (gap.type, gap.json["channel"], gap.json["reason"]) == ("gap", "c:d", "trimmed")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, 107),
        ("channel=", 400, 107),
        ("channel=a%20b", 400, 107),
        ("channel=a:b&channel=" + "x" * 256, 400, 107),
        ("channel=session:w1", 404, 102),
        ("&".join(f"channel=c:{n}" for n in range(129)), 400, 106),
        ("channel=a:b&token=canary", 400, 107),
    ],
)
async def test_what_cannot_be_is_refused_before_the_stream(
    hub: Served, client: httpx.AsyncClient, query: str, status: int, code: int
) -> None:
    """A request for what does not exist gets a problem, at which an EventSource stops."""
    answer = await client.get(f"/events?{query}", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "canary" not in answer.text
    assert not hub.hub.engine.rooms


async def test_128_channels_resume_by_one_cursor(hub: Served, client: httpx.AsyncClient) -> None:
    """As many channels as a feed may have are joined, and all of them resumed."""
    names = [f"c:{n}" for n in range(128)]
    async with listening(client, *names, "c:0") as source:
        await _publish(hub, names[0], 1)
        cursor = (await source.next()).id
    for name in names:
        await _publish(hub, name, 2)
    async with listening(client, *names, last_id=cursor) as source:
        got = _seen(await source.take(128))
    assert sorted(name for name, _, _ in got) == sorted(names)


async def test_head_and_preflight_open_no_feed(hub: Served, client: httpx.AsyncClient) -> None:
    """HEAD answers with the headers alone; a preflight of an allowed page with what it may."""
    answer = await client.head("/events?channel=a:b")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (await client.head("/events?channel=session:w1")).status_code == 404
    page = {"Origin": "http://localhost:3000"}
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "X-Y"}
    answer = await client.options("/events?channel=a:b", headers={**page, **asked})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == page["Origin"]
    assert answer.headers["access-control-allow-headers"] == "X-Y"
    async with listening(client, "a:b", **page) as source:
        headers = source.response.headers
        assert headers["access-control-allow-origin"] == page["Origin"]
        assert headers["access-control-allow-credentials"] == "true"
        assert headers["vary"] == "Origin"
    answer = await client.get("/events?channel=a:b", headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, 103)
    assert "access-control-allow-origin" not in answer.headers
    assert (await client.post("/events?channel=a:b")).status_code == 405


async def test_rules_and_tokens_decide(valkey: ValkeyServer) -> None:
    """A feed needs the right to each of its channels, by header or by cookie."""
    async with served(strict_settings(valkey.url)) as at, at.client() as client:

        async def status(channel: str, **headers: str) -> int:
            params = {"channel": channel}
            async with client.stream("GET", "/events", params=params, headers=headers) as response:
                return response.status_code

        bearer = {"Authorization": f"Bearer {token('ann', workspaces=['w1'])}"}
        cookie = {"Cookie": f"{TOKEN_COOKIE}={token('ann')}"}
        assert await status("notifications:ann", **bearer) == 200
        assert await status("notifications:ann", **cookie) == 200
        assert await status("session:w1:s1", **bearer) == 200
        assert await status("session:w2:s1", **bearer) == 403
        assert await status("notifications:bob", **cookie) == 403
        assert await status("notifications:ann") == 403
        assert await status("undeclared:x", **bearer) == 404
        assert await status("notifications:ann", Authorization="Bearer x") == 401
        assert await status("notifications:ann", Cookie=f"{TOKEN_COOKIE}=x") == 401
        expired = f"Bearer {token('ann', ttl_s=-5)}"
        assert await status("notifications:ann", Authorization=expired) == 401


async def test_the_token_s_end_is_the_feed_s_end(valkey: ValkeyServer) -> None:
    """The reader is warned, then the feed is closed with 3005, on time."""
    async with served(strict_settings(valkey.url)) as at, at.client() as client:
        bearer = token("ann", ttl_s=2.0)
        async with listening(
            client, "notifications:ann", Authorization=f"Bearer {bearer}"
        ) as source:
            warning = await source.next()
            assert warning.type == "auth-expiring"
            left_s = warning.json["expires_at"] - time.time()
            assert 0 < left_s < 2
            [end] = await source.rest()
            assert abs(warning.json["expires_at"] - time.time()) < 0.5
            assert (end.type, end.json) == ("close", {"code": 3005, "reason": "token expired"})
        await _empty(at)


async def test_a_node_that_ends_says_so(valkey: ValkeyServer) -> None:
    """Readers are asked to come back a little later, each at its own time; then the stream ends."""
    async with (
        served(open_settings(valkey.url)) as at,
        at.client() as client,
        listening(client, "a:b") as source,
    ):
        await _publish(at, "a:b", 1)
        await source.next()
        at.server.should_exit = True
        [end] = await source.rest()
        assert (end.type, end.json) == ("close", {"code": 3001, "reason": "shutdown"})
        assert source.retry_ms is not None
        assert source.last_id == end.id != ""


async def test_a_full_node_takes_no_more(valkey: ValkeyServer) -> None:
    """One reader too many is refused; a browser is told inside a stream, and comes back."""
    async with served(open_settings(valkey.url, max_connections=1)) as at, at.client() as client:
        async with listening(client, "a:b"):
            answer = await client.get("/events?channel=a:b")
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            async with listening(client, "a:b") as source:
                assert source.response.status_code == 200
                [end] = await source.rest()
                assert (end.type, end.json["code"]) == ("close", 111)
                assert source.retry_ms is not None
        await _empty(at)


async def test_redis_away_does_not_send_browsers_away(
    valkey_server: Callable[[], ValkeyServer],
) -> None:
    """A status other than 200 would end an EventSource for good, so it is asked to come back."""
    redis = await asyncio.to_thread(valkey_server)
    async with served(open_settings(redis.url)) as at, at.client() as client:
        await asyncio.to_thread(redis.stop)
        plain, browser = await asyncio.gather(
            client.get("/events?channel=a:b"),
            client.get("/events?channel=a:b", headers={"Accept": "text/event-stream"}),
        )
        assert (plain.status_code, plain.json()["code"]) == (503, 100)
        assert browser.status_code == 200
        assert "event: close\ndata: " in browser.text
        assert browser.text.startswith("retry: ")
        for answer in (plain, browser):  # where Redis is concerns nobody
            assert "valkey.sock" not in answer.text
            assert "try again" in answer.text
        await _empty(at)


async def test_an_idle_feed_shows_life(valkey: ValkeyServer) -> None:
    """Comments keep proxies from cutting a quiet feed."""
    async with (
        served(open_settings(valkey.url, sse_heartbeat_s=0.05)) as at,
        at.client() as client,
        listening(client, "a:b") as source,
    ):
        async for line in source.lines():
            if line.startswith(":"):
                break


async def test_a_reader_that_went_away_leaves_nothing(
    hub: Served, client: httpx.AsyncClient
) -> None:
    """Fifty readers that vanish leave no member, no timer and no task."""
    async with listening(client, "warm:up"):
        pass
    await _empty(hub)
    before = asyncio.all_tasks()
    for _ in range(5):
        async with asyncio.TaskGroup() as group:
            for n in range(10):
                group.create_task(_look_in(client, f"c:{n}"))
    await _empty(hub)
    if ending := asyncio.all_tasks() - before:
        _, left = await asyncio.wait(ending, timeout=5)  # uvicorn's part of them ends last
        assert not left


async def _look_in(client: httpx.AsyncClient, channel: str) -> None:
    async with listening(client, channel, "all:of") as source:
        async for _ in source.lines():
            return


async def test_a_reader_that_stops_reading_is_let_go(hub: Served) -> None:
    """It owes at most its limit, delays nobody, and its connection ends."""
    loop = asyncio.get_running_loop()
    host, port = hub.url.removeprefix("http://").split(":")
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.setblocking(False)
        await loop.sock_connect(stuck, (host, int(port)))
        request = f"GET /events?channel=a:b HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
        await loop.sock_sendall(stuck, request.encode())
        assert (await loop.sock_recv(stuck, 64)).startswith(b"HTTP/1.1 200")
        async with hub.client() as client, listening(client, "a:b") as quick:
            for n in range(200):
                await _publish(hub, "a:b", [n, "x" * 60_000])
                assert (await quick.next()).offset == n + 1
        await _empty(hub)


async def test_a_reader_that_stalls_as_its_recovery_ends_may_owe_no_more(
    valkey: ValkeyServer,
) -> None:
    """What comes live then queues, and counts: the transport is full, and said so before."""
    loop = asyncio.get_running_loop()
    settings = open_settings(valkey.url, send_timeout_s=30, outbox_bytes=256 * 1024)
    async with served(settings) as hub:
        for n in range(10):
            await _publish(hub, "a:b", [n, "x" * 60_000])
        host, port = hub.url.removeprefix("http://").split(":")
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.setblocking(False)
            await loop.sock_connect(stuck, (host, int(port)))
            connection = await _narrow(hub)
            request = f"GET /events?channel=a:b&recent=10 HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
            await loop.sock_sendall(stuck, request.encode())
            while connection.stream is None:
                await loop.sock_recv(stuck, 4096)
            async with hub.client() as client, listening(client, "a:b") as quick:
                for n in range(20):
                    await _publish(hub, "a:b", [n, "x" * 60_000])
                    assert (await quick.next()).offset == 11 + n
                assert hub.hub.engine.traffic.drops == {"slow": 1}
            connection.transport.abort()


async def _narrow(hub: Served) -> FanwireHttpProtocol:
    """Have the one connection ask for a pause at every event; return it."""
    async with asyncio.timeout(5):
        while not (connections := hub.server.server_state.connections):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    [connection] = connections
    assert isinstance(connection, FanwireHttpProtocol)
    at_server = connection.transport.get_extra_info("socket")
    at_server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection.transport.set_write_buffer_limits(8 * 1024)
    return connection


async def test_what_a_middleware_still_holds_is_not_overtaken(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hands the last event of a recovery on when the reader reads again; live ones follow."""

    async def hand_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    def with_middleware(*args: Any, **options: Any) -> FastAPI:
        app = create_app(*args, **options)
        app.add_middleware(BaseHTTPMiddleware, dispatch=hand_on)
        return app

    monkeypatch.setattr("hub.server.create_app", with_middleware)
    loop = asyncio.get_running_loop()
    async with served(open_settings(valkey.url, send_timeout_s=30)) as hub:
        for n in range(10):
            await _publish(hub, "a:b", [n, "x" * 30_000])
        host, port = hub.url.removeprefix("http://").split(":")
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            await loop.sock_connect(reader, (host, int(port)))
            connection = await _narrow(hub)
            request = f"GET /events?channel=a:b&recent=10 HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
            await loop.sock_sendall(reader, request.encode())
            received = b""
            while connection.stream is None and received.count(b'"offset":') < 8:
                received += await loop.sock_recv(reader, 1024)
            await _publish(hub, "a:b", "live")
            await _has_told(hub, "a:b", 11)
            async with asyncio.timeout(10):
                while received.count(b'"offset":') < 11:
                    received += await loop.sock_recv(reader, 4096)
            offsets = [int(found) for found in re.findall(rb'"offset":(\d+)', received)]
            assert offsets == list(range(1, 12))


async def _has_told(hub: Served, channel: str, offset: int) -> None:
    """Return when the publication at ``offset`` was given to everybody."""
    room = hub.hub.engine.rooms[channel]
    async with asyncio.timeout(5):
        while not room.has_told(Position(room.position.epoch, offset)):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
