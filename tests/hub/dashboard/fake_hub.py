"""A hub that says what a test tells it to: the page's files, and ``/events`` as a script.

The cursor, the blocks and the in-band events are those of the real feed, so that what the page
does here it does there; but gaps, goodbyes and outages happen when they are called for.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from channels.cursor import CursorPosition, decode_cursor, encode_cursor, encode_cursor_part
from channels.event import encode_event
from channels.events import ChannelActivity, NodeReport, NodeReported
from channels.position import Position

__all__ = ["FakeHub"]

_ROOT = Path(__file__).parents[3]
_PAGE = _ROOT / "hub" / "dashboard"
_POLICY = "default-src 'self'"
_PATIENCE_S = 20.0
_HISTORY = 2_000


class _Feed:
    """One reader: what is queued for it, and how far it got on each of its channels."""

    def __init__(self, channels: list[str]) -> None:
        self.channels = channels
        self.parts: dict[str, bytes] = {}
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, data: bytes, *, event: str = "", cursor: bool = True) -> None:
        id_ = b"id: %b\n" % encode_cursor(self.parts.values()) if cursor else b""
        name = b"event: %b\n" % event.encode() if event else b""
        self.queue.put_nowait(b"%b%bdata: %b\n\n" % (id_, name, data))

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"retry: 100\nid: %b\n\n" % encode_cursor(self.parts.values())
        while (block := await self.queue.get()) is not None:
            chunk = [block]
            while not self.queue.empty():
                following = self.queue.get_nowait()
                if following is None:
                    yield b"".join(chunk)
                    return
                chunk.append(following)
            yield b"".join(chunk)


class FakeHub:
    """Use it as a context manager; every method may be called from the test's thread.

    ``clients`` and ``subscribers`` are what its node reports, every ``report_s`` seconds.
    """

    def __init__(self, *, report_s: float = 0.1, up: bool = True) -> None:
        self.report_s = report_s
        self.clients = 3
        self.subscribers: dict[str, int] = {}
        self._up = up
        self._epoch = "e1"
        self._logs: dict[str, deque[tuple[int, str, bytes]]] = {}
        self._offsets: Counter[str] = Counter()
        self._feeds: set[_Feed] = set()
        self._changed = threading.Condition()
        self._began = time.monotonic()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        self._server = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=self._routes()),
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_level="error",
                timeout_graceful_shutdown=1,
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        with self._changed:
            assert self._changed.wait_for(lambda: self._loop is not None, _PATIENCE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._stop)
        self._thread.join(_PATIENCE_S)
        self._listening.close()
        assert not self._thread.is_alive()

    # -- what a test tells it -----------------------------------------------------------------

    def publish(self, channel: str, data: Any) -> None:
        """Publish JSON of any kind, or text that is JSON already as ``bytes``."""
        self._call(self._publish, channel, data)

    def publish_many(self, publications: list[tuple[str, Any]]) -> None:
        """Publish all of them in one turn of the loop."""
        self._call(lambda: [self._publish(*each) for each in publications])

    def lose(self, channel: str) -> None:
        """Tell every reader of ``channel`` that history was lost."""
        self._call(self._lose, channel)

    def cut(self, *, goodbye: str = "") -> None:
        """End every feed, with a ``close`` event when there is a goodbye to say."""
        self._call(self._cut, goodbye)

    def down(self, reason: str = "Redis is away") -> None:
        """Be there, but say goodbye at once to everybody who comes."""
        self._call(self._set_up, False)
        self.cut(goodbye=reason)

    def up(self) -> None:
        """Answer again."""
        self._call(self._set_up, True)

    def wait_followed(self, *channels: str) -> None:
        """Return when some reader follows all of ``channels``."""

        def followed() -> bool:
            return any(set(channels) <= set(feed.channels) for feed in self._feeds)

        with self._changed:
            assert self._changed.wait_for(followed, _PATIENCE_S), [
                feed.channels for feed in self._feeds
            ]

    def _call(self, action: Any, *args: Any) -> None:
        assert self._loop is not None
        done = threading.Event()

        def act() -> None:
            try:
                action(*args)
            finally:
                done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(_PATIENCE_S)

    # -- inside the loop ----------------------------------------------------------------------

    async def _run(self) -> None:
        with self._changed:
            self._loop = asyncio.get_running_loop()
            self._changed.notify_all()
        reporting = asyncio.create_task(self._report())
        await self._server.serve(sockets=[self._listening])
        reporting.cancel()

    def _stop(self) -> None:
        self._cut("shutdown")
        self._server.should_exit = True

    def _set_up(self, up: bool) -> None:
        self._up = up

    async def _report(self) -> None:
        while True:
            report = NodeReport(
                node="n1",
                name="fake",
                version="0.1.0",
                uptime_s=time.monotonic() - self._began,
                clients=self.clients,
                publications=self._offsets.total(),
                channels={
                    name: ChannelActivity(
                        subscribers=self.subscribers.get(name, 1), publications=published
                    )
                    for name, published in self._offsets.items()
                },
            )
            if self._up:
                self._publish("hub:nodes", encode_event(NodeReported(data=report)))
            await asyncio.sleep(self.report_s)

    def _publish(self, channel: str, data: Any) -> None:
        text = data if isinstance(data, bytes) else msgspec.json.encode(data)
        self._offsets[channel] += 1
        offset = self._offsets[channel]
        push = b'{"channel":%b,"pub":{"offset":%d,"data":%b}}' % (
            msgspec.json.encode(channel),
            offset,
            text,
        )
        log = self._logs.setdefault(channel, deque(maxlen=_HISTORY))
        log.append((offset, self._epoch, push))
        for feed in self._feeds:
            if channel in feed.channels:
                feed.parts[channel] = self._part(channel, offset)
                feed.put(push)

    def _part(self, channel: str, offset: int) -> bytes:
        return encode_cursor_part(channel, self._epoch, offset, f"i{offset}" if offset else "")

    def _lose(self, channel: str) -> None:
        for feed in self._feeds:
            if channel in feed.channels:
                self._tell_gap(feed, channel, "trimmed", "history is shorter than the absence")

    def _tell_gap(self, feed: _Feed, channel: str, reason: str, message: str) -> None:
        top = self._offsets[channel]
        feed.parts[channel] = self._part(channel, top)
        gap = {
            "channel": channel,
            "reason": reason,
            "message": message,
            "position": {"epoch": self._epoch, "offset": top},
        }
        feed.put(msgspec.json.encode(gap), event="gap")

    def _cut(self, goodbye: str) -> None:
        for feed in self._feeds:
            if goodbye:
                text = msgspec.json.encode({"code": 3001, "reason": goodbye})
                feed.put(text, event="close", cursor=False)
            feed.queue.put_nowait(None)

    async def _events(self, request: Request) -> Response:
        channels = request.query_params.getlist("channel")
        if not self._up:
            goodbye = b'event: close\ndata: {"code":3001,"reason":"Redis is away"}\n\n'
            return Response(b"retry: 100\n" + goodbye, media_type="text/event-stream")
        cursor = request.headers.get("last-event-id") or request.query_params.get(
            "last_event_id", ""
        )
        recent = int(request.query_params.get("recent", "0"))
        feed = _Feed(channels)
        since = decode_cursor(cursor, channels) if cursor else {}
        for channel in channels:
            top = self._offsets[channel]
            feed.parts[channel] = self._part(channel, top)
            if channel not in since and recent and top:
                log = list(self._logs[channel])[-recent:]
                feed.parts[channel] = self._part(channel, log[0][0] - 1)
                since[channel] = CursorPosition(Position(self._epoch, log[0][0] - 1))
            elif not cursor:
                continue
            if channel not in since:
                self._tell_gap(feed, channel, "absent", "the cursor does not mention the channel")
                continue
            after = since[channel].position.offset
            for offset, _, push in self._logs.get(channel, ()):
                if offset > after:
                    feed.parts[channel] = self._part(channel, offset)
                    feed.put(push)
        with self._changed:
            self._feeds.add(feed)
            self._changed.notify_all()

        async def stream() -> AsyncIterator[bytes]:
            try:
                async for chunk in feed.chunks():
                    yield chunk
            finally:
                self._feeds.discard(feed)

        return StreamingResponse(
            stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    def _routes(self) -> list[Any]:
        async def module(request: Request) -> Response:
            spec = find_spec("clients")
            assert spec is not None
            assert spec.submodule_search_locations is not None
            path = Path(spec.submodule_search_locations[0]) / "js" / "fanwire.js"
            return FileResponse(path, media_type="text/javascript")

        return [
            Route("/events", self._events),
            Route("/js/fanwire.js", module),
            Mount("/", _Page(directory=_PAGE, html=True)),
        ]


class _Page(StaticFiles):
    """The page's files, under the policy that the hub serves them with."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Content-Security-Policy"] = _POLICY
        return response
