"""Listening: the pub/sub connection, kept up and kept honest.

Pub/sub loses without an error: the server cuts a slow or killed subscriber, and a failover
leaves a connection that stands and stays silent. So this connection is probed with messages
of our own, which must come back through it, and whenever it was cut every listener is told,
after its subscription stands again.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import hiredis

from channels.errors import SettingsError, StoreError, StoreRefused, StoreUnavailable

from .background import end, spawn
from .backoff import Backoff
from .connection import RespConnection
from .exchange import ProtocolViolation
from .packing import pack
from .port import Listener
from .subscription_book import SubscriptionBook

__all__ = ["Subscriptions"]

_log = logging.getLogger(__name__)

_MORE: Final = object()
_SETTLED: Final = (b"subscribe", b"unsubscribe")
#: An echo may be in the socket already when a busy event loop finds its time-out over.
_GRACE_S = 0.05
#: How many times the usual patience the first probe of a connection gets.
_FIRST = 5


class Subscriptions:
    """All listeners of one store on one connection.

    ``connect`` gives a greeted connection, ``publish`` sends a message over another one.
    ``changed`` is called when :attr:`standing` may have changed.
    """

    __slots__ = (
        "_backoff",
        "_book",
        "_changed",
        "_connect",
        "_echo",
        "_heard",
        "_interval_s",
        "_probe",
        "_protocol",
        "_publish",
        "_task",
        "_timeout_s",
        "trouble",
    )

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[RespConnection]],
        publish: Callable[[str, bytes], Awaitable[object]],
        changed: Callable[[], None],
        backoff: Backoff,
        probe_interval_s: float,
        probe_timeout_s: float,
        probe_prefix: str,
    ) -> None:
        self._connect = connect
        self._publish = publish
        self._changed = changed
        self._backoff = backoff
        self._interval_s = probe_interval_s
        self._timeout_s = probe_timeout_s
        self._book = SubscriptionBook()
        self._protocol: _SubscriberProtocol | None = None
        self._heard: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._echo = _Echo()
        #: A channel that nobody else uses: one for each store that listens.
        self._probe = f"{probe_prefix}:{uuid.uuid4().hex}"
        #: Why listeners are cut off at present, or ``None``.
        self.trouble: str | None = None

    # -- listeners -------------------------------------------------------------------------

    async def listen(self, channel: str, listener: Listener, *, leaves_at: float) -> None:
        """Subscribe; returns when confirmed, else raises and nothing stands."""
        confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        name = channel.encode()
        self._book.add(name, listener, confirmation)
        self._start()
        self._speak()
        try:
            async with asyncio.timeout_at(leaves_at):
                await confirmation
        except TimeoutError as error:
            self._withdraw(name, listener)
            raise StoreUnavailable(
                f"expected a subscription to {channel!r} within the deadline, got none"
                + (f": {self.trouble}" if self.trouble else "")
            ) from error
        except asyncio.CancelledError:
            self._withdraw(name, listener)
            raise

    def unlisten(self, channel: str) -> None:
        """Forget the listener, at once; the server is told soon."""
        self._withdraw(channel.encode())

    def _withdraw(self, channel: bytes, listener: Listener | None = None) -> None:
        if self._book.remove(channel, listener):
            self._speak()

    def _speak(self) -> None:
        if self._protocol is not None:
            self._protocol.speak_soon()

    # -- the connection --------------------------------------------------------------------

    def _start(self) -> None:
        if self._task is None:
            self._task = spawn(self._keep(), "the store's subscriptions")

    async def _keep(self) -> None:
        while True:
            try:
                transport = (await self._connect()).detach()
            except (StoreError, SettingsError) as error:
                self._report(str(error))
            else:
                protocol = _SubscriberProtocol(self._book, self._settled, self._cut_off)
                transport.set_protocol(protocol)
                protocol.connection_made(transport)
                try:
                    await self._attend(protocol)
                finally:
                    self._protocol = None
                    protocol.give_up("closed")
            await asyncio.sleep(self._backoff.next_s())

    async def _attend(self, protocol: _SubscriberProtocol) -> None:
        """Subscribe to everything and probe, until the connection is lost."""
        loop = asyncio.get_running_loop()
        probe = self._probe.encode()
        heard: asyncio.Future[None] = loop.create_future()
        self._heard = heard
        self._protocol = protocol
        self._book.opened()
        if probe not in self._book:
            # A subscription like all others; only a refusal of it concerns us here.
            confirmation: asyncio.Future[None] = loop.create_future()
            confirmation.add_done_callback(self._probe_settled)
            self._book.add(probe, self._echo, confirmation)
        protocol.speak_soon()
        # The first probe stands in line behind all subscriptions.
        patience_s = self._timeout_s * _FIRST
        await asyncio.wait({heard, protocol.lost}, timeout=patience_s, return_when=FIRST_COMPLETED)
        if not heard.done():
            protocol.give_up(f"no subscription confirmed within {patience_s:g} s")
        while not protocol.lost.done():
            await self._probe_once(protocol, patience_s)
            patience_s = self._timeout_s
            await asyncio.wait({protocol.lost}, timeout=self._interval_s)

    async def _probe_once(self, protocol: _SubscriberProtocol, patience_s: float) -> None:
        """Give the connection up unless a message of our own comes back through it."""
        nonce = uuid.uuid4().bytes
        echo = self._echo.expect(nonce)
        if not await self._published(protocol, nonce):
            return  # says nothing about this connection; the other one is looked after
        for timeout_s in (patience_s, _GRACE_S):
            await asyncio.wait(
                {echo, protocol.lost}, timeout=timeout_s, return_when=FIRST_COMPLETED
            )
        if not echo.done():
            protocol.give_up(f"a probe did not come back within {patience_s:g} s")

    async def _published(self, protocol: _SubscriberProtocol, nonce: bytes) -> bool:
        """Publish a probe; stop trying when the connection it is meant for is lost."""
        publishing = asyncio.ensure_future(self._publish(self._probe, nonce))
        waiting: set[asyncio.Future[Any]] = {publishing, protocol.lost}
        try:
            await asyncio.wait(waiting, return_when=FIRST_COMPLETED)
            return publishing.done() and not isinstance(publishing.exception(), StoreError)
        finally:
            publishing.cancel()

    def _probe_settled(self, confirmation: asyncio.Future[None]) -> None:
        error = None if confirmation.cancelled() else confirmation.exception()
        if error is not None and self._protocol is not None:
            self._protocol.give_up(f"the probe's channel was refused: {error}")

    def _settled(self) -> None:
        """Hear that the server has confirmed something."""
        if (
            self._heard is not None
            and not self._heard.done()
            and self._book.hears(self._probe.encode())
        ):
            self._heard.set_result(None)
        if self.trouble is not None and self._book.stands:
            self._backoff.reset()
            self.trouble = None
            self._changed()

    def _cut_off(self, reason: str) -> None:
        """Hear that the connection is lost."""
        if self._task is not None:
            self._report(reason)

    def _report(self, trouble: str) -> None:
        if self.trouble is None:
            _log.warning("subscriptions interrupted: %s", trouble)
        self.trouble = trouble
        self._changed()

    def drop(self, reason: str) -> None:
        """Give the connection up; everything is subscribed to again on a new one."""
        if self._protocol is not None:
            self._protocol.give_up(reason)

    async def close(self) -> None:
        """End the connection; whoever waits in :meth:`listen` gets ``StoreUnavailable``."""
        task, self._task = self._task, None
        await end(task)
        self._book.end(StoreUnavailable("the store is closed"))


class _Echo:
    """The probe's listener: waits for one message."""

    __slots__ = ("_future", "_nonce")

    def __init__(self) -> None:
        self._nonce = b""
        self._future: asyncio.Future[None] | None = None

    def expect(self, nonce: bytes) -> asyncio.Future[None]:
        """Return a future that is done when ``nonce`` arrives."""
        self._nonce = nonce
        self._future = asyncio.get_running_loop().create_future()
        return self._future

    def on_message(self, payload: bytes) -> None:
        """Take a probe; one that comes late belongs to no one."""
        if payload == self._nonce and self._future is not None and not self._future.done():
            self._future.set_result(None)

    def on_interrupted(self) -> None:
        """Nothing is owed to a probe."""


class _SubscriberProtocol(asyncio.Protocol):
    """The bytes of one pub/sub connection: RESP3 pushes or RESP2 arrays, both alike."""

    __slots__ = (
        "_book",
        "_cut_off",
        "_loop",
        "_reader",
        "_settled",
        "_speaking",
        "_transport",
        "lost",
    )

    def __init__(
        self,
        book: SubscriptionBook,
        settled: Callable[[], None],
        cut_off: Callable[[str], None],
    ) -> None:
        self._book = book
        self._settled = settled
        self._cut_off = cut_off
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=StoreRefused, notEnoughData=_MORE)
        self._transport: asyncio.Transport | None = None
        self._speaking = False
        #: Done when the connection is over.
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def speak_soon(self) -> None:
        """Send what the book has to say, together with all else of this turn of the loop."""
        if not self._speaking:
            self._speaking = True
            self._loop.call_soon(self._speak)

    def _speak(self) -> None:
        self._speaking = False
        if self._transport is None or self.lost.done():
            return
        commands = self._book.take()
        if commands:
            self._transport.write(b"".join([pack(c) for c in commands]))

    def give_up(self, reason: str) -> None:
        """Drop the connection now; its subscriptions stand no more."""
        if self.lost.done():
            return
        self.lost.set_result(None)
        if self._transport is not None:
            self._transport.abort()
        self._book.closed()
        self._cut_off(reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell (called by the event loop)."""
        self._transport = None
        self.give_up(f"connection lost ({error})" if error else "connection lost")

    def eof_received(self) -> None:
        """Take the server's end as ours (called by the event loop)."""
        self.give_up("connection closed by the server")

    def data_received(self, data: bytes) -> None:
        """Give messages to listeners and confirmations to the book (called by the loop)."""
        if self.lost.done():
            return
        try:
            self._feed(data)
        except (hiredis.ProtocolError, ProtocolViolation, TypeError) as error:
            self.give_up(f"protocol violation: {error}")

    def _feed(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        gets = reader.gets
        book = self._book
        while (reply := gets()) is not _MORE:
            # RESP3's pushes are lists, too.
            if isinstance(reply, list):
                if len(reply) != 3:
                    continue  # a push of a kind we did not ask for
                kind, channel, content = reply
                if kind == b"message":
                    book.on_message(channel, content)
                elif kind in _SETTLED:
                    book.on_confirmed(kind, channel)
                    self._settled()
                if self.lost.done():
                    return
            elif type(reply) is StoreRefused:
                book.on_refused(reply)
                self.speak_soon()
            else:
                raise ProtocolViolation("a reply to no command")
