"""The bidirectional protocol over WebSocket: who may in, and the connection on plain ASGI.

Where the server lets us, the connection takes the transport over (``direct_websocket.py``).
On any other ASGI server it runs here, a thin shell: one task reads messages into the driver,
one writes its outbox out. While the driver works on a message no further one is read, so a
client that asks faster than it is served is slowed down by TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from channels.errors import (
    BadRequest,
    Disconnect,
    Disconnects,
    RequestError,
    StoreError,
    TooManyRequests,
)
from channels.identity import Identity
from channels.publication import MAX_DATA_BYTES
from hub.driver import Driver
from hub.frame import messages
from hub.frame_queue import entry_text
from hub.origin import origin_of
from hub.revocations import Hold
from hub.transports.direct_websocket import DirectWebSocket
from hub.transports.uvicorn_websocket import TAKE_OVER

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["WebSocketEndpoint"]

_log = structlog.get_logger(__name__)

#: Close code of RFC 6455 for a message that is larger than the receiver takes.
_MESSAGE_TOO_BIG = Disconnect(1009, f"a message may have {MAX_DATA_BYTES} bytes")
#: Seconds that the goodbye to a client that stopped reading may take.
_GOODBYE_S = 1.0


class WebSocketEndpoint:
    """ASGI application for ``/connection/websocket``."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection from handshake to end."""
        await receive()  # websocket.connect
        if not self._hub.origins.allow(scope):
            _log.info("refused a handshake", origin=origin_of(scope))
            await _deny(scope, send, 403, b"origin not allowed\n")
            return
        hold: Hold | None = None
        proved: Identity | RequestError
        try:
            identity = await self._hub.authenticator.identity_of_request(HTTPConnection(scope))
            if identity.session:
                hold = await self._hub.revocations.hold(identity)
            proved = identity
        except BadRequest as error:  # a token in the address
            await _deny(scope, send, 400, f"{error.public_message}\n".encode())
            return
        except RequestError as error:
            proved = error  # its connect command may bring a better one
        except StoreError as error:
            await _deny(scope, send, 503, f"{error.public_message}\n".encode())
            return
        try:
            driver = await self._accept(scope, send, proved, hold)
        except BaseException:
            if hold is not None:
                hold.release()
            raise
        if driver is None:
            return
        if take_over := scope.get("extensions", {}).get(TAKE_OVER):
            take_over(DirectWebSocket(driver, self._hub.registry))
            return
        try:
            await _serve(driver, receive, send)
        finally:
            driver.gone()
            self._hub.registry.remove(driver)

    async def _accept(
        self, scope: Scope, send: Send, proved: Identity | RequestError, hold: Hold | None
    ) -> Driver | None:
        """Accept the handshake; return the driver, which has the hold, if the client may stay."""
        protobuf = [name for name in scope.get("subprotocols", ()) if "protobuf" in name]
        # Accepted by name, or the client would not look at the code that follows.
        await send({"type": "websocket.accept", "subprotocol": protobuf[0] if protobuf else None})
        if protobuf or b"protobuf" in scope.get("query_string", b""):
            if hold is not None:
                hold.release()
            await _say_goodbye(send, Disconnects.INAPPROPRIATE_PROTOCOL)
            return None
        if hold is None:
            driver = self._hub.new_driver(proved)
        else:
            driver = self._hub.new_session_driver(hold)
        try:
            self._hub.registry.add(driver, "websocket")
        except TooManyRequests:
            driver.gone()
            await _say_goodbye(send, Disconnects.CONNECTION_LIMIT)
            return None
        return driver


async def _serve(driver: Driver, receive: Receive, send: Send) -> None:
    """Carry frames both ways until either side ends."""
    reader = asyncio.create_task(_read(driver, receive))
    writer = asyncio.create_task(_write(driver, send))
    # A client that stopped reading keeps the writer waiting for ever.
    driver.on_drop = writer.cancel
    try:
        await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        dropped = writer.cancelled()
        reader.cancel()
        writer.cancel()
        results = await asyncio.gather(reader, writer, return_exceptions=True)
    faults = [result for result in results if isinstance(result, Exception)]
    if faults:
        await _say_goodbye(send, Disconnects.SERVER_ERROR)
        raise faults[0]  # a bug of ours: the server logs it
    if dropped and driver.closing is not None:
        await _say_goodbye(send, driver.closing)


async def _read(driver: Driver, receive: Receive) -> None:
    """Feed frames to the driver until the client goes."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        frame: str | bytes = message.get("text") or message.get("bytes") or ""
        if _size(frame) > MAX_DATA_BYTES:
            driver.end(_MESSAGE_TOO_BIG)
        elif (task := driver.receive(frame)) is not None:
            await task


def _size(frame: str | bytes) -> int:
    """Return how many bytes ``frame`` had on the wire."""
    if isinstance(frame, bytes) or frame.isascii() or len(frame) > MAX_DATA_BYTES:
        return len(frame)
    return len(frame.encode("utf-8", "surrogatepass"))


async def _write(driver: Driver, send: Send) -> None:
    """Write the outbox out, then close as the driver says."""
    outbox = driver.outbox
    ready = asyncio.Event()
    outbox.on_ready = ready.set
    with contextlib.suppress(OSError):  # the server's word for a client that is gone
        while True:
            ready.clear()
            for message in messages([entry_text(entry) for entry in outbox.take()]):
                await send({"type": "websocket.send", "text": message.decode()})
            if outbox:
                continue
            if driver.closing is not None:
                await _close(send, driver.closing)
                return
            await ready.wait()


async def _close(send: Send, disconnect: Disconnect) -> None:
    await send({"type": "websocket.close", "code": disconnect.code, "reason": disconnect.reason})


async def _say_goodbye(send: Send, disconnect: Disconnect) -> None:
    """Close, if the client still takes it."""
    # TimeoutError is an OSError; RuntimeError: it was said already, only not read.
    with contextlib.suppress(OSError, RuntimeError):
        async with asyncio.timeout(_GOODBYE_S):
            await _close(send, disconnect)


async def _deny(scope: Scope, send: Send, status: int, body: bytes) -> None:
    """Refuse the handshake, with a status and a sentence where the server can send them."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
