"""A WebSocket by hand: the handshake and frames, on a plain socket."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .server import PATIENCE_S, HubServer

__all__ = [
    "asked_socket",
    "commands",
    "frame",
    "raw_socket",
    "read_frame",
    "subscribed",
    "switched",
]


@asynccontextmanager
async def raw_socket(
    hub: HubServer, headers: str = "", *, receive_bytes: int | None = None
) -> AsyncIterator[socket.socket]:
    """Yield a socket after a WebSocket handshake by hand, with a small window if asked for."""
    async with asked_socket(hub, headers, receive_bytes=receive_bytes) as sock:
        await switched(sock)
        yield sock


@asynccontextmanager
async def asked_socket(
    hub: HubServer, headers: str = "", *, receive_bytes: int | None = None
) -> AsyncIterator[socket.socket]:
    """Yield a socket on which a handshake was asked for."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await loop.sock_connect(sock, ("127.0.0.1", hub.port))
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            "GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"{headers}\r\n"
        )
        await loop.sock_sendall(sock, request.encode())
        yield sock


async def switched(sock: socket.socket) -> None:
    """Read the answer to the handshake."""
    loop = asyncio.get_running_loop()
    response = b""
    while b"\r\n\r\n" not in response:
        response += await loop.sock_recv(sock, 1)
    assert response.startswith(b"HTTP/1.1 101 ")


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """Return a frame as a client sends it, masked with zeros."""
    length = len(payload)
    head = bytes([opcode | (0x80 if fin else 0)])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 65_536:
        head += bytes([0x80 | 126]) + struct.pack("!H", length)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", length)
    return head + b"\0\0\0\0" + payload


def commands(*given: object) -> bytes:
    """Return a text frame of commands."""
    return frame("\n".join(json.dumps(command) for command in given).encode())


async def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    """Return opcode and payload of the next frame."""
    loop = asyncio.get_running_loop()

    async def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            received = await loop.sock_recv(sock, count - len(data))
            assert received, "the connection ended"
            data += received
        return data

    async with asyncio.timeout(PATIENCE_S):
        first, second = await exactly(2)
        length = second & 0x7F
        if length == 126:
            [length] = struct.unpack("!H", await exactly(2))
        elif length == 127:
            [length] = struct.unpack("!Q", await exactly(8))
        return first & 0x0F, await exactly(length)


async def subscribed(sock: socket.socket) -> None:
    """Read until the answer to the subscribe, which is command 2."""
    while b'"id":2' not in (await read_frame(sock))[1]:
        pass
