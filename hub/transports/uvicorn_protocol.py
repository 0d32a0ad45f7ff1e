"""uvicorn's WebSocket protocol, for the one handshake it refuses and must not."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

__all__ = ["FanwireWebSocketProtocol"]


class FanwireWebSocketProtocol(WebSocketsSansIOProtocol):
    """Accepts an empty ``Sec-WebSocket-Protocol`` header.

    RFC 6455 has no such header, so websockets answers it with 400. But the official Python
    client sends one whenever it speaks JSON, and nothing else can be meant by it than none.
    """

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake."""
        offered = event.headers.get_all("Sec-WebSocket-Protocol")
        if offered and not any(value.strip() for value in offered):
            del event.headers["Sec-WebSocket-Protocol"]
        super().handle_connect(event)
