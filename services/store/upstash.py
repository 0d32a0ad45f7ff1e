"""The store over Upstash's REST API: one database, one request a call, no subscriptions yet.

For places that cannot keep a TCP connection, or may open nothing but HTTPS. Everything that
is state, publishing or history works as over TCP, with the same scripts. Each command is
billed, so nothing here asks for the sake of asking: a probe is sent when a call failed, and
once a minute when there was none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import ClassVar, NoReturn, Self, cast

import msgspec

from channels.errors import (
    NotAvailable,
    OutcomeUnknown,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UsageError,
)

from .background import end, spawn
from .backoff import Backoff
from .port import Argument, Listener, Reply, Traits
from .rest_address import RestAddress
from .rest_exchange import Call, RestClient
from .rest_packing import pack, pack_arguments
from .script import Script

__all__ = ["UpstashStore", "UpstashStoreOptions"]

_log = logging.getLogger(__name__)

#: What requests have for ending once the store is closed.
_CLOSE_S = 2.0
#: Upstash runs a script with this line while scripts on other keys run too; Redis and Valkey
#: take it for an error.
_SHEBANG = "#!lua flags=allow-key-locking\n"


class UpstashStoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a store is, and how much it sends at once."""

    #: Deadline of a call that names none. Over the internet, so longer than over TCP.
    timeout_s: float = 5.0
    #: For one attempt to connect, TLS included.
    connect_timeout_s: float = 3.0
    #: Requests on their way at the same time; callers beyond it wait in line.
    connections: int = 16
    #: Pause before asking a database that failed again: grows from the first to the second.
    backoff_s: tuple[float, float] = (0.2, 5.0)
    #: How long nothing may be heard before the database is asked whether it is there.
    probe_interval_s: float = 60.0


class UpstashStore:
    """One Upstash database; see :class:`~services.store.port.Store` for the promises.

    ``async with UpstashStore(url, token) as store`` waits for an answer; :meth:`open` is for
    those who start without one. The constructor does no I/O and raises ``SettingsError`` for
    an address or a token that cannot be right. Arguments travel in JSON, so they must be
    UTF-8; replies are bytes, whatever they hold.
    """

    __slots__ = (
        "_address",
        "_answers",
        "_callbacks",
        "_client",
        "_closed",
        "_deadlines",
        "_idle",
        "_keeper",
        "_loop",
        "_options",
        "_ready",
        "_slots",
        "_suspected",
        "_trouble",
    )

    _loop: asyncio.AbstractEventLoop
    _client: RestClient

    #: No subscriptions, and each command costs.
    traits: ClassVar[Traits] = Traits(subscriptions=False, billed=True)

    def __init__(
        self,
        url: str | RestAddress,
        token: str | None = None,
        options: UpstashStoreOptions | None = None,
    ) -> None:
        self._address = url if isinstance(url, RestAddress) else RestAddress.from_url(url, token)
        self._options = options or UpstashStoreOptions()
        self._slots = asyncio.Semaphore(self._options.connections)
        self._keeper: asyncio.Task[None] | None = None
        #: Of the requests on their way; closing brings them forward.
        self._deadlines: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        #: Set when a call failed in a way that makes the database suspect.
        self._suspected = asyncio.Event()
        self._answers = 0
        self._closed = False
        self._ready = False
        self._trouble = f"Upstash at {self._address.where}: not asked yet"
        self._callbacks: list[Callable[[bool], None]] = []

    # -- life ------------------------------------------------------------------------------

    async def open(self, *, wait: bool = True) -> None:
        """Begin to ask for the database, and watch it for as long as the store is open.

        With ``wait`` it returns when the database answers, and raises (closed again)
        ``StoreUnavailable`` when it does not within ``timeout_s`` or ``StoreRefused`` when
        the token does not open it. Without, it returns at once and ``ready`` tells.
        """
        if self._keeper is not None or self._closed:
            raise UsageError("a store is opened once")
        self._loop = asyncio.get_running_loop()
        self._client = RestClient(self._address, connect_timeout_s=self._options.connect_timeout_s)
        first: asyncio.Future[None] = self._loop.create_future()
        self._keeper = spawn(self._watch(first), "the store's watch")
        if not wait:
            first.add_done_callback(lambda done: done.cancelled() or done.exception())
            return
        try:
            async with asyncio.timeout(self._options.timeout_s):
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

    async def close(self) -> None:
        """End every request; waiting calls raise ``StoreUnavailable`` or ``OutcomeUnknown``."""
        self._closed = True
        self._trouble = f"Upstash at {self._address.where}: the store is closed"
        keeper, self._keeper = self._keeper, None
        await end(keeper)
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(self._loop.time())
        if self._deadlines:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._idle.wait()  # each ends in its own task
        if keeper is not None:
            await self._client.close()
        self._tell(ready=False)

    # -- commands --------------------------------------------------------------------------

    async def execute(self, *command: Argument, timeout_s: float | None = None) -> Reply:
        """Send one command and return its reply; an error reply raises ``StoreRefused``.

        ``UsageError`` for a command that makes no sense over a shared connection or without
        one (blocking reads, MULTI, SELECT, SUBSCRIBE and their like), and for an argument
        that is not UTF-8; nothing is sent then.
        """
        packed = pack(command)
        return cast(Reply, await self._call(lambda _: self._client.execute(packed), timeout_s))

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        timeout_s: float | None = None,
    ) -> Reply:
        """Run ``script`` by its SHA; sent in full when the server does not know it yet."""
        text, sha = _locking(script)
        rest = pack_arguments("a script", (len(keys), *keys, *args))

        async def by_sha_or_text(call: Call) -> object:
            try:
                return await self._client.execute(["evalsha", sha, *rest])
            except StoreRefused as refused:
                if refused.prefix != "NOSCRIPT":
                    raise
            # Not a blind repetition: the server said that it ran nothing.
            call.sent = False
            return await self._client.execute(["eval", text, *rest])

        return cast(Reply, await self._call(by_sha_or_text, timeout_s))

    async def pipeline(
        self, commands: Sequence[Sequence[Argument]], *, timeout_s: float | None = None
    ) -> list[Reply | Exception]:
        """Send ``commands`` in one request; return a reply or a ``StoreRefused`` for each.

        No transaction: other callers' commands may run in between on the server.
        """
        packed = [pack(command) for command in commands]
        if not packed:
            self._check_open()
            return []

        async def all_of_them(_: Call) -> object:
            pipeline = self._client.pipeline()
            for command in packed:
                pipeline.execute(command)
            return await pipeline.exec()

        return cast("list[Reply | Exception]", await self._call(all_of_them, timeout_s))

    async def _call(
        self, send: Callable[[Call], Awaitable[object]], timeout_s: float | None
    ) -> object:
        """Have ``send`` done within the deadline, and take note of how it went."""
        self._check_open()
        try:
            answer = await self._within(
                self._options.timeout_s if timeout_s is None else timeout_s, send
            )
        except StoreRefused as refused:
            self._answers += 1
            if refused.prefix in _SHUT_OUT:
                self._suspected.set()
            raise
        except StoreError:
            self._suspected.set()
            raise
        self._answers += 1
        return answer

    async def _within(self, patience_s: float, send: Callable[[Call], Awaitable[object]]) -> object:
        deadline = asyncio.timeout(patience_s)
        with Call() as call:
            try:
                async with deadline:
                    self._deadlines.add(deadline)
                    async with self._slots:
                        return await send(call)
            except TimeoutError:
                late = f"Upstash at {self._address.where}: no answer within {patience_s:g} s"
                raise call.failure(self._trouble if self._closed else late) from None
            finally:
                self._deadlines.discard(deadline)
                if not self._deadlines:
                    self._idle.set()

    # -- subscriptions ---------------------------------------------------------------------

    async def listen(self, channel: str, listener: Listener) -> NoReturn:  # noqa: ARG002
        """Raise ``NotAvailable``: this version cannot subscribe over REST."""
        raise NotAvailable(
            "subscriptions need the database's rediss:// address in this version: over its REST "
            "API the hub publishes, keeps state and reads history, but hears nothing live"
        )

    async def unlisten(self, channel: str) -> None:
        """Do nothing: :meth:`listen` never leaves anything to undo."""

    # -- state -----------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the database answered when it was last asked."""
        return self._ready

    @property
    def trouble(self) -> str | None:
        """One sentence on what is wrong while the store is not ready."""
        return None if self._ready else self._trouble

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """Have ``callback`` told ``True``/``False`` when the store becomes usable or not."""
        self._callbacks.append(callback)

    def _tell(self, *, ready: bool) -> None:
        if ready == self._ready:
            return
        self._ready = ready
        for callback in self._callbacks:
            try:
                callback(ready)
            except Exception:  # noqa: BLE001 - its bug must not cost us the watch
                _log.exception("a callback failed on ready=%s", ready)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(self._trouble)
        if self._keeper is None:
            raise UsageError("expected an open store: call open() or use async with")

    # -- the watch -------------------------------------------------------------------------

    async def _watch(self, first: asyncio.Future[None]) -> None:
        """Know whether the database answers; ``first`` hears how the first probe ended."""
        backoff = Backoff(*self._options.backoff_s)
        while True:
            self._suspected.clear()
            try:
                await self._probe()
            except StoreError as error:
                self._report(str(error))
                if isinstance(error, StoreRefused) and not first.done():
                    first.set_exception(error)
                await asyncio.sleep(backoff.next_s())
                continue
            if not self._ready:
                _log.info("Upstash at %s answers", self._address.where)
            self._tell(ready=True)
            if not first.done():
                first.set_result(None)
            await self._wait_for_doubt()
            # Calls that fail one after another, with a database that answers, are a reason to
            # ask again, but not each time.
            await asyncio.sleep(backoff.next_s())
            backoff.reset()

    async def _wait_for_doubt(self) -> None:
        """Return when a call failed, or nothing was heard for an interval."""
        while True:
            before = self._answers
            try:
                async with asyncio.timeout(self._options.probe_interval_s):
                    await self._suspected.wait()
            except TimeoutError:
                if self._answers != before:
                    continue
            return

    async def _probe(self) -> None:
        patience_s = self._options.timeout_s
        answer = await self._within(patience_s, lambda _: self._client.execute(["ping"]))
        if answer != b"PONG":
            raise OutcomeUnknown(
                f"Upstash at {self._address.where}: expected PONG in answer to PING, got {answer!r}"
            )

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:  # told once, not at each attempt
            _log.warning("no answer: %s", trouble)
        self._trouble = trouble
        self._tell(ready=False)


#: Errors that say that the token opens nothing (any more).
_SHUT_OUT = {"WRONGPASS", "NOAUTH"}


@lru_cache(maxsize=256)
def _locking(script: Script) -> tuple[str, str]:
    """Return the script as it is sent, and its SHA."""
    text = _SHEBANG + script.text
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
