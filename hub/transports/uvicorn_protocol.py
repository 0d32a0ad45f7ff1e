"""uvicorn's WebSocket protocol, for one handshake it refuses and one end that it never comes to."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

__all__ = ["FanwireWebSocketProtocol"]


class FanwireWebSocketProtocol(WebSocketsSansIOProtocol):
    """Accepts an empty ``Sec-WebSocket-Protocol`` header, and lets go of clients that stall.

    RFC 6455 has no such header, so websockets answers it with 400. But the official Python
    client sends one whenever it speaks JSON, and nothing else can be meant by it than none.

    uvicorn ends a connection by flushing it, which takes for ever when the client does not
    read; its socket, its buffer and a shutdown of the server would wait with it.
    """

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake."""
        offered = event.headers.get_all("Sec-WebSocket-Protocol")
        if offered and not any(value.strip() for value in offered):
            del event.headers["Sec-WebSocket-Protocol"]
        super().handle_connect(event)

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
