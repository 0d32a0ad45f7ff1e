"""Subscribing from asyncio: one WebSocket, any number of channels, ``async for``.

The shell around a :class:`~clients.conversation.Conversation`: it opens connections, reads
one frame after the other and hands what is understood to the iterators.

Back-pressure is real: when an iterator's buffer is full, the socket is not read, so the hub
sees a slow reader and not this process an endless queue. One slow iterator therefore holds
up the others of the same ``Subscriber`` (use one each where that matters), and while it
does, pings stay unanswered: a hub that drops the connection for it loses nothing, because
the next connection goes on from the last position.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, overload

import msgspec
import websockets
from msgspec import Raw
from websockets.asyncio.client import ClientConnection, connect

from channels import Catalogue, FanwireError, Position
from channels.errors import (
    HubError,
    HubOutcomeUnknown,
    HubUnavailable,
    TokenExpired,
    UsageError,
)

from .address import handshake_refused, websocket_url
from .backoff import Backoff
from .conversation import Connected, Conversation, Ended, Happening, Joined, Over, Reply
from .delivery import Delivery, Gap, Snapshot
from .subscription import Subscription

__all__ = ["Subscriber"]

#: Longest frame in bytes. A recovery comes as one frame: 2,000 publications of 64 KiB, the
#: largest log of most channels, fit; a runaway peer does not take all memory.
_MAX_FRAME_BYTES = 160 * 1024 * 1024


class _HistoryPublication(msgspec.Struct):
    data: Raw
    offset: int = 0


class _History(msgspec.Struct):
    publications: list[_HistoryPublication] = []
    offset: int = 0
    epoch: str = ""


class Subscriber:
    """A connection to the hub that comes back by itself and resumes where it was.

    Entering it waits for the first connection. From then on it reconnects for as long as
    it is open; the iterators do not notice, except for a :class:`Gap` where the hub's
    history did not reach back far enough. What no reconnect can help (a refused token, a
    forbidden channel) is raised out of the iterators.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str = "",
        get_token: Callable[[], Awaitable[str]] | None = None,
        catalogue: Catalogue | None = None,
        buffer: int = 1024,
        open_timeout_s: float = 10.0,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Remember where the hub is; the connection is opened by ``async with``.

        Args:
            url: the hub's address, ``http://host:port`` or ``ws://host:port``; a path ends
                where ``/connection/websocket`` begins.
            token: JWT that says who connects; empty means anonymous.
            get_token: asked for a token at the start (unless ``token`` is given) and
                whenever the one in use has expired. What it raises ends the iterators.
            catalogue: the channels whose events are typed; the built-in ones by default.
            buffer: publications that one iterator may be behind before the socket is no
                longer read.
            open_timeout_s: seconds to wait for the first connection.
            backoff: the pauses between connections.
            sleep: waits for these pauses.

        Raises:
            UsageError: ``url`` is no address of a hub.
        """
        self._url = websocket_url(url)
        self._token = token
        self._get_token = get_token
        self._catalogue = catalogue or Catalogue()
        self._buffer = buffer
        self._open_timeout_s = open_timeout_s
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._conversation = Conversation(self._catalogue)
        self._subscriptions: dict[str, Subscription[Any]] = {}
        self._replies: dict[int, asyncio.Future[bytes]] = {}
        self._socket: ClientConnection | None = None
        self._runner: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._last_error: FanwireError | None = None
        self._ended_by: BaseException | None = None

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise UsageError("a Subscriber opens once; make another one")
        self._opened = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run(), name="fanwire subscriber")
        try:
            async with asyncio.timeout(self._open_timeout_s):
                await asyncio.shield(self._opened)
        except TimeoutError:
            await self.aclose()
            last = f"; last: {self._last_error}" if self._last_error is not None else ""
            raise HubUnavailable(
                f"no connection to {self._url} within {self._open_timeout_s:g} s{last}"
            ) from None
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the connection and every iterator."""
        if self._runner is not None:
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
        self._finish(None)

    @overload
    def subscribe(
        self,
        *channels: str,
        since: Position | Mapping[str, Position] | None = None,
        snapshot: Literal[False] = False,
    ) -> Subscription[Delivery | Gap]: ...

    @overload
    def subscribe(
        self,
        *channels: str,
        since: Position | Mapping[str, Position] | None = None,
        snapshot: bool,
    ) -> Subscription[Delivery | Gap | Snapshot]: ...

    def subscribe(
        self,
        *channels: str,
        since: Position | Mapping[str, Position] | None = None,
        snapshot: bool = False,
    ) -> Subscription[Any]:
        """Follow ``channels`` as one stream of :class:`Delivery` and :class:`Gap`.

        ``since`` is a position to go on after, for one channel, or a position by channel;
        channels without one begin with what is published from now on. With ``snapshot`` they
        begin with a :class:`Snapshot` of the state behind the channel, and have another one
        right after each gap; a channel that has no such state ends the iterator with
        ``NotAvailable``.

        Raises:
            UsageError: no channel is named, or one position is given for several.
        """
        if not channels:
            raise UsageError("subscribe to at least one channel")
        if isinstance(since, Position):
            if len(channels) > 1:
                raise UsageError("a position belongs to one channel: give a mapping for several")
            since = {channels[0]: since}
        return Subscription[Any](self, channels, since or {}, self._buffer, snapshot=snapshot)

    async def history(
        self,
        channel: str,
        *,
        limit: int = -1,
        since: Position | None = None,
        timeout_s: float = 10.0,
    ) -> tuple[list[Delivery], Position]:
        """Return what the log of ``channel`` holds after ``since``, oldest first, and its top.

        ``limit`` bounds the number; -1 asks for everything. The answer comes over the same
        socket as the publications: while an iterator's buffer is full it cannot arrive.

        Raises:
            RequestError: the hub refused it.
            HubOutcomeUnknown: no answer within ``timeout_s`` seconds.
        """
        params: dict[str, object] = {"channel": channel, "limit": limit}
        if since is not None:
            params["since"] = {"epoch": since.epoch, "offset": since.offset}
        result = await self._ask("history", params, timeout_s)
        try:
            history = msgspec.json.decode(result, type=_History)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HubOutcomeUnknown(f"expected a history from the hub; {error}") from None
        found = [
            Delivery(channel, Position(history.epoch, pub.offset), bytes(pub.data), self._catalogue)
            for pub in history.publications
        ]
        return found, Position(history.epoch, history.offset)

    async def _ask(self, method: str, params: dict[str, object], timeout_s: float) -> bytes:
        self._check_open()
        if not self._conversation.connected:
            raise HubUnavailable(f"not connected to {self._url} at the moment")
        id_ = self._conversation.ask(method, params)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._replies[id_] = future
        try:
            await self._flush()
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise HubOutcomeUnknown(f"no answer to {method} within {timeout_s:g} s") from None
        finally:
            self._replies.pop(id_, None)

    def _check_open(self) -> None:
        if self._ended_by is not None:
            raise self._ended_by
        if self._runner is None or self._runner.done():
            raise UsageError("use the Subscriber inside 'async with'")

    async def follow(self, subscription: Subscription[Any], since: Mapping[str, Position]) -> None:
        """Ask the hub for the channels of ``subscription`` (it calls this itself)."""
        self._check_open()
        followed: list[str] = []
        try:
            for channel in subscription.channels:
                self._conversation.follow(
                    channel, since.get(channel), snapshot=subscription.snapshot
                )
                self._subscriptions[channel] = subscription
                followed.append(channel)
        except FanwireError:
            for channel in followed:
                self._conversation.leave(channel)
                del self._subscriptions[channel]
            raise
        await self._flush()

    async def leave(self, subscription: Subscription[Any]) -> None:
        """Ask for them no longer (the subscription calls this itself)."""
        for channel in subscription.channels:
            if self._subscriptions.get(channel) is subscription:
                del self._subscriptions[channel]
                self._conversation.leave(channel)
        await self._flush()

    async def _flush(self) -> None:
        socket = self._socket
        frame = self._conversation.take_outgoing() if socket is not None else b""
        if socket is not None and frame:
            # When the connection is gone, the reader notices too, and the next one starts
            # by asking for everything that is followed.
            with contextlib.suppress(websockets.ConnectionClosed):
                await socket.send(frame, text=True)

    async def _run(self) -> None:
        try:
            while True:
                over = await self._connect_once()
                self._last_error = over.error
                self._conversation.stop()
                self._fail_replies(over.error)
                expired = isinstance(over.error, TokenExpired)
                if not over.reconnect or (expired and self._get_token is None):
                    return self._finish(over.error)
                if expired:
                    self._token = ""
                await self._sleep(self._backoff.next_pause_s())
        except Exception as error:  # noqa: BLE001 - whoever iterates is told, whatever it is
            self._finish(error)

    async def _connect_once(self) -> Over:
        """Open one connection and read it to its end."""
        if self._get_token is not None and not self._token:
            self._token = await self._get_token()
        try:
            self._socket = socket = await connect(
                self._url,
                compression=None,
                # The protocol has pings of its own, which also tell that the hub lives.
                ping_interval=None,
                close_timeout=1,
                open_timeout=self._open_timeout_s,
                max_size=_MAX_FRAME_BYTES,
            )
            try:
                return await self._converse(socket)
            finally:
                # Not "async with": that calls it an internal error when we are cancelled.
                await socket.close()
        except websockets.InvalidStatus as error:
            return handshake_refused(error.response.status_code)
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            return Over(HubUnavailable(f"{type(error).__name__}: {error}"), reconnect=True)
        finally:
            self._socket = None

    async def _converse(self, socket: ClientConnection) -> Over:
        conversation = self._conversation
        conversation.start(self._token)
        await self._flush()
        while True:
            try:
                async with asyncio.timeout(conversation.silence_s):
                    frame = await socket.recv(decode=False)
            except TimeoutError:
                return Over(HubError("the hub fell silent: no ping in time"), reconnect=True)
            except websockets.ConnectionClosed as closed:
                frame_of_close = closed.rcvd
                if frame_of_close is None:
                    return Over(HubError(f"connection lost: {closed}"), reconnect=True)
                return conversation.closed(frame_of_close.code, frame_of_close.reason)
            for happening in conversation.receive(frame):
                if isinstance(happening, Over):
                    return happening
                await self._handle(happening)
            await self._flush()

    async def _handle(self, happening: Happening) -> None:
        match happening:
            case Delivery(channel=channel) | Gap(channel=channel) | Snapshot(channel=channel):
                if channel in self._subscriptions:
                    await self._subscriptions[channel].deliver(happening)
            case Joined(channel=channel):
                if channel in self._subscriptions:
                    self._subscriptions[channel].joined(channel)
            case Ended(channel=channel, error=error):
                if channel in self._subscriptions:
                    self._end([self._subscriptions[channel]], error)
            case Reply(id=id_, result=result, error=error):
                self._answer(id_, result, error)
            case Connected() if self._opened is not None and not self._opened.done():
                self._opened.set_result(None)
            case _:
                pass
        if self._conversation.settled:
            self._backoff.reset()

    def _answer(self, id_: int, result: bytes, error: FanwireError | None) -> None:
        future = self._replies.get(id_)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _end(self, subscriptions: Iterable[Subscription[Any]], error: BaseException | None) -> None:
        for subscription in subscriptions:
            for channel in subscription.channels:
                if self._subscriptions.get(channel) is subscription:
                    del self._subscriptions[channel]
                    self._conversation.leave(channel)
            subscription.end(error)

    def _fail_replies(self, error: BaseException) -> None:
        for future in self._replies.values():
            if not future.done():
                future.set_exception(HubOutcomeUnknown(f"no answer: {error}"))

    def _finish(self, error: BaseException | None) -> None:
        """Tell everybody who waits that nothing will come any more."""
        self._ended_by = self._ended_by or error
        self._conversation.stop()
        self._fail_replies(error or UsageError("the subscriber was closed"))
        self._end(set(self._subscriptions.values()), error)
        if self._opened is not None and not self._opened.done():
            if error is None:
                self._opened.cancel()
            else:
                self._opened.set_exception(error)
                self._opened.exception()
