"""The store over TCP, TLS or a unix socket: one server, two connections.

One connection carries everybody's commands, another (made with the first listener) all
pub/sub messages. Both are kept up in the background. This file owns their life and the
deadlines of callers that wait for a connection; it never repeats a command.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import ClassVar, Self

import msgspec

from channels.errors import SettingsError, StoreError, StoreRefused, StoreUnavailable, UsageError

from .background import end, spawn
from .backoff import Backoff
from .connection import RespConnection, open_connection
from .endpoint import Endpoint
from .guard import check_shareable
from .handshake import unfit
from .packing import pack
from .port import Argument, Listener, Reply, Traits
from .script import Script
from .subscriptions import Subscriptions

__all__ = ["TcpStore", "TcpStoreOptions"]

_log = logging.getLogger(__name__)


class TcpStoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a store is, and how much it holds."""

    #: Deadline of a call that names none.
    timeout_s: float = 2.0
    #: For one attempt to connect and greet.
    connect_timeout_s: float = 2.0
    #: A server that owes replies and sends nothing for so long is taken for dead.
    silence_s: float = 2.0
    #: Bytes of commands sent and unanswered; callers beyond it wait in line.
    window_bytes: int = 4 * 1024 * 1024
    #: Pause before connecting again: grows from the first to the second, with jitter.
    backoff_s: tuple[float, float] = (0.05, 1.0)
    #: How often, and how long, a message of our own is sent through the server and awaited.
    probe_interval_s: float = 1.0
    probe_timeout_s: float = 1.0
    #: Prefix of the pub/sub channel of those messages.
    probe_prefix: str = "fw:probe"


class TcpStore:
    """One Redis or Valkey server; see :class:`~services.store.port.Store` for the promises.

    ``async with TcpStore(url) as store`` waits for the server and ends the connections
    after it; :meth:`open` is for those who start without one. The constructor does no I/O
    and raises ``SettingsError`` for a URL it cannot read.
    """

    __slots__ = (
        "_arrival",
        "_callbacks",
        "_closed",
        "_connection",
        "_departure",
        "_endpoint",
        "_keeper",
        "_loop",
        "_options",
        "_ready",
        "_retired",
        "_subscriptions",
        "_timeout_s",
        "_trouble",
    )

    _loop: asyncio.AbstractEventLoop

    #: Subscriptions work and commands cost nothing.
    traits: ClassVar[Traits] = Traits()

    def __init__(self, url: str | Endpoint, options: TcpStoreOptions | None = None) -> None:
        self._endpoint = url if isinstance(url, Endpoint) else Endpoint.from_url(url)
        self._options = options or TcpStoreOptions()
        self._timeout_s = self._options.timeout_s
        self._connection: RespConnection | None = None
        self._retired: set[RespConnection] = set()
        #: Done when a connection is there / when it is gone again; made anew each time.
        self._arrival: asyncio.Future[None] | None = None
        self._departure: asyncio.Future[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._trouble = f"Redis at {self._endpoint.where}: not connected yet"
        self._closed = False
        self._ready = False
        self._callbacks: list[Callable[[bool], None]] = []
        self._subscriptions = Subscriptions(
            connect=self._connect,
            publish=lambda channel, payload: self.execute("PUBLISH", channel, payload),
            changed=self._update,
            backoff=Backoff(*self._options.backoff_s),
            probe_interval_s=self._options.probe_interval_s,
            probe_timeout_s=self._options.probe_timeout_s,
            probe_prefix=self._options.probe_prefix,
        )

    # -- life ------------------------------------------------------------------------------

    async def open(self, *, wait: bool = True) -> None:
        """Begin to connect, and go on for as long as the store is open.

        With ``wait`` it returns when the server answers, and raises (closed again)
        ``StoreUnavailable`` when it does not within ``timeout_s`` or ``StoreRefused`` when
        it does not let us in. Without, it returns at once and ``ready`` tells.
        """
        if self._keeper is not None or self._closed:
            raise UsageError("a store is opened once")
        self._loop = asyncio.get_running_loop()
        first: asyncio.Future[None] = self._loop.create_future()
        self._keeper = spawn(self._keep(first), "the store's connection")
        if not wait:
            first.add_done_callback(lambda done: done.cancelled() or done.exception())
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await first
        except TimeoutError as error:
            trouble = self._trouble
            await self.close()
            raise StoreUnavailable(trouble) from error
        except BaseException:
            await self.close()
            raise

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @classmethod
    async def connect(
        cls, url: str | Endpoint, options: TcpStoreOptions | None = None, *, wait: bool = True
    ) -> Self:
        """Make a store and open it; the caller closes it."""
        store = cls(url, options)
        await store.open(wait=wait)
        return store

    async def close(self) -> None:
        """End every connection; waiting calls raise ``StoreUnavailable`` or ``OutcomeUnknown``."""
        self._closed = True
        self._trouble = f"Redis at {self._endpoint.where}: the store is closed"
        await self._subscriptions.close()
        keeper, self._keeper = self._keeper, None
        await end(keeper)
        for connection in [self._connection, *self._retired]:
            if connection is not None:
                connection.give_up("the store is closed")
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        self._update()

    # -- commands --------------------------------------------------------------------------

    async def execute(self, *command: Argument, timeout_s: float | None = None) -> Reply:
        """Send one command and return its reply; an error reply raises ``StoreRefused``.

        ``UsageError`` for a command that would disturb others: blocking reads, MULTI,
        SELECT, SUBSCRIBE and their like.
        """
        check_shareable(command)
        packed = pack(command)
        connection = self._connection
        if connection is None:
            connection, leaves_at = await self._arrive(timeout_s)
        else:
            leaves_at = self._loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        return await connection.submit(packed, leaves_at)

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        timeout_s: float | None = None,
    ) -> Reply:
        """Run ``script`` by its SHA; sent in full when the server does not know it yet."""
        packed = pack(("EVALSHA", script.sha, len(keys), *keys, *args))
        connection = self._connection
        if connection is None:
            connection, leaves_at = await self._arrive(timeout_s)
        else:
            leaves_at = self._loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        try:
            return await connection.submit(packed, leaves_at)
        except StoreRefused as refused:
            if refused.prefix != "NOSCRIPT":
                raise
        # Not a blind repetition: the server said that it ran nothing.
        packed = pack(("EVAL", script.text, len(keys), *keys, *args))
        return await connection.submit(packed, leaves_at)

    async def pipeline(
        self, commands: Sequence[Sequence[Argument]], *, timeout_s: float | None = None
    ) -> list[Reply | Exception]:
        """Send ``commands`` in one write; return a reply or a ``StoreRefused`` for each.

        No transaction: other callers' commands may run in between on the server.
        """
        for command in commands:
            check_shareable(command)
        packed = [pack(tuple(command)) for command in commands]
        connection = self._connection
        if connection is None:
            connection, leaves_at = await self._arrive(timeout_s)
        else:
            leaves_at = self._loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        return await connection.submit_all(packed, leaves_at)

    # -- subscriptions ---------------------------------------------------------------------

    async def listen(self, channel: str, listener: Listener) -> None:
        """Subscribe to a pub/sub channel; returns when the server has confirmed it.

        Raises ``StoreUnavailable`` when that takes longer than ``timeout_s``,
        ``StoreRefused`` when the server does not allow it; nothing is subscribed then.
        ``UsageError`` when the channel has a listener already.
        """
        self._check_open()
        await self._subscriptions.listen(
            channel, listener, leaves_at=self._loop.time() + self._timeout_s
        )

    async def unlisten(self, channel: str) -> None:
        """Undo :meth:`listen`; no call reaches the listener after it returns."""
        self._subscriptions.unlisten(channel)

    # -- state -----------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether commands and subscriptions are both connected and answering."""
        return self._ready

    @property
    def trouble(self) -> str | None:
        """One sentence on what is wrong while the store is not ready."""
        if self._connection is None:
            return self._trouble
        return self._subscriptions.trouble

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """Have ``callback`` told ``True``/``False`` when the store becomes usable or not."""
        self._callbacks.append(callback)

    def _update(self) -> None:
        ready = self._connection is not None and self._subscriptions.trouble is None
        if ready == self._ready:
            return
        self._ready = ready
        for callback in self._callbacks:
            try:
                callback(ready)
            except Exception:  # noqa: BLE001 - its bug must not cost us the connection
                _log.exception("a callback failed on ready=%s", ready)

    # -- the connection for commands -------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"Redis at {self._endpoint.where}: the store is closed")
        if self._keeper is None:
            raise UsageError("expected an open store: call open() or use async with")

    async def _arrive(self, timeout_s: float | None) -> tuple[RespConnection, float]:
        """Wait for a connection, within the caller's deadline."""
        self._check_open()
        leaves_at = self._loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        while (connection := self._connection) is None:
            self._check_open()
            if self._arrival is None or self._arrival.done():
                self._arrival = self._loop.create_future()
            arrival = self._arrival
            await asyncio.wait({arrival}, timeout=max(0.0, leaves_at - self._loop.time()))
            if not arrival.done():
                raise StoreUnavailable(self._trouble)
        return connection, leaves_at

    async def _connect(self) -> RespConnection:
        return await open_connection(
            self._endpoint,
            timeout_s=self._options.connect_timeout_s,
            silence_s=self._options.silence_s,
            window_bytes=self._options.window_bytes,
            on_refused=self._on_refused,
            on_lost=self._on_lost,
        )

    async def _keep(self, first: asyncio.Future[None]) -> None:
        """Keep a connection for commands; ``first`` hears how the first attempt ended."""
        backoff = Backoff(*self._options.backoff_s)
        while True:
            try:
                connection = await self._connect()
            except (StoreError, SettingsError) as error:
                self._report(str(error))
                if not isinstance(error, StoreUnavailable) and not first.done():
                    first.set_exception(error)
            else:
                # The connection may have been lost while we were on our way here.
                if connection.lost is None:
                    backoff.reset()
                    self._departure = self._loop.create_future()
                    self._install(connection)
                    if not first.done():
                        first.set_result(None)
                    await self._departure
            await asyncio.sleep(backoff.next_s())

    def _install(self, connection: RespConnection) -> None:
        self._connection = connection
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        _log.info("connected to Redis at %s", self._endpoint.where)
        self._update()

    def _on_lost(self, connection: RespConnection, reason: str) -> None:
        self._retired.discard(connection)
        if connection is self._connection:
            self._depart(reason)

    def _on_refused(self, connection: RespConnection, refused: StoreRefused) -> None:
        """Leave a server that became a replica or lost its data: look again where it is."""
        if connection is self._connection and unfit(refused):
            self._retired.add(connection)
            self._depart(str(refused))
            connection.retire(str(refused))
            self._subscriptions.drop(str(refused))

    def _depart(self, reason: str) -> None:
        self._connection = None
        if not self._closed:
            self._report(f"Redis at {self._endpoint.where}: {reason}")
        if self._departure is not None and not self._departure.done():
            self._departure.set_result(None)
        self._update()

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:  # told once, not at each attempt
            _log.warning("no connection: %s", trouble)
        self._trouble = trouble
