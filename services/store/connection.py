"""One connection for everybody's commands: RESP over TCP, TLS or a unix socket.

Owns a transport, a timer and the moment of writing; what to write and whose reply is whose
is decided in ``exchange.py``. It never connects again and never repeats a command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import cast

from channels.errors import StoreRefused, StoreUnavailable

from .endpoint import Endpoint
from .exchange import Exchange, ProtocolViolation
from .handshake import greet
from .packing import pack
from .port import Argument, Reply

__all__ = ["RespConnection", "open_connection"]

#: So many commands leave before the turn of the loop is over: the server works on them while
#: we pack the next ones. With fewer the writes cost more than that gains, with more one side
#: waits for the other.
_BATCH = 16
#: Deadlines are looked at no more often than this, so that a thousand callers with a
#: thousand deadlines do not cost a thousand looks at a thousand callers.
_TICK_S = 0.001
#: A timer later than this says that the event loop was busy, not that the server was.
_LATE_S = 0.02
#: Bytes may trickle in for this many silences without one complete reply.
_STALLS = 5


class RespConnection(asyncio.Protocol):
    """A connection that many tasks share, each waiting for its own reply.

    Commands of one turn of the event loop share few writes. A caller that leaves
    (deadline, cancellation) leaves its place in line, and its reply is dropped when it comes.

    The connection is given up, and every caller told, when the server sends what is no
    reply, or sends nothing for ``silence_s`` while replies are due.
    """

    __slots__ = (
        "_exchange",
        "_flush_due",
        "_heard_at",
        "_late",
        "_look_at",
        "_loop",
        "_lost",
        "_on_lost",
        "_paused",
        "_replied_at",
        "_retiring",
        "_silence_s",
        "_timer",
        "_transport",
        "where",
    )

    def __init__(
        self,
        where: str,
        *,
        silence_s: float,
        window_bytes: int,
        on_refused: Callable[[RespConnection, StoreRefused], None] | None = None,
        on_lost: Callable[[RespConnection, str], None] | None = None,
    ) -> None:
        self.where = where
        self._loop = asyncio.get_running_loop()
        self._silence_s = silence_s
        self._on_lost = on_lost
        self._exchange = Exchange(
            where=where,
            window_bytes=window_bytes,
            on_refused=None if on_refused is None else lambda refused: on_refused(self, refused),
        )
        self._transport: asyncio.Transport | None = None
        self._lost: str | None = None
        self._retiring: str | None = None
        self._paused = False
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._look_at = inf
        self._late = False
        self._heard_at = 0.0
        self._replied_at = 0.0

    # -- callers ---------------------------------------------------------------------------

    def submit(self, packed: bytes, leaves_at: float) -> asyncio.Future[Reply]:
        """Put one packed command in line; the future gets its reply or a ``StoreError``.

        ``leaves_at`` is in the loop's time. Cancelling the future gives up the reply, not
        the command (unless it was not sent yet).
        """
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self._lost is None:
            self._exchange.add(future, packed, leaves_at)
            self._schedule(leaves_at)
        else:
            future.set_exception(self._gone())
        return future

    def submit_all(
        self, packed: list[bytes], leaves_at: float
    ) -> asyncio.Future[list[Reply | Exception]]:
        """Put several commands in line that leave in one write; refusals are in the list."""
        future: asyncio.Future[list[Reply | Exception]] = self._loop.create_future()
        if not packed:
            future.set_result([])
        elif self._lost is None:
            self._exchange.add_all(future, packed, leaves_at)
            self._schedule(leaves_at)
        else:
            future.set_exception(self._gone())
        return future

    def _schedule(self, leaves_at: float) -> None:
        if self._exchange.unsent >= _BATCH:
            self._write()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        if leaves_at < self._look_at:
            self._arm(leaves_at)

    def _gone(self) -> StoreUnavailable:
        return StoreUnavailable(f"Redis at {self.where}: {self._lost}; nothing was sent")

    @property
    def lost(self) -> str | None:
        """Why the connection is over, or ``None`` while it stands."""
        return self._lost

    @property
    def unanswered(self) -> int:
        """How many commands are in line or on the way."""
        return self._exchange.unsent + self._exchange.awaiting

    # -- ending ----------------------------------------------------------------------------

    def give_up(self, reason: str) -> None:
        """Drop the connection now; callers learn the outcome they can be sure of."""
        if self._lost is not None:
            return
        self._lost = reason
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            # Not close(): it would wait for a peer that no longer reads.
            self._transport.abort()
        self._exchange.lose(reason)
        if self._on_lost is not None:
            self._on_lost(self, reason)

    def retire(self, reason: str) -> None:
        """Drop the connection when the replies still due have come (or their time is over)."""
        self._retiring = reason
        if self.unanswered == 0:
            self.give_up(reason)

    def detach(self) -> asyncio.Transport:
        """Hand the transport to another protocol; this object is over.

        Raises ``StoreUnavailable`` when the connection was lost in the meantime.
        """
        transport = self._transport
        if self._lost is not None or transport is None or transport.is_closing():
            raise StoreUnavailable(f"Redis at {self.where}: {self._lost or 'connection lost'}")
        self._transport = None
        self._on_lost = None
        self.give_up("handed over")
        return transport

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start (called by the event loop)."""
        self._transport = cast("asyncio.Transport", transport)
        # What the socket does not take at once waits in our line, where it can still be
        # withdrawn. It also makes uvloop write at once, not at the end of the loop's turn.
        # (Not 0: TLS transports pause at the limit, not above it.)
        self._transport.set_write_buffer_limits(high=1)
        self._heard_at = self._replied_at = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """Give the replies to their callers (called by the event loop)."""
        if self._lost is not None:
            return
        self._heard_at = self._loop.time()
        exchange = self._exchange
        try:
            replied = exchange.feed(data)
        except ProtocolViolation as violation:
            self.give_up(f"protocol violation: {violation}")
            return
        if replied:
            self._replied_at = self._heard_at
        if exchange.unsent:
            self._write()  # the window has room again
        elif self._retiring is not None and exchange.awaiting == 0:
            self.give_up(self._retiring)

    def eof_received(self) -> None:
        """Take the server's end as ours (called by the event loop)."""
        self.give_up("connection closed by the server")

    def connection_lost(self, error: Exception | None) -> None:
        """Tell every caller (called by the event loop)."""
        self._transport = None
        self.give_up(f"connection lost ({error})" if error else "connection lost")

    def pause_writing(self) -> None:
        """Keep commands in line: the socket is full (called by the event loop)."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on (called by the event loop)."""
        self._paused = False
        self._write()

    # -- writing and time ------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_due = False
        self._write()

    def _write(self) -> None:
        if self._paused or self._transport is None:
            return
        idle = self._exchange.awaiting == 0
        packed = self._exchange.take()
        if not packed:
            return
        if idle:
            # The server owed nothing until now, so its silence starts here.
            self._heard_at = self._replied_at = self._loop.time()
        self._transport.write(packed)
        silent_at = self._heard_at + self._silence_s
        if silent_at < self._look_at:
            self._arm(silent_at)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._look_at = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        """Send away who waited too long; judge whether the server is still there."""
        now = self._loop.time()
        if now - self._look_at > _LATE_S and not self._late:
            # Timers run before sockets are read: after a blocked loop the replies may be
            # there already, so read first and judge then.
            self._late = True
            self._look_at = inf
            self._arm(now + _TICK_S)
            return
        self._late = False
        self._timer = None
        self._look_at = inf
        next_at = self._exchange.expire(now)
        if self._exchange.awaiting:
            silent_at = self._heard_at + self._silence_s
            stalled_at = self._replied_at + self._silence_s * _STALLS
            if silent_at <= now:
                self.give_up(f"no answer for {self._silence_s:g} s")
                return
            if stalled_at <= now:
                self.give_up(f"no complete reply for {self._silence_s * _STALLS:g} s")
                return
            next_at = min(next_at, silent_at, stalled_at)
        if next_at < inf:
            self._arm(max(next_at, now + _TICK_S))


async def open_connection(
    endpoint: Endpoint,
    *,
    timeout_s: float,
    silence_s: float,
    window_bytes: int,
    on_refused: Callable[[RespConnection, StoreRefused], None] | None = None,
    on_lost: Callable[[RespConnection, str], None] | None = None,
) -> RespConnection:
    """Connect and greet within ``timeout_s``.

    Raises ``StoreUnavailable`` when the server is away, loading or a replica, and
    ``StoreRefused`` when it does not accept the credentials or the database.
    """
    loop = asyncio.get_running_loop()
    leaves_at = loop.time() + timeout_s

    def build() -> RespConnection:
        return RespConnection(
            endpoint.where,
            silence_s=silence_s,
            window_bytes=window_bytes,
            on_refused=on_refused,
            on_lost=on_lost,
        )

    tls = None if endpoint.tls is None else endpoint.tls.context()
    try:
        async with asyncio.timeout_at(leaves_at):
            if endpoint.path is not None:
                _, connection = await loop.create_unix_connection(build, endpoint.path)
            else:
                _, connection = await loop.create_connection(
                    build, endpoint.host, endpoint.port, ssl=tls
                )
    except TimeoutError as error:
        raise StoreUnavailable(
            f"Redis at {endpoint.where}: no connection within {timeout_s:g} s"
        ) from error
    except (OSError, UnicodeError) as error:  # the latter for a host that cannot be a name
        raise StoreUnavailable(f"Redis at {endpoint.where}: {error}") from error

    async def ask(*command: Argument) -> Reply:
        return await connection.submit(pack(command), leaves_at)

    try:
        await greet(ask, endpoint)
    except BaseException:
        connection.give_up("greeting failed")
        raise
    return connection
