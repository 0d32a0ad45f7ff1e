"""A small pub/sub server whose mistakes can be chosen.

A GET subscribes, over a WebSocket if it asks for one and to an event stream otherwise. The
body of a POST goes to a ``Script``, which says what each connection gets written.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#: Index of the connection and the message -> pieces to write, each in a write of its own.
Script = Callable[[int, bytes], list[bytes]]


def text_frame(text: bytes, *, opcode: int = 1, final: bool = True) -> bytes:
    """Return an unmasked WebSocket frame."""
    head = bytes([(0x80 if final else 0) | opcode])
    if len(text) < 126:
        return head + bytes([len(text)]) + text
    return head + b"\x7e" + len(text).to_bytes(2, "big") + text


def chunk(text: bytes) -> bytes:
    """Return a chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(text), text)


class FakeServer:
    """Runs ``script``; ``port`` is where."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._writers: list[asyncio.StreamWriter] = []
        #: What clients sent, unmasked, in the order of arrival.
        self.heard: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"POST"):
                    await self._publish(await reader.readexactly(_length(head)))
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                    continue
                self._subscribe(head, writer)
                while frame := await reader.readexactly(2):
                    mask = await reader.readexactly(4)
                    text = await reader.readexactly(frame[1] & 0x7F)
                    self.heard.append(bytes(byte ^ mask[i % 4] for i, byte in enumerate(text)))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _subscribe(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        if b"Sec-WebSocket-Key" in head:
            key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
            answer = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nsec-websocket-accept: %b\r\n\r\n" % answer
            )
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._writers.append(writer)

    async def _publish(self, message: bytes) -> None:
        for index, writer in enumerate(self._writers):
            for piece in self._script(index, message):
                writer.write(piece)
                await asyncio.sleep(0)


def _length(head: bytes) -> int:
    return int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])


@asynccontextmanager
async def fake_server(script: Script) -> AsyncIterator[FakeServer]:
    """Run a server for the time of the context."""
    fake = FakeServer(script)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
