"""What the tests of the event log and of those who follow it share."""

from __future__ import annotations

import asyncio

from channels.catalogue import Channel
from channels.declaration import ChannelDeclaration, History
from channels.position import Position
from channels.publication import Publication, encode_body
from services.event_log import Appended, EventLog, Gap

__all__ = ["RecordingSink", "append", "body", "make_channel"]


def make_channel(name: str = "test:one", *, size: int = 2_000, ttl_s: int = 300) -> Channel:
    """Return an undeclared channel with a history of its own."""
    declaration = ChannelDeclaration("test:{any}", history=History(size=size, ttl_s=ttl_s))
    return Channel(name, declaration, {}, name)


def body(number: int) -> bytes:
    """Return the body of publication ``number``."""
    return encode_body(b'{"n":%d}' % number)


async def append(log: EventLog, channel: Channel, *numbers: int) -> Appended:
    """Append publications whose ids are their numbers; return the last one's place."""
    done = None
    for number in numbers:
        done = await log.append(channel, body(number), id=f"n{number}")
    assert done is not None
    return done


class RecordingSink:
    """Checks the promise at each call: contiguous, in order, once, or told that it is not."""

    def __init__(self) -> None:
        self.position: Position | None = None
        self.publications: list[Publication] = []
        self.gaps: list[tuple[Gap, Position]] = []
        self.faults: list[str] = []
        self.ended = False
        self._told = asyncio.Event()

    @property
    def ids(self) -> list[str]:
        """The ids in the order in which they came."""
        return [publication.id for publication in self.publications]

    @property
    def numbers(self) -> list[int]:
        """The numbers behind the letter of the ids."""
        return [int(id_[1:]) for id_ in self.ids]

    def on_publication(self, publication: Publication) -> None:
        """Take a publication."""
        last = self.position
        if self.ended:
            self.faults.append(f"{publication} after the end")
        if last is not None and publication.position != Position(last.epoch, last.offset + 1):
            self.faults.append(f"{publication} after {last}")
        self.position = publication.position
        self.publications.append(publication)
        self._told.set()

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:
        """Learn of a gap."""
        if self.ended:
            self.faults.append(f"{gap} after the end")
        self.gaps.append((gap, top))
        self.position = top
        self._told.set()

    async def wait_for(
        self, publications: int = 0, *, gaps: int = 0, timeout_s: float = 20
    ) -> None:
        """Return when at least so much was told."""
        async with asyncio.timeout(timeout_s):
            while len(self.publications) < publications or len(self.gaps) < gaps:
                self._told.clear()
                await self._told.wait()

    async def wait_for_id(self, id: str, timeout_s: float = 20) -> None:
        """Return when the publication ``id`` came."""
        async with asyncio.timeout(timeout_s):
            while not self.publications or self.publications[-1].id != id:
                self._told.clear()
                await self._told.wait()
