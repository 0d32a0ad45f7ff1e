"""The head of a request: it must come, and be of a sensible size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import websockets

from hub.transports import uvicorn_http
from tests.hub.serving import Served, open_settings, served
from tests.servers import ValkeyServer

HEAD = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
async def hub(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A hub that waits half a second for the head of a request."""
    monkeypatch.setattr(uvicorn_http, "HEAD_TIMEOUT_S", 0.5)
    async with served(open_settings(valkey.url)) as at:
        yield at


async def _open(hub: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = hub.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, HEAD + b"\r\n" + HEAD])
async def test_a_head_that_does_not_come_ends_the_connection(hub: Served, sent: bytes) -> None:
    """Nothing, half a head, or half of the second one: the place is free again soon."""
    reader, writer = await _open(hub)
    writer.write(sent)
    try:
        async with asyncio.timeout(5):
            answer = await reader.read(65_536)
            while more := await reader.read(65_536):
                answer += more
    except ConnectionResetError:
        answer = b""
    assert answer.count(b"HTTP/1.1 200") <= sent.count(b"\r\n\r\n")
    writer.close()


async def test_an_idle_connection_is_kept(hub: Served) -> None:
    """Between two requests a client may rest: API clients keep their connections."""
    reader, writer = await _open(hub)
    for _ in range(2):
        writer.write(HEAD + b"\r\n")
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            while (await reader.readline()).strip():
                pass
            await reader.readexactly(len(b'{"status":"ok"}'))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):
                await reader.read(1)
    writer.close()


async def test_too_many_headers_are_a_bad_request(hub: Served) -> None:
    """Three thousand headers are an attack on memory, not a request."""
    reader, writer = await _open(hub)
    writer.write(HEAD + b"X: y\r\n" * 3000 + b"\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_stream_outlasts_the_wait(hub: Served) -> None:
    """The timer is about heads: a feed that is open longer than that goes on."""
    reader, writer = await _open(hub)
    writer.write(b"GET /events?channel=a:b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    async with asyncio.timeout(5):
        await reader.readuntil(b"retry: ")
        await reader.readuntil(b"\n\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readuntil(b"\n\n"), 0.8)
    await hub.hub.services.events.publish("a:b", 1)
    async with asyncio.timeout(5):
        assert b'"offset":1' in await reader.readuntil(b"\n\n")
    writer.close()


async def test_a_websocket_outlasts_the_wait(hub: Served) -> None:
    """An upgrade ends the head as well."""
    address = hub.url.replace("http", "ws", 1) + "/connection/websocket"
    async with websockets.connect(address) as ws:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.8)
        await ws.send('{"id":1,"connect":{}}')
        assert '"client"' in str(await asyncio.wait_for(ws.recv(), 5))
