"""A feed on the transport itself, while an ASGI response stands around it.

The response keeps what it is good at: the head, noticing that the reader left, the end. In
between, live batches go from the room straight to the transport, as one HTTP chunk that all
feeds of the channel share (``uvicorn_http.py`` lends us the transport). A reader that takes
nothing for too long is cut off.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol, Self

from hub.feed import Feed
from hub.frame import chunk
from hub.transports.plain_socket import plain_socket, report_as_usual, report_every_byte

__all__ = ["LEND", "DirectStream", "Lender"]

#: Name of the extension in the scope: a :class:`Lender`.
LEND = "fanwire.stream"


class Lender(Protocol):
    """The server's connection, as far as a stream is concerned."""

    @property
    def transport(self) -> asyncio.Transport:
        """Where the response's chunks go."""

    #: The tasks that the server itself runs applications in.
    tasks: set[asyncio.Task[None]]

    @property
    def write_paused(self) -> bool:
        """Whether the transport wants a pause now."""

    #: Who is told when the transport wants a pause; None for nobody.
    stream: DirectStream | None


class DirectStream:
    """Writes a feed while it is entered; ``ended`` is set when the feed is over and written."""

    __slots__ = (
        "_feed",
        "_lender",
        "_loop",
        "_paused",
        "_pumping",
        "_send_timeout_s",
        "_stalled",
        "ended",
    )

    def __init__(self, feed: Feed, lender: Lender, *, send_timeout_s: float) -> None:
        self._feed = feed
        self._lender = lender
        self._send_timeout_s = send_timeout_s
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._pumping = False
        self._stalled: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()

    def __enter__(self) -> Self:
        self._feed.outbox.on_ready = self._pump_soon
        self._lender.stream = self
        report_every_byte(self._lender.transport)
        if self._lender.write_paused:
            self.pause_writing()  # it said so before we were there to be told
        else:
            self._pump_soon()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._detach()

    def pause_writing(self) -> None:
        """Queue from now on: the reader does not keep up."""
        self._paused = True
        self._feed.outbox.shut()
        self._stalled = self._loop.call_later(self._send_timeout_s, self._lender.transport.abort)

    def resume_writing(self) -> None:
        """Write what queued."""
        self._paused = False
        self._forgive()
        self._pump()

    def connection_lost(self) -> None:
        """Write nothing more: the transport is closed, and the response's task not told yet."""
        self._detach()

    def _detach(self) -> None:
        self._lender.stream = None
        report_as_usual(self._lender.transport)
        self._feed.outbox.shut()
        self._feed.outbox.on_ready = _nothing
        self._forgive()

    def _forgive(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        if self._lender.stream is not self:
            return  # it ended since
        feed, transport = self._feed, self._lender.transport
        while feed.outbox and not self._paused:
            if text := feed.take():
                transport.write(chunk(text))
        if self._paused or feed.outbox:
            return
        if feed.closing is not None:
            self.ended.set()
        else:
            feed.outbox.open(transport.write, plain_socket(transport))


def _nothing() -> None:
    pass
