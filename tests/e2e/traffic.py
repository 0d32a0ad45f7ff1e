"""Publishers that never stop while a test breaks things, and the history of what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple, Self

from channels.errors import FanwireError, HubOutcomeUnknown
from channels.position import Position
from clients import AsyncPublisher
from clients.backoff import Backoff, Patience
from tests.history_check import History
from tests.servers import PATIENCE_S

from .readers import Reader

__all__ = ["Sent", "Traffic", "history_of"]

#: Tries come quickly, because a test has no thousand publishers to spread; a call gives up
#: before most outages are over, so that unknown outcomes occur.
PATIENCE = Patience(deadline_s=4.0, try_timeout_s=1.0, make_backoff=lambda: Backoff(0.02, 0.2))


class Sent(NamedTuple):
    """One publication: ``outcome`` is its position, ``unknown``, or ``failed``."""

    id: str
    channel: str
    outcome: Position | str


class Traffic:
    """``count`` publishers, each one event after the other on all channels in turn."""

    def __init__(
        self, url: str, *channels: str, count: int = 4, pause_s: float = 0.01, name: str = "p"
    ) -> None:
        self.url = url
        self._channels = channels
        self._count = count
        self._pause_s = pause_s
        self._name = name
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self.sent: list[Sent] = []
        #: How many of them were acknowledged.
        self.acknowledged = 0
        #: How many events each publisher has begun to send.
        self.begun = [0] * count

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._publish(which)) for which in range(self._count)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let every publisher finish what it sends, and end."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _publish(self, which: int) -> None:
        async with AsyncPublisher(self.url, patience=PATIENCE) as publisher:
            series = 0
            while not self._stop.is_set():
                number = self.begun[which]
                self.begun[which] += 1
                id_ = f"{self._name}{which}.{series}-{number}"
                channel = self._channels[number % len(self._channels)]
                outcome: Position | str
                try:
                    outcome = await publisher.publish(channel, {"id": id_}, idempotency_key=id_)
                except HubOutcomeUnknown:
                    outcome = "unknown"
                    # It may still be executed, after what comes next: that is another series.
                    series += 1
                except FanwireError:
                    outcome = "failed"
                self.sent.append(Sent(id_, channel, outcome))
                self.acknowledged += isinstance(outcome, Position)
                self._news.set()
                await asyncio.sleep(self._pause_s)  # the pace of the traffic, waiting for nothing

    async def flow(self, count: int) -> None:
        """Return when ``count`` more events were acknowledged."""
        wanted = self.acknowledged + count
        async with asyncio.timeout(PATIENCE_S):
            while self.acknowledged < wanted:
                await self._news.wait()
                self._news.clear()

    def mark(self) -> list[int]:
        """Return what :meth:`is_after` compares with: now."""
        return list(self.begun)

    def is_after(self, mark: list[int], data: Any) -> bool:
        """Tell whether an event was sent after ``mark``."""
        producer, _, number = data["id"].removeprefix(self._name).partition("-")
        return int(number) >= mark[int(producer.partition(".")[0])]

    def tops(self) -> dict[str, int]:
        """Return the highest acknowledged offset of each channel."""
        tops: dict[str, int] = {}
        for sent in self.sent:
            if isinstance(sent.outcome, Position):
                tops[sent.channel] = max(tops.get(sent.channel, 0), sent.outcome.offset)
        return tops


def history_of(sent: Iterable[Sent], readers: Iterable[Reader]) -> History:
    """Return what publishers were told and readers received, for the checker to judge.

    The readers joined before the first publication, so they owe everything.
    """
    history = History()
    for one in sent:
        history.call(one.id, one.channel)
        match one.outcome:
            case Position(epoch, offset):
                history.ok(one.id, (epoch, offset))
            case "failed":
                history.fail(one.id)
            case _:
                history.unknown(one.id)
    for number, reader in enumerate(readers):
        client = f"{reader.kind} {number}"
        for seen in reader.seen:
            if seen.kind == "event":
                id_ = seen.data["id"]
                place = (seen.channel, seen.epoch, seen.offset)
                history.received(client, *place, id_, seen.skipped)
            elif seen.kind == "gap":
                history.gap(client, seen.channel)
    return history
