"""uvicorn's HTTP protocol, with bounds on the head of a request, and a transport to lend.

uvicorn waits for a request's head as long as the client likes, so a few thousand sockets
that send a byte now and then hold a few thousand places for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.transports.direct_stream import LEND, DirectStream

__all__ = ["HEAD_TIMEOUT_S", "FanwireHttpProtocol"]

#: Seconds from the first byte of a request, or from the connection, to the end of its head.
HEAD_TIMEOUT_S = 10.0
#: Headers of one request; browsers send about twenty.
_MAX_HEADERS = 200


class FanwireHttpProtocol(HttpToolsProtocol):
    """Drops a connection whose request does not come to an end of its head.

    An application that streams finds it in the scope's extensions, as a ``Lender``.
    """

    _head_timer: asyncio.TimerHandle | None = None
    #: Who writes to the transport between the chunks of the response.
    stream: DirectStream | None = None

    @property
    def write_paused(self) -> bool:
        """Whether the transport wants a pause now."""
        return self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def on_message_begin(self) -> None:
        """Take the first byte of a request."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = {LEND: self}
        if self.stream is None:  # else the connection has its place anyhow, and a use for it
            self._wait_for_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; too many end the connection, as the parser does for a large one."""
        super().on_header(name, value)
        if len(self.headers) > _MAX_HEADERS:
            raise ValueError(f"a request has at most {_MAX_HEADERS} headers")

    def on_headers_complete(self) -> None:
        """Take the end of the head."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and writing."""
        self._stop_waiting()
        if self.stream is not None:
            self.stream.connection_lost()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Become a WebSocket."""
        super().handle_websocket_upgrade()
        # They refer to each other, and would otherwise wait for the garbage collector.
        self.parser = None  # type: ignore[assignment]  # as uvicorn does in the end

    def pause_writing(self) -> None:
        """Take the transport's wish."""
        super().pause_writing()
        if self.stream is not None:
            self.stream.pause_writing()

    def resume_writing(self) -> None:
        """Take the end of it."""
        super().resume_writing()
        if self.stream is not None:
            self.stream.resume_writing()

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
