"""A TCP proxy that misbehaves on command: what networks do to connections, for any test."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

__all__ = ["FaultProxy"]


class FaultProxy:
    """Stands between a client and ``127.0.0.1:port`` and passes bytes on, until told otherwise.

    Every fault holds for the connections that are there and for those to come, and can be
    set and taken back at any time (only what was swallowed stays swallowed). Requests go to
    the server, replies to the client.
    """

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        #: Speaks TLS to the client (and plain TCP to the server).
        self._tls = tls
        self._target = port
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        #: Where the proxy listens.
        self.port = 0
        #: Connections taken since the start; ``connected`` is set with each.
        self.connections = 0
        self.connected = asyncio.Event()
        #: Each piece waits so long before it goes on.
        self.delay_s = 0.0
        #: Pieces go on in bits of at most so many bytes, each written by itself.
        self.piece_bytes: int | None = None
        #: Swallow requests: the server never hears of them.
        self.drop_requests = False
        #: Swallow replies: the server did what it was asked and nobody learns of it.
        self.drop_replies = False
        #: Change replies on their way.
        self.garble: Callable[[bytes], bytes] | None = None
        #: Close new connections at once.
        self.refuse = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        # Each connection's own task ends its pumps when one of them ends.
        pumps = set(self._pumps)
        for pump in pumps:
            pump.cancel()
        if pumps:
            await asyncio.wait(pumps)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where the proxy listens, as a Redis URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def blackhole(self) -> bool:
        """Swallow everything, both ways, and keep connections open: a dead peer.

        Connections that had bytes swallowed stay dead; new ones live when it is over.
        """
        return self.drop_requests and self.drop_replies

    @blackhole.setter
    def blackhole(self, swallow: bool) -> None:
        self.drop_requests = self.drop_replies = swallow

    def cut(self) -> None:
        """Reset every connection that is there."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.connected.set()
        if self.refuse:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        pumps = {
            asyncio.create_task(self._pump(reader, far_writer, replies=False)),
            asyncio.create_task(self._pump(far_reader, writer, replies=True)),
        }
        self._pumps |= pumps
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in pair:
                end.transport.abort()
            self._writers -= pair
            for pump in pumps:
                pump.cancel()
            self._pumps -= pumps
            await asyncio.wait(pumps)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        dead = False
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                # TCP has no holes: once bytes are gone, none that follow may arrive either.
                dead = dead or (self.drop_replies if replies else self.drop_requests)
                if dead:
                    continue
                if replies and self.garble is not None:
                    data = self.garble(data)
                step = self.piece_bytes or len(data) or 1
                for start in range(0, len(data), step):
                    writer.write(data[start : start + step])
                    await writer.drain()
                    if self.piece_bytes:
                        await asyncio.sleep(0)  # let the piece leave by itself
