"""Readers that stopped reading: subscribed WebSockets with a small window and a full queue."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

from benchmarks.peers import Endpoint, Subscribe
from channels.publication import encode_body
from services import Services

from .fanwire_hub import ONE_CHANNEL

__all__ = ["stalled"]

#: What each is sent before anything is measured, and leaves unread: with a window this small
#: the kernel takes little of it, and the rest waits in the hub, below what ends a connection.
_FILLING = encode_body(b'"%b"' % (b"x" * 60_000))
_FILLINGS = 10
_WINDOW_BYTES = 4_096
_PATIENCE_S = 10


@contextlib.contextmanager
def stalled(endpoint: Endpoint, port: int, count: int) -> Iterator[None]:
    """Have ``count`` readers of a hub's channel stand still for the time of the context."""
    if endpoint.ws is None:
        raise RuntimeError("expected a server of WebSockets")
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_subscribed(endpoint.ws, port))
        if count:
            asyncio.run(_fill(endpoint.publish.port))
        yield


def _subscribed(subscribe: Subscribe, port: int) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW_BYTES)
    reader.settimeout(_PATIENCE_S)
    reader.connect(("127.0.0.1", port))
    reader.sendall(
        f"GET {subscribe.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    _read_until(reader, "\r\n\r\n")
    for text in subscribe.hello:
        # Masked with zeros, which change nothing; hellos are short.
        reader.sendall(b"\x81%c\0\0\0\0%b" % (0x80 | len(text), text.encode()))
    _read_until(reader, subscribe.ready)
    return reader


def _read_until(reader: socket.socket, text: str) -> None:
    heard = b""
    while text.encode() not in heard:
        if not (more := reader.recv(_WINDOW_BYTES)):
            raise RuntimeError(f"expected {text!r}, got {heard!r} and the end")
        heard += more


async def _fill(redis_port: int) -> None:
    url = f"redis://127.0.0.1:{redis_port}/0"
    async with Services.connect(url) as services:
        channel = services.catalogue.find(ONE_CHANNEL)
        for _ in range(_FILLINGS):
            # Straight into the log: what it says is nobody's business.
            await services.events.log.append(channel, _FILLING)
