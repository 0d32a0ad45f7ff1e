"""The bidirectional protocol on a WebSocket of our own: no task, no ASGI message a frame.

After the handshake (``uvicorn_websocket.py``) this takes the transport over. Bytes from the
client go through the frame reader to the driver; live batches go from the room straight to
the transport, as one shared piece of bytes. While the driver waits for Redis nothing more is
read, so a client that asks faster than it is served is slowed down by TCP.

How it ends:

    the client closes      its close frame is answered, the transport closed; what it has not
                           read ``GOODBYE_S`` later is thrown away
    the hub closes         what is queued is written, then a close frame; the client answers
                           it, or is cut off after ``GOODBYE_S``
    the client stalls      the driver gives it up; the close frame is tried, as above
    the line is cut        ``connection_lost``
"""

from __future__ import annotations

import asyncio
from typing import cast

from channels.errors import Disconnects
from channels.publication import MAX_DATA_BYTES
from hub.driver import Driver
from hub.frame import messages
from hub.frame_queue import entry_text
from hub.registry import Registry
from hub.rfc6455 import (
    FrameReader,
    Message,
    Opcode,
    Violation,
    close_frame,
    echo_of_close,
    pong_frame,
    text_frame,
)
from hub.transports.plain_socket import plain_socket, report_every_byte

__all__ = ["GOODBYE_S", "DirectWebSocket"]

#: Seconds a client has to answer our close frame before the line is cut.
GOODBYE_S = 1.0


class DirectWebSocket(asyncio.Protocol):
    """One connection, from the end of its handshake to its own.

    The driver is in the registry already; it is taken out when the transport is closed.
    """

    __slots__ = (
        "_closing_sent",
        "_driver",
        "_goodbye",
        "_inbox",
        "_loop",
        "_paused",
        "_pumping",
        "_reader",
        "_registry",
        "_transport",
        "connections",
    )

    def __init__(self, driver: Driver, registry: Registry) -> None:
        self._driver = driver
        self._registry = registry
        #: Set by the server that hands the connection over: the connections it knows.
        self.connections: set[DirectWebSocket] = set()
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(MAX_DATA_BYTES)
        self._transport: asyncio.Transport | None = None
        #: Messages that wait because the driver is at work; reading is paused while there are.
        self._inbox: list[Message | Violation] | None = None
        self._paused = False
        self._pumping = False
        self._closing_sent = False
        self._goodbye: asyncio.TimerHandle | None = None

    # -- the event loop's calls ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport over."""
        self._transport = cast("asyncio.Transport", transport)
        report_every_byte(self._transport)
        self._driver.outbox.on_ready = self._pump_soon
        self._driver.on_drop = self._say_goodbye
        self._pump_soon()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        received, violation = self._reader.feed(data)
        if violation is None and len(received) == 1 and self._inbox is None:
            self._take(received[0])  # nearly always
            return
        news: list[Message | Violation] = [*received]
        if violation is not None:
            news.append(violation)
        if self._inbox is not None and not self._closing_sent:
            self._inbox += news
        elif news:
            self._work_off(news)

    def eof_received(self) -> None:
        """Take the end of what the client says; the transport closes once it is flushed."""
        self._cut_off_soon()

    def pause_writing(self) -> None:
        """Queue from now on: the client does not keep up."""
        self._paused = True
        self._driver.outbox.shut()

    def resume_writing(self) -> None:
        """Write what queued."""
        self._paused = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Leave everything behind."""
        self._transport = None
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._driver.outbox.shut()  # its socket is closed next
        self._driver.outbox.on_ready = self._driver.on_drop = _nothing
        self._driver.gone()
        self._registry.remove(self._driver)
        self.connections.discard(self)

    # -- the server's calls ----------------------------------------------------------------

    def shutdown(self) -> None:
        """End, because the server does; clients were told before, if there was time."""
        self._driver.end(Disconnects.SHUTDOWN)
        self._cut_off_soon()

    def abort(self) -> None:
        """Cut the line."""
        if self._transport is not None:
            self._transport.abort()

    # -- from the client -------------------------------------------------------------------

    def _work_off(self, news: list[Message | Violation]) -> None:
        """Take messages one after the other; the rest waits while the driver is at work."""
        for index, message in enumerate(news):
            if isinstance(message, Violation):
                self._driver.end(message.disconnect)
            elif self._take(message):
                self._inbox = news[index + 1 :]
                return

    def _take(self, message: Message) -> bool:
        """Take one message; return whether the driver is at work with it."""
        opcode, payload = message
        if opcode is Opcode.CLOSE:
            self._answer_close(payload)
        elif self._driver.closing is not None:
            pass  # whatever it still says
        elif opcode is Opcode.PING:
            if self._transport is not None and not self._paused:
                self._transport.write(pong_frame(payload))
        elif opcode is not Opcode.PONG:
            task = self._driver.receive(payload)
            if task is not None:
                self._inbox = []
                if self._transport is not None:
                    self._transport.pause_reading()
                task.add_done_callback(self._go_on)
                return True
        return False

    def _go_on(self, _task: object) -> None:
        """Take what came while the driver was at work."""
        waiting, self._inbox = self._inbox or [], None
        self._work_off(waiting)
        if self._inbox is None and self._transport is not None:
            self._transport.resume_reading()

    def _answer_close(self, payload: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        if not self._closing_sent:
            self._closing_sent = True
            self._driver.outbox.shut()
            try:
                answer = echo_of_close(payload)
            except Violation as violation:
                answer = violation.disconnect
            transport.write(b"\x88\x00" if answer is None else close_frame(answer))
        transport.close()
        self._cut_off_soon()  # what is queued before the answer may never be read

    # -- to the client ---------------------------------------------------------------------

    def _pump_soon(self) -> None:
        """Write in the next turn of the loop: all replies of this turn leave together."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        transport, driver = self._transport, self._driver
        if transport is None or self._closing_sent:
            return
        outbox = driver.outbox
        while not self._paused and (entries := outbox.take()):
            texts = messages(map(entry_text, entries))
            transport.write(b"".join(map(text_frame, texts)))
        if self._paused or outbox:
            return
        if driver.closing is not None:
            self._say_goodbye()
        else:
            outbox.open(transport.write, plain_socket(transport))

    def _say_goodbye(self) -> None:
        """Write the close frame, and cut the line unless the client answers it."""
        if self._transport is None or self._closing_sent:
            return
        self._closing_sent = True
        self._driver.outbox.shut()
        self._transport.write(close_frame(self._driver.closing or Disconnects.CLOSED))
        self._transport.resume_reading()
        self._cut_off_soon()

    def _cut_off_soon(self) -> None:
        if self._goodbye is None:
            self._goodbye = self._loop.call_later(GOODBYE_S, self.abort)


def _nothing() -> None:
    pass
