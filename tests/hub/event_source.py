"""An EventSource as the HTML standard describes it: parses, remembers the last id, reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import msgspec

__all__ = ["Event", "EventSource", "listening"]


class Event(NamedTuple):
    """One dispatched event."""

    type: str
    data: str
    id: str

    @property
    def json(self) -> Any:
        """The data, decoded."""
        return msgspec.json.decode(self.data)

    @property
    def offset(self) -> int:
        """The offset of a publication."""
        offset: int = self.json["pub"]["offset"]
        return offset


class EventSource:
    """One response, read event by event."""

    def __init__(self, response: httpx.Response, last_id: str = "") -> None:
        self.response = response
        self.last_id = last_id
        self.retry_ms: int | None = None
        self.comments = 0
        self._events = self._parse()

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines; CR, LF and CRLF end one, and no other character does."""
        rest = b""
        async for chunk in self.response.aiter_bytes():
            *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                yield line.decode("utf-8")

    async def _parse(self) -> AsyncIterator[Event]:
        kind, data, buffer_id = "message", [], self.last_id
        async for line in self.lines():
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "":
                self.last_id = buffer_id
                if data and kind != "start":  # nobody listens to that one
                    yield Event(kind, "\n".join(data), buffer_id)
                kind, data = "message", []
            elif field == "":
                self.comments += 1
            elif field == "data":
                data.append(value)
            elif field == "event":
                kind = value
            elif field == "id" and "\0" not in value:
                buffer_id = value
            elif field == "retry" and value.isdecimal():
                self.retry_ms = int(value)

    async def next(self) -> Event:
        """Return the next event; fails the test when none comes."""
        async with asyncio.timeout(10):
            return await anext(self._events)

    async def take(self, count: int) -> list[Event]:
        """Return the next ``count`` events."""
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[Event]:
        """Return what comes until the stream ends."""
        async with asyncio.timeout(10):
            return [event async for event in self._events]


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, *channels: str, last_id: str = "", **headers: str
) -> AsyncIterator[EventSource]:
    """Open a feed of ``channels``, as a browser does."""
    sent = {"Accept": "text/event-stream", **headers}
    if last_id:
        sent["Last-Event-ID"] = last_id
    params = [("channel", channel) for channel in channels]
    async with client.stream("GET", "/events", params=params, headers=sent) as response:
        yield EventSource(response, last_id)
