"""Subscribers of every kind, each writing down what it is told in the order it is told.

Official clients (``centrifuge`` for JavaScript and Python), a plain ``EventSource`` (npm, and
bytes over httpx), and our own. What they saw is the same kind of record, so that a test and
the history checker read them all alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from centrifuge import (
    Client,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
)

from channels.cursor import decode_cursor
from clients import Delivery, Subscriber
from clients.backoff import Backoff
from tests.servers import PATIENCE_S

from .processes import ROOT, Place, Program

__all__ = [
    "FeedReader",
    "NodeEventSource",
    "NodeSubscriber",
    "OfficialSubscriber",
    "OurSubscriber",
    "Reader",
    "Seen",
    "feed_url",
    "joined",
]


class Seen(NamedTuple):
    """One thing a reader was told.

    ``kind`` is ``event``, ``joined`` (a subscription began or went on) or ``gap`` (it was told
    that publications are missing); other kinds are notes for people.
    """

    kind: str
    channel: str = ""
    offset: int = 0
    data: Any = None
    epoch: str = ""
    skipped: int = 0


def feed_url(base: str, *channels: str) -> str:
    """Return the address of an event feed."""
    return f"{base}/events?{urlencode([('channel', channel) for channel in channels])}"


def _epoch(cursor: str, channel: str) -> str:
    return decode_cursor(cursor, [channel])[channel].position.epoch


class Reader:
    """What one subscriber was told, in order, and waiting for more."""

    #: What kind of subscriber it is, for reports.
    kind = "reader"

    def __init__(self, *channels: str) -> None:
        self.channels = channels
        self.seen: list[Seen] = []
        #: When each of them came, in the loop's seconds.
        self.times: list[float] = []
        #: The epoch of each channel, as far as it was told.
        self.epochs: dict[str, str] = {}
        self._waiters: set[asyncio.Event] = set()

    async def open(self) -> None:
        """Begin to connect."""
        raise NotImplementedError

    async def close(self) -> None:
        """End."""
        raise NotImplementedError

    def note(self, seen: Seen) -> None:
        """Write down what came; an event without an epoch has that of its subscription."""
        if seen.epoch:
            self.epochs[seen.channel] = seen.epoch
        elif seen.kind == "event":
            seen = seen._replace(epoch=self.epochs.get(seen.channel, ""))
        self.seen.append(seen)
        self.times.append(asyncio.get_running_loop().time())
        for waiter in self._waiters:
            waiter.set()

    async def until(
        self, reached: Callable[[], bool], what: str = "", timeout_s: float = PATIENCE_S
    ) -> None:
        """Return when ``reached`` holds, which is asked after each thing that came."""
        news = asyncio.Event()
        self._waiters.add(news)
        try:
            async with asyncio.timeout(timeout_s):
                while not reached():
                    await news.wait()
                    news.clear()
        except TimeoutError:
            raise AssertionError(
                f"{self.kind}: {what or 'what was awaited'} did not come in {timeout_s} s; "
                f"it saw {len(self.seen)}, last {self.seen[-3:]}"
            ) from None
        finally:
            self._waiters.discard(news)

    async def joined(self) -> None:
        """Return when every channel was joined once."""
        await self.until(
            lambda: set(self.channels) <= {seen.channel for seen in self.of("joined")}, "joining"
        )

    async def received(self, count: int, channel: str = "") -> None:
        """Return when ``count`` events came (on ``channel``, if given)."""
        await self.until(lambda: len(self.data(channel)) >= count, f"{count} events")

    def of(self, kind: str, channel: str = "") -> list[Seen]:
        """Return what came of one kind."""
        return [s for s in self.seen if s.kind == kind and channel in {"", s.channel}]

    def data(self, channel: str = "") -> list[Any]:
        """Return the data of the events that came, in order."""
        return [seen.data for seen in self.of("event", channel)]


class _NodeReader(Reader):
    """A reader that is a process of Node."""

    def __init__(self, place: Place, node: str, script: str, url: str, *channels: str) -> None:
        super().__init__(*channels)
        path = str(ROOT / "tests" / "js" / "e2e" / script)
        self.program = Program(
            place, node, path, url, *self._arguments(), name=script, on_line=self._on_line
        )

    def _arguments(self) -> Iterable[str]:
        return self.channels

    def _on_line(self, line: str) -> None:
        told = json.loads(line)
        for seen in self._understand(told):
            self.note(seen)

    def _understand(self, told: dict[str, Any]) -> Iterable[Seen]:
        raise NotImplementedError

    async def open(self) -> None:
        """Begin to connect."""
        await self.program.spawn()

    async def close(self) -> None:
        """End."""
        await self.program.feed(b"")
        await self.program.ended()


class NodeSubscriber(_NodeReader):
    """``centrifuge`` for JavaScript, in Node."""

    kind = "centrifuge (npm)"

    def __init__(self, place: Place, node: str, ws_url: str, *channels: str) -> None:
        super().__init__(place, node, "centrifuge.mjs", ws_url, *channels)

    def _understand(self, told: dict[str, Any]) -> Iterable[Seen]:
        match told:
            case {"kind": "joined", "channel": channel}:
                at = (told.get("offset", 0), None, told.get("epoch", ""))
                if told["wasRecovering"] and not told["recovered"]:
                    yield Seen("gap", channel, *at)
                yield Seen("joined", channel, *at)
            case {"kind": "event", "channel": channel, "offset": offset, "data": data}:
                yield Seen("event", channel, offset, data)
            case {"kind": kind}:
                yield Seen(kind, told.get("channel", ""), told.get("code") or 0, told)


class NodeEventSource(_NodeReader):
    """The npm package ``eventsource``, in Node: it reconnects and resumes by itself."""

    kind = "eventsource (npm)"

    def __init__(self, place: Place, node: str, base: str, *channels: str) -> None:
        super().__init__(place, node, "eventsource.mjs", feed_url(base, *channels), *channels)

    def _arguments(self) -> Iterable[str]:
        return ()

    def _understand(self, told: dict[str, Any]) -> Iterable[Seen]:
        match told:
            case {"kind": "open"}:
                for channel in self.channels:
                    yield Seen("joined", channel)
            case {"kind": "event", "channel": channel, "offset": offset, "data": data}:
                epoch, skipped = _epoch(told["cursor"], channel), told["skipped"]
                yield Seen("event", channel, offset, data, epoch, skipped)
            case {"kind": "gap", "channel": channel, "position": position}:
                yield Seen("gap", channel, position["offset"], told["reason"], position["epoch"])
            case {"kind": kind}:
                yield Seen(kind, "", told.get("code") or 0, told)


class OfficialSubscriber(Reader):
    """``centrifuge-python``."""

    kind = "centrifuge-python"

    def __init__(self, ws_url: str, *channels: str, token: str = "") -> None:
        super().__init__(*channels)
        self.client = Client(
            ws_url, token=token, min_reconnect_delay=0.02, max_reconnect_delay=0.2, proxy=None
        )

    async def open(self) -> None:
        """Begin to connect."""
        for channel in self.channels:
            subscription = self.client.new_subscription(
                channel,
                events=_Handler(self, channel),
                positioned=True,
                recoverable=True,
                min_resubscribe_delay=0.02,
                max_resubscribe_delay=0.2,
            )
            await subscription.subscribe()
        await self.client.connect()

    async def close(self) -> None:
        """End."""
        await self.client.disconnect()


class _Handler(SubscriptionEventHandler):
    def __init__(self, reader: Reader, channel: str) -> None:
        self._reader = reader
        self._channel = channel

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        position = ctx.stream_position
        at = (position.offset, None, position.epoch) if position else (0, None, "")
        if ctx.was_recovering and not ctx.recovered:
            self._reader.note(Seen("gap", self._channel, *at))
        self._reader.note(Seen("joined", self._channel, *at))

    async def on_publication(self, ctx: PublicationContext) -> None:
        self._reader.note(Seen("event", self._channel, ctx.pub.offset or 0, ctx.pub.data))


class OurSubscriber(Reader):
    """``clients.Subscriber``."""

    kind = "fanwire"

    def __init__(self, base: str, *channels: str) -> None:
        super().__init__(*channels)
        self._hub = Subscriber(base, backoff=Backoff(0.02, 0.2))
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to connect."""
        await self._hub.__aenter__()
        subscription = self._hub.subscribe(*self.channels)
        await subscription.__aenter__()
        for channel in self.channels:
            self.note(Seen("joined", channel))
        self._task = asyncio.create_task(self._follow(subscription))

    async def _follow(self, subscription: Any) -> None:
        async with contextlib.aclosing(subscription):
            async for item in subscription:
                at = item.position
                if isinstance(item, Delivery):
                    seen = Seen("event", item.channel, at.offset, item.data, at.epoch, item.skipped)
                    self.note(seen)
                else:
                    self.note(Seen("gap", item.channel, at.offset, None, at.epoch))

    async def close(self) -> None:
        """End."""
        assert self._task is not None
        failed = self._task.done()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._hub.aclose()
        assert not failed, "the subscriber ended by itself"


class FeedReader(Reader):
    """An ``EventSource`` written out: the bytes of ``/events``, and ``Last-Event-ID``.

    Reconnects much sooner than it is asked to, where ``pause_s`` says so: a test has no
    thousand readers to spread.
    """

    kind = "EventSource over httpx"

    def __init__(self, base: str, *channels: str, pause_s: float = 0.05) -> None:
        super().__init__(*channels)
        self.url = feed_url(base, *channels)
        self.cursor = ""
        self.retry_ms = 0
        self.pause_s = pause_s
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await self._read_once(http)
                await asyncio.sleep(random.uniform(0.5, 1) * self.pause_s)

    async def _read_once(self, http: httpx.AsyncClient) -> None:
        headers = {"Accept": "text/event-stream"}
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        async with http.stream("GET", self.url, headers=headers) as response:
            if response.status_code != 200:
                self.note(Seen("refused", "", response.status_code))
                return
            for channel in self.channels:
                self.note(Seen("joined", channel))
            fields: dict[str, str] = {}
            rest = b""
            async for chunk in response.aiter_raw():
                # Not aiter_lines: it splits at U+2028 too, which SSE does not.
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    name, _, value = line.decode("utf-8").partition(":")
                    if line:
                        fields[name] = value.removeprefix(" ")
                    else:
                        self._dispatch(fields)
                        fields = {}

    def _dispatch(self, fields: dict[str, str]) -> None:
        self.cursor = fields.get("id", self.cursor)
        if fields.get("retry"):
            self.retry_ms = int(fields["retry"])
        if "data" not in fields:
            return
        told = json.loads(fields["data"])
        match fields.get("event"):
            case None:
                channel, pub = told["channel"], told["pub"]
                epoch = _epoch(self.cursor, channel)
                skipped = pub.get("skipped", 0)
                self.note(Seen("event", channel, pub["offset"], pub["data"], epoch, skipped))
            case "gap":
                at = told["position"]
                self.note(Seen("gap", told["channel"], at["offset"], told["reason"], at["epoch"]))
            case event:
                self.note(Seen(event, "", told.get("code", 0), told))


@contextlib.asynccontextmanager
async def joined(readers: list[Reader]) -> AsyncIterator[list[Reader]]:
    """Open several readers at once; all of them have joined inside, and are closed after."""
    try:
        await asyncio.gather(*(reader.open() for reader in readers))
        await asyncio.gather(*(reader.joined() for reader in readers))
        yield readers
    finally:
        ends = await asyncio.gather(*(r.close() for r in readers), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
