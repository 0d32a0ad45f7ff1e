"""Kills (-9), restarts and shutdowns under traffic: nothing is lost, doubled or reordered."""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from signal import SIGTERM

import pytest

from clients import AsyncPublisher
from tests.history_check import Kind, Report, check

from .broken_hub import BROKEN
from .processes import HubProcess, Place
from .readers import (
    FeedReader,
    NodeEventSource,
    NodeSubscriber,
    OfficialSubscriber,
    OurSubscriber,
    Reader,
    joined,
)
from .traffic import Sent, Traffic, history_of

StartHub = Callable[..., Awaitable[HubProcess]]
CHANNELS = ("f:0", "f:1")
KILLS = 20
#: Those that come back within a fraction of a second; a plain EventSource waits 1 to 3 s.
QUICK = (NodeSubscriber, OfficialSubscriber, OurSubscriber, FeedReader)


#: What the checker finds of a hub that is broken so.
EXPECTED = {
    "nothing": set(),
    "drop": {Kind.LOST, Kind.SILENT_GAP},
    "double": {Kind.DUPLICATED},
    "swap": {Kind.REORDERED, Kind.SILENT_GAP, Kind.OUT_OF_TURN},
}


def assert_sound(report: Report) -> None:
    """Fail when a promise was broken, or a gap was told though nothing was lost."""
    assert report.findings == [], str(report)
    assert report.told_gaps == 0


def make_readers(hub: HubProcess, place: Place, node: str) -> list[Reader]:
    """Return two readers of every kind."""
    return [
        reader
        for _ in range(2)
        for reader in (
            NodeSubscriber(place, node, hub.ws_url, *CHANNELS),
            OfficialSubscriber(hub.ws_url, *CHANNELS),
            OurSubscriber(hub.url, *CHANNELS),
            NodeEventSource(place, node, hub.url, *CHANNELS),
            FeedReader(hub.url, *CHANNELS),
        )
    ]


class Recovery:
    """Measures how long readers wait, after a fault, for an event published after it."""

    def __init__(self, traffic: Traffic, readers: Sequence[Reader]) -> None:
        self._traffic = traffic
        self._readers = [reader for reader in readers if isinstance(reader, QUICK)]
        self.seconds: list[float] = []

    async def wait(self, began: float, mark: list[int]) -> None:
        """Return when every quick reader got such an event; note how long each waited."""
        await asyncio.gather(*(self._wait(reader, began, mark) for reader in self._readers))

    async def _wait(self, reader: Reader, began: float, mark: list[int]) -> None:
        first = len(reader.seen)

        def came() -> bool:
            # What came before was looked at; later events are more likely at the end.
            nonlocal first
            for at in range(first, len(reader.seen)):
                seen = reader.seen[at]
                if seen.kind == "event" and self._traffic.is_after(mark, seen.data):
                    self.seconds.append(reader.times[at] - began)
                    return True
            first = len(reader.seen)
            return False

        await reader.until(came, "an event that was published after a fault")

    def __str__(self) -> str:
        return f"p50 {statistics.median(self.seconds):.2f} s, max {max(self.seconds):.2f} s"


async def caught_up(traffic: Traffic, readers: Sequence[Reader]) -> None:
    """Publish once more on every channel, and return when every reader got that."""
    async with Traffic(traffic.url, *CHANNELS, count=1, name="end") as end:
        await end.flow(len(CHANNELS))
    tops = traffic.tops() | end.tops()
    traffic.sent += end.sent
    for reader in readers:
        for channel in CHANNELS:
            await reader.until(
                lambda reader=reader, channel=channel: any(
                    seen.offset >= tops[channel]
                    for seen in reversed(reader.seen)
                    if seen.channel == channel and seen.kind in {"event", "gap"}
                ),
                f"{channel}:{tops[channel]}",
            )


async def test_nothing_is_lost_when_hub_and_valkey_are_killed_twenty_times_each(
    hub: HubProcess, place: Place, node: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten readers and four publishers live through forty kills; the checker finds nothing.

    The readers of a killed hub come back from their positions; whoever publishes tries again
    with the same key. A told gap would be no lie, but there is no reason for one either: what
    was acknowledged is in the append-only file.
    """
    now = asyncio.get_running_loop().time
    async with joined(make_readers(hub, place, node)) as readers:
        async with Traffic(hub.url, *CHANNELS) as traffic:
            valkey_kills, hub_kills = Recovery(traffic, readers), Recovery(traffic, readers)
            for _ in range(KILLS):
                await traffic.flow(60)
                began, mark = now(), traffic.mark()
                former = await hub.kill_valkey()
                await hub.valkey_back(former)
                await valkey_kills.wait(began, mark)
                await traffic.flow(60)
                began, mark = now(), traffic.mark()
                await hub.restart()
                await hub_kills.wait(began, mark)
        await caught_up(traffic, readers)
    report = check(history_of(traffic.sent, readers))
    with capsys.disabled():
        sys.stdout.write(
            f"\nValkey and the hub, each killed {KILLS} times:\n{report}\n"
            f"  back after Valkey was killed: {valkey_kills}; after the hub was: {hub_kills}\n"
        )
    assert_sound(report)
    assert report.acked > 100 * KILLS


async def test_a_shutdown_tells_the_clients_and_loses_nothing(
    hub: HubProcess, place: Place, node: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM under traffic: status 0, code 3001, ``event: close``, and no event is missing."""
    now = asyncio.get_running_loop().time
    async with joined(make_readers(hub, place, node)) as readers:
        async with Traffic(hub.url, *CHANNELS) as traffic:
            recovery = Recovery(traffic, readers)
            for _ in range(3):
                await traffic.flow(60)
                began, mark = now(), traffic.mark()
                assert await hub.stop(SIGTERM) == 0
                assert place.pids().keys() <= {
                    reader.program.pid
                    for reader in readers
                    if isinstance(reader, NodeSubscriber | NodeEventSource)
                }
                await hub.start()
                await recovery.wait(began, mark)
        await caught_up(traffic, readers)
    report = check(history_of(traffic.sent, readers))
    with capsys.disabled():
        sys.stdout.write(f"\nThree shutdowns:\n{report}\n  back: {recovery}\n")
    assert_sound(report)
    for reader in readers:
        if isinstance(reader, NodeSubscriber):
            assert [seen.offset for seen in reader.of("connecting")[1:]] == [3001] * 3
        if isinstance(reader, NodeEventSource | FeedReader):
            assert {seen.offset for seen in reader.of("close")} == {3001}


@pytest.mark.parametrize("how", BROKEN)
async def test_the_checker_notices_a_broken_hub(
    start_hub: StartHub, place: Place, node: str, how: str
) -> None:
    """A hub that drops, doubles or swaps publications turns the verdict red, a sound one not."""
    command = (sys.executable, "-m", "tests.e2e.broken_hub", how)
    hub = await start_hub(command=command)
    kinds = [
        NodeSubscriber(place, node, hub.ws_url, "f:0"),
        OfficialSubscriber(hub.ws_url, "f:0"),
        FeedReader(hub.url, "f:0"),
    ]
    async with joined(kinds) as readers, AsyncPublisher(hub.url) as publisher:
        sent = []
        for number in range(42):
            id_ = f"p0-{number}"
            position = await publisher.publish("f:0", {"id": id_})
            sent.append(Sent(id_, "f:0", position))
        for reader in readers:
            await reader.until(lambda reader=reader: reader.data()[-1:] == [{"id": "p0-41"}])
    for reader in readers:
        found = {finding.kind for finding in check(history_of(sent, [reader])).findings}
        assert found == EXPECTED[how], reader.kind
