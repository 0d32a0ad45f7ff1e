"""uvicorn's WebSocket protocol, with a door for an application that wants the transport.

The handshake runs through the application as always, with its routes and middleware. An
application that finds ``TAKE_OVER`` among the scope's extensions may, once it has accepted,
hand a protocol to it: the connection is that protocol's from then on, and the ASGI task,
its queues and uvicorn's parser are gone as soon as the application returns.

Two handshakes and ends that uvicorn does not come to are mended for everybody: an empty
``Sec-WebSocket-Protocol``, and a client that does not read its goodbye.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

__all__ = ["TAKE_OVER", "Endable", "FanwireWebSocketProtocol"]

#: Name of the extension in the scope: a function that takes an :class:`Endable`.
TAKE_OVER = "fanwire.websocket"
#: Bytes that a client may send before it has our answer to its handshake. Who is in such a
#: hurry waits, at the latest, in the kernel.
_MAX_EARLY_BYTES = 64 * 1024


class Endable(Protocol):
    """A protocol that can take a transport over, and ends when the server does."""

    #: Set when the connection is handed over: what the server knows. When the connection is
    #: lost, the protocol takes itself out.
    connections: set[Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport over."""

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave everything behind; also called when there was nothing left to take over."""

    def shutdown(self) -> None:
        """End."""


class FanwireWebSocketProtocol(WebSocketsSansIOProtocol):
    """Accepts an empty ``Sec-WebSocket-Protocol`` header, and lets go of clients that stall.

    RFC 6455 has no such header, so websockets answers it with 400. But the official Python
    client sends one whenever it speaks JSON, and nothing else can be meant by it than none.

    uvicorn ends a connection by flushing it, which takes for ever when the client does not
    read; its socket, its buffer and a shutdown of the server would wait with it.
    """

    #: What came during the handshake: for whoever has the connection after it.
    _early: bytes | None = None

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake."""
        offered = event.headers.get_all("Sec-WebSocket-Protocol")
        if offered and not any(value.strip() for value in offered):
            del event.headers["Sec-WebSocket-Protocol"]
        super().handle_connect(event)
        if not self.handshake_complete:
            self._early = b""
            cast("dict[str, Any]", self.scope["extensions"])[TAKE_OVER] = self._hand_over

    def data_received(self, data: bytes) -> None:
        """Take bytes; those that come before the handshake is over wait for its end."""
        if self._early is None:
            super().data_received(data)
            return
        self._early += data
        if len(self._early) > _MAX_EARLY_BYTES:
            self.transport.pause_reading()

    async def send(self, message: ASGISendEvent) -> None:
        """Take a message of the application."""
        await super().send(message)
        if self._early is not None and self.handshake_complete and message["type"] != _ACCEPT:
            self._go_on()

    async def receive(self) -> ASGIReceiveEvent:
        """Give the application a message; whoever asks for more than the first stays with ASGI."""
        if self._early is not None and self.handshake_complete:
            self._go_on()
        return await super().receive()

    def _go_on(self) -> None:
        early, self._early = self._early, None
        if early:
            self.transport.resume_reading()
            super().data_received(early)

    def _hand_over(self, protocol: Endable) -> None:
        """Give the connection to ``protocol``; call it after ``websocket.accept``, then return."""
        if self.disconnected or self.transport.is_closing():
            # Lost, or about to be, since the application asked: it ends as uvicorn's.
            self._early = None
            protocol.connection_lost(None)
            return
        if not self.handshake_complete or self._early is None:
            raise RuntimeError("a connection is handed over after its handshake, and once")
        transport, early = self.transport, self._early
        self._early = None
        self.connections.discard(self)
        self.transport = cast("asyncio.Transport", _GivenAway())
        protocol.connections = cast("set[Any]", self.connections)
        protocol.connections.add(protocol)  # all that uvicorn calls is shutdown
        transport.set_protocol(cast("asyncio.BaseProtocol", protocol))
        protocol.connection_made(transport)
        if early:
            transport.resume_reading()
            protocol.data_received(early)

    async def run_asgi(self) -> None:
        """Run the application for this connection, and end the connection after it."""
        await super().run_asgi()
        if not (self.close_sent or self.writable.is_set()):
            self.transport.abort()  # not even the goodbye could be said
        elif self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def shutdown(self) -> None:
        """End the connection, because the server ends."""
        super().shutdown()
        self.loop.call_later(self.close_timeout, self.transport.abort)


_ACCEPT = "websocket.accept"


class _GivenAway:
    """Stands where the transport was: what uvicorn does at the end of a task ends nothing."""

    def close(self) -> None:
        """Leave it open: it is another's."""

    abort = close

    def is_closing(self) -> bool:
        """Say that there is nothing to write to."""
        return True
