"""``GET /events?channel=...``: a feed over server-sent events, for a plain ``EventSource``.

sse-starlette keeps the response: headers, noticing that the client went away, the deadline
of each send, HEAD. What is written comes finished from :class:`~hub.feed.Feed`; where the
server lends us its transport, live events go there directly (``direct_stream.py``).

Importing sse-starlette patches ``uvicorn.Server.handle_exit`` and lets it end every stream
of the process half a second after a signal, so it is imported here and nowhere else. We use
that, because mounted in somebody's application it is the only word of a shutdown we get: its
"shutdown event" is our goodbye, and its grace outlasts the writing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio
import structlog
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from channels.catalogue import Channel
from channels.cursor import CursorPosition, decode_cursor
from channels.errors import BadRequest, Disconnects, FanwireError, LimitExceeded
from channels.identity import Identity
from hub.feed import Feed, encode_event_block, retry_ms
from hub.problem import problem_response
from hub.revocations import Hold
from hub.transports.direct_stream import LEND, DirectStream, Lender

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["EventsEndpoint"]

_log = structlog.get_logger(__name__)

#: A cursor has about 40 characters a channel; servers take headers of 64 KiB at most.
_MAX_CURSOR_CHARACTERS = 64 * 1024
#: Publications of each channel that a new reader may ask for; for more there is the history.
_MAX_RECENT = 100
_NO_STORE = {"Cache-Control": "no-store, no-transform"}


class EventsEndpoint:
    """ASGI application for ``/events``."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: with a feed, or with why there is none."""
        request = Request(scope, receive)
        try:
            channels, identity, since = await self._understand(request)
            recent = _recent(request.query_params.get("recent", "0"))
            snapshot = _snapshot(request.query_params.get("snapshot", "0"))
        except FanwireError as error:
            await _refusal(error, request)(scope, receive, send)
            return
        if request.method == "HEAD":
            await _stream(_nothing())(scope, receive, send)
            return
        feed = self._hub.new_feed(channels, identity)
        joining = partial(feed.open, since, recent=recent, snapshot=snapshot)
        await self._serve(feed, identity, joining, request, send)

    async def _understand(
        self, request: Request
    ) -> tuple[list[Channel], Identity, dict[str, CursorPosition] | None]:
        """Return what is asked for, by whom, and from where on."""
        names = list(dict.fromkeys(request.query_params.getlist("channel")))
        if not names:
            raise BadRequest("expected at least one channel: /events?channel=namespace:rest")
        most = self._hub.settings.max_channels
        if len(names) > most:
            raise _TooManyChannels(f"a feed has {most} channels at most; got {len(names)}")
        identity = await self._hub.authenticator.identity_of_request(request)
        channels = [self._hub.access.to_subscribe(identity, name) for name in names]
        # What the browser remembers is newer than what stands in the address.
        cursor = _header_text(request.headers, "last-event-id")
        anew: list[str] = []
        if not cursor:
            cursor = request.query_params.get("last_event_id", "")
            anew = request.query_params.getlist("anew")
        if not cursor:
            return channels, identity, None
        since = decode_cursor(cursor[:_MAX_CURSOR_CHARACTERS], names)
        return channels, identity, {name: at for name, at in since.items() if name not in anew}

    async def _serve(
        self,
        feed: Feed,
        identity: Identity,
        joining: Callable[[], Awaitable[None]],
        request: Request,
        send: Send,
    ) -> None:
        """Join, stream until either side ends, and leave, whatever happens."""
        hub = self._hub
        hold: Hold | None = None
        try:
            try:
                hub.check_store()
                hub.registry.add(feed, "sse")
                if identity.session:
                    hold = await hub.revocations.hold(identity)
                    hold.attach(feed)
                await joining()
            except FanwireError as error:
                await _refusal(error, request)(request.scope, request.receive, send)
                return
            response = _stream(
                self._chunks(feed, _lender(request.scope)),
                farewell=_Farewell(feed),
                grace_s=hub.settings.shutdown_grace_s,
                send_timeout_s=hub.settings.send_timeout_s,
            )
            await response(request.scope, request.receive, send)
        except SendTimeoutError:
            _log.info("let a reader go that stopped reading", user=feed.user)
        finally:
            feed.close()
            if hold is not None:
                hold.release()
            hub.registry.remove(feed)

    async def _chunks(self, feed: Feed, lender: Lender | None) -> AsyncIterator[bytes]:
        """Yield what the feed has for its response until it ends."""
        ready = asyncio.Event()
        feed.outbox.on_ready = ready.set
        while True:
            ready.clear()
            while feed.outbox:
                if text := feed.take():
                    yield text  # the first one has the head sent
            if feed.closing is not None:
                return
            if lender is None:
                await ready.wait()
                continue
            timeout_s = self._hub.settings.send_timeout_s
            with DirectStream(feed, lender, send_timeout_s=timeout_s) as stream:
                await stream.ended.wait()


class _TooManyChannels(LimitExceeded):
    http_status = 400


def _recent(text: str) -> int:
    """Return how many past publications of each channel a new reader wants.

    Raises:
        BadRequest: it is not a number up to the most there can be.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= _MAX_RECENT):
        raise BadRequest(f"expected recent=0 to recent={_MAX_RECENT}; got {text[:20]!r}")
    return int(text)


def _snapshot(text: str) -> bool:
    """Return whether a reader wants the state behind its channels.

    Raises:
        BadRequest: it is neither 0 nor 1.
    """
    if text not in {"0", "1"}:
        raise BadRequest(f"expected snapshot=0 or snapshot=1; got {text[:20]!r}")
    return text == "1"


def _lender(scope: Scope) -> Lender | None:
    """Return who lends us its transport for this request; call it in the request's own task."""
    if scope.get("http_version") != "1.1":  # with others there are no chunks
        return None
    lender: Lender | None = scope.get("extensions", {}).get(LEND)
    # A middleware that runs us in a task of its own (Starlette's BaseHTTPMiddleware) may still
    # hold what it was sent, and what we wrote to the transport would overtake it.
    if lender is None or asyncio.current_task() not in lender.tasks:
        return None
    return lender


class _Farewell:
    """Stands where sse-starlette expects an event to set when the server is shutting down."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def set(self) -> None:
        self._feed.end(Disconnects.SHUTDOWN)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _stream(
    chunks: AsyncIterator[bytes],
    *,
    farewell: _Farewell | None = None,
    grace_s: float = 0,
    send_timeout_s: float | None = None,
) -> EventSourceResponse:
    return EventSourceResponse(
        chunks,
        headers=_NO_STORE,
        ping=0,  # the feed has its own heartbeat, a timer instead of a task
        send_timeout=send_timeout_s,
        shutdown_event=cast("anyio.Event | None", farewell),  # only its set() is called
        shutdown_grace_period=grace_s,
    )


def _refusal(error: FanwireError, request: Request) -> Response:
    """Return the answer to a request that gets no feed.

    A browser gives up for good on any status but 200. What will pass (Redis is away, the node
    is full) is therefore told to an ``EventSource`` inside a stream that ends at once, and it
    comes back by itself, with the cursor it has.
    """
    accepts = request.headers.get("accept", "")
    if not error.temporary or "text/event-stream" not in accepts or request.method == "HEAD":
        return problem_response(error)
    goodbye = encode_event_block("close", {"code": error.code, "reason": error.public_message})
    return Response(
        b"retry: %d\n%b" % (retry_ms(), goodbye),
        media_type="text/event-stream",
        headers=_NO_STORE,
    )


def _header_text(headers: Headers, name: str) -> str:
    return headers.get(name, "").strip()
