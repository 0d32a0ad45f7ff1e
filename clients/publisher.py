"""Publishing over HTTP: ``Publisher`` for plain code, ``AsyncPublisher`` for asyncio.

Both are thin: they send what a :class:`~clients.publishing.Call` asks for. A publication
appears exactly once, however often a request or its answer is lost on the way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

import httpx

from channels import FanwireError, Position
from channels.errors import HubOutcomeUnknown, UsageError

from .backoff import Patience
from .publishing import BroadcastCall, Call, ChannelsCall, Many, PublishCall

__all__ = ["AsyncPublisher", "Publisher"]

T = TypeVar("T")

_PATIENCE = Patience()

#: Errors that happen before the request leaves: the hub certainly did not execute it.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class _Endpoint:
    """Where the hub is, and how long it is asked."""

    def __init__(self, url: str, api_key: str, patience: Patience) -> None:
        parts = httpx.URL(url)
        if parts.scheme not in {"http", "https"} or not parts.host:
            raise UsageError(f"expected the hub's address as http://host:port; got {url!r}")
        self._url = str(parts).rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["X-API-Key"] = api_key
        self._patience = patience

    def _note_reached(self) -> None:
        """Remember that there is a hub: what keeps it away from now on will pass."""
        if self._patience.unreached_s < self._patience.deadline_s:
            self._patience = replace(self._patience, unreached_s=self._patience.deadline_s)

    def _say(self, error: Exception) -> str:
        """Return the error with its kind (many of httpx have no text) and with the address."""
        text = str(error)
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return f"{self._url}: {what}"


class Publisher(_Endpoint):
    """Publishes from code without an event loop. Safe to share between threads."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str = "",
        patience: Patience = _PATIENCE,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take what :class:`AsyncPublisher` takes."""
        super().__init__(url, api_key, patience)
        self._sleep = sleep
        self._http = httpx.Client(headers=self._headers, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the hub."""
        self._http.close()

    def publish(
        self,
        channel: str,
        event: object,
        *,
        idempotency_key: str | None = None,
        conflate: str | None = None,
    ) -> Position:
        """Publish ``event`` on ``channel``; see :meth:`AsyncPublisher.publish`."""
        return self._run(PublishCall(self._patience, channel, event, idempotency_key, conflate))

    def publish_many(
        self, items: Sequence[tuple[str, object]], *, conflate: str | None = None
    ) -> list[Position | FanwireError]:
        """Publish ``(channel, event)`` pairs; see :meth:`AsyncPublisher.publish_many`."""
        many = Many(self._patience, items, conflate)
        for call in many.calls():
            self._run(call)
        return many.outcomes

    def broadcast(
        self,
        channels: Sequence[str],
        event: object,
        *,
        idempotency_key: str | None = None,
        conflate: str | None = None,
    ) -> list[Position | FanwireError]:
        """Publish ``event`` on every channel; see :meth:`AsyncPublisher.broadcast`."""
        return self._run(BroadcastCall(self._patience, channels, event, idempotency_key, conflate))

    def channels(self, pattern: str = "") -> dict[str, int]:
        """Return the active channels with the number of their subscribers."""
        return self._run(ChannelsCall(self._patience, pattern))

    def _run(self, call: Call[T]) -> T:
        while True:
            try:
                response = self._http.post(
                    self._url + call.path, content=call.body, timeout=call.timeout_s
                )
            except httpx.TransportError as error:
                pause = call.failed(self._say(error), may_have_run=not isinstance(error, _NOT_SENT))
            except httpx.HTTPError as error:
                raise HubOutcomeUnknown(self._say(error)) from error
            else:
                self._note_reached()
                pause = call.answered(response.status_code, response.headers, response.content)
            if pause is None:
                return call.result
            self._sleep(pause)


class AsyncPublisher(_Endpoint):
    """Publishes from asyncio code. One object serves all tasks of its event loop."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str = "",
        patience: Patience = _PATIENCE,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Remember where the hub is; nothing is sent before the first call.

        Args:
            url: the hub's address, ``http://host:port``, with the path under which the hub
                is mounted if there is one.
            api_key: sent as ``X-API-Key``; a hub in insecure mode needs none.
            patience: how long a call is tried.
            transport: how ``httpx`` reaches the hub, where it is not over the network.
            sleep: waits between tries.

        Raises:
            UsageError: ``url`` is no HTTP address.
        """
        super().__init__(url, api_key, patience)
        self._sleep = sleep
        self._http = httpx.AsyncClient(headers=self._headers, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections to the hub."""
        await self._http.aclose()

    async def publish(
        self,
        channel: str,
        event: object,
        *,
        idempotency_key: str | None = None,
        conflate: str | None = None,
    ) -> Position:
        """Publish ``event`` on ``channel`` and return its position.

        ``event`` is a :class:`channels.Event`, whose id is the idempotency key, or any
        other value that JSON can hold, or JSON itself as ``msgspec.Raw``; those get a key
        of their own unless ``idempotency_key`` names one. A key that the hub has seen on
        this channel in the last minutes publishes nothing and answers the first position.

        With a ``conflate`` key a reader that is behind may get only the newest publication
        with this key on the channel, and is told how many it did not get. Without one
        nothing is left out. A channel of typed events takes no key: the types decide.

        Raises:
            RequestError: the hub refused it, for good; the class tells why.
            HubUnavailable: the hub was not reached in time; nothing was published.
            HubOutcomeUnknown: no answer in time; it may have been published. Publishing
                the same event (or key) again is safe.
        """
        return await self._run(
            PublishCall(self._patience, channel, event, idempotency_key, conflate)
        )

    async def publish_many(
        self, items: Sequence[tuple[str, object]], *, conflate: str | None = None
    ) -> list[Position | FanwireError]:
        """Publish ``(channel, event)`` pairs in as few requests as their sizes allow.

        Returns one outcome a pair, in the same order: its position, or the error that
        :meth:`publish` would have raised. The pairs are executed in order, and later ones
        are executed although an earlier one was refused. ``conflate`` is the key of all.
        """
        many = Many(self._patience, items, conflate)
        for call in many.calls():
            await self._run(call)
        return many.outcomes

    async def broadcast(
        self,
        channels: Sequence[str],
        event: object,
        *,
        idempotency_key: str | None = None,
        conflate: str | None = None,
    ) -> list[Position | FanwireError]:
        """Publish ``event`` on every channel in one request; one outcome a channel."""
        return await self._run(
            BroadcastCall(self._patience, channels, event, idempotency_key, conflate)
        )

    async def channels(self, pattern: str = "") -> dict[str, int]:
        """Return the active channels (all, or those matching a glob ``pattern``).

        The number is that of the channel's subscribers.
        """
        return await self._run(ChannelsCall(self._patience, pattern))

    async def _run(self, call: Call[T]) -> T:
        while True:
            try:
                async with asyncio.timeout(call.timeout_s):
                    response = await self._post(call)
            except (httpx.TransportError, TimeoutError) as error:
                pause = call.failed(self._say(error), may_have_run=not isinstance(error, _NOT_SENT))
            except httpx.HTTPError as error:
                raise HubOutcomeUnknown(self._say(error)) from error
            else:
                self._note_reached()
                pause = call.answered(response.status_code, response.headers, response.content)
            if pause is None:
                return call.result
            await self._sleep(pause)

    async def _post(self, call: Call[T]) -> httpx.Response:
        try:
            return await self._http.post(
                self._url + call.path, content=call.body, timeout=call.timeout_s
            )
        except AttributeError as error:
            # httpx's network layer looks at the socket of a new connection before it writes
            # to it; if the hub died in between there is none, and this comes out (on uvloop).
            if error.name != "getpeername":
                raise
            raise httpx.ConnectError("the connection was lost as it was made") from error
