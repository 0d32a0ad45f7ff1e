"""Readers that stop and go on: live batches go past the transport, and nothing is torn by it."""

from __future__ import annotations

import asyncio
import json
import random
import socket

import pytest

from tests.hub.serving import api, open_settings, served
from tests.hub.transports import server
from tests.hub.transports.raw import commands, raw_socket, read_frame, subscribed
from tests.servers import ValkeyServer

KIB = 1024
MIB = 1024 * KIB


@pytest.mark.parametrize("seed", range(3))
async def test_a_websocket_that_stops_and_goes_on_gets_every_byte(
    valkey: ValkeyServer, seed: int
) -> None:
    """Whole frames, in order, replies among them, however full the socket was at any moment."""
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    async with server.serve(valkey.url, outbox_bytes=64 * MIB) as hub:
        async with raw_socket(hub, receive_bytes=4 * KIB) as slow:
            await loop.sock_sendall(
                slow,
                commands({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "chat"}}),
            )
            await subscribed(slow)
            [connection] = hub.connections
            at_hub = connection._transport.get_extra_info("socket")
            at_hub.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KIB)
            offsets: list[int] = []
            replies: list[int] = []
            published, asked, queued = 0, 2, 0
            while published < 200:
                count = chance.randint(1, 20)
                await hub.publish(count, size=chance.choice([10, 1 * KIB, 8 * KIB]))
                published += count
                asked += 1
                ask = commands({"id": asked, "history": {"channel": "chat", "limit": 0}})
                await loop.sock_sendall(slow, ask)
                queued += bool(hub.drivers[-1].outbox)
                for _ in range(chance.choice([0, 0, 1, 30])):
                    if len(offsets) < published:
                        await _read(slow, offsets, replies)
            while len(offsets) < published or len(replies) < asked - 2:
                await _read(slow, offsets, replies)
            assert offsets == list(range(1, published + 1))
            assert replies == list(range(3, asked + 1))
            assert queued  # the socket was full now and then
        assert hub.engine.traffic.drops == {}


async def _read(slow: socket.socket, offsets: list[int], replies: list[int]) -> None:
    opcode, payload = await read_frame(slow)
    assert opcode == 1
    for line in payload.split(b"\n"):
        told = json.loads(line)
        if "push" in told:
            offsets.append(told["push"]["pub"]["offset"])
        elif told:
            replies.append(told["id"])


async def test_a_feed_that_stops_and_goes_on_gets_every_byte(valkey: ValkeyServer) -> None:
    """Whole chunks, in order."""
    loop = asyncio.get_running_loop()
    settings = open_settings(valkey.url, send_timeout_s=60, outbox_bytes=64 * MIB)
    async with served(settings) as hub:
        await api(hub, "publish", channel="a:b", data=0)
        host, port = hub.url.removeprefix("http://").split(":")
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            await loop.sock_connect(slow, (host, int(port)))
            request = f"GET /events?channel=a:b HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
            await loop.sock_sendall(slow, request.encode())
            received = b""
            while b"event: start" not in received:
                received += await loop.sock_recv(slow, 4096)
            [connection] = hub.server.server_state.connections
            at_hub = connection.transport.get_extra_info("socket")
            at_hub.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KIB)
            for number in range(1, 61):
                await api(hub, "publish", channel="a:b", data=[number, "x" * 20_000])
                if number % 10 == 0:
                    received += await loop.sock_recv(slow, 64 * KIB)
            async with asyncio.timeout(60):
                while b"[60," not in received or not received.endswith(b"\n\n\r\n"):
                    received += await loop.sock_recv(slow, MIB)
        body = _body(received.partition(b"\r\n\r\n")[2])
        told = [line for line in body.split(b"\n") if line.startswith(b'data: {"channel"')]
        numbers = [json.loads(line[6:])["pub"]["data"][0] for line in told]
        assert numbers == list(range(1, 61))
        assert hub.hub.engine.traffic.drops == {}


def _body(chunked: bytes) -> bytes:
    """Return the body of a chunked response that goes on; every chunk must be whole."""
    body = b""
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        count = int(size, 16)
        assert rest[count : count + 2] == b"\r\n"
        body += rest[:count]
        chunked = rest[count + 2 :]
    return body
