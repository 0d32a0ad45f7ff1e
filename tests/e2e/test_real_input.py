"""Real input through real processes, published and received by the clients people use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable

import cent
import httpx
import pytest
from playwright.async_api import async_playwright, expect

from clients import AsyncPublisher
from tests.faults import FaultProxy

from .processes import ROOT, HubProcess, Place, Program, eventually
from .readers import (
    FeedReader,
    NodeEventSource,
    NodeSubscriber,
    OfficialSubscriber,
    OurSubscriber,
    Reader,
    joined,
)

StartHub = Callable[..., Awaitable[HubProcess]]
FANWIRE = (sys.executable, "-m", "hub.cli")
#: Quiet and quick; --no-sandbox because tests may run as root.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def a_log() -> list[str]:
    """Return the lines of this repository's log, or of a long file where there is none."""
    done = subprocess.run(
        ["git", "log", "--stat"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    text = done.stdout or (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


async def subscribers(hub: HubProcess, channel: str, count: int) -> None:
    """Return when the hub counts ``count`` subscribers of a channel."""
    async with AsyncPublisher(hub.url) as publisher:

        async def are_counted() -> bool:
            return (await publisher.channels(channel)).get(channel, 0) >= count

        await eventually(are_counted)


async def test_a_log_is_piped_from_one_process_to_another(hub: HubProcess, place: Place) -> None:
    """Every line of ``git log`` arrives once, in order, in ``fanwire tail --json``."""
    lines = a_log()
    tail = Program(
        place, *FANWIRE, "tail", "log", "--json", "--url", hub.url,
        "--count", str(len(lines)), name="tail",
    )  # fmt: skip
    await tail.spawn()
    await subscribers(hub, "log", 1)
    publish = Program(place, *FANWIRE, "publish", "log", "-", "--url", hub.url, name="publish")
    assert await publish.run("".join(f"{line}\n" for line in lines).encode()) == 0
    assert await tail.ended() == 0
    told = [json.loads(line) for line in tail.out]
    assert [json.dumps(each["data"]) for each in told] == [
        json.dumps(_as_published(line)) for line in lines
    ]
    assert [each["offset"] for each in told] == list(range(1, len(lines) + 1))


def _as_published(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return {"line": line}


async def test_a_log_is_seen_on_the_page(start_hub: StartHub, place: Place, chromium: str) -> None:
    """The page shows the lines as they are published, in order, without an error of its own.

    It follows the channels that somebody follows, as the hub's reports name them.
    """
    hub = await start_hub(env={"FANWIRE_NODE_REPORT_S": "0.2"})
    lines = a_log()[:60]  # of more in a moment the page shows a sample
    problems: list[str] = []
    tail = Program(place, *FANWIRE, "tail", "log", "--url", hub.url, name="tail")
    await tail.spawn()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        page = await browser.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: said.type == "error" and problems.append(said.text))
        await page.goto(hub.url)
        await subscribers(hub, "log", 2)
        publish = Program(place, *FANWIRE, "publish", "log", "-", "--url", hub.url)
        numbered = [f"{number:03} {' '.join(line.split())}" for number, line in enumerate(lines)]
        assert await publish.run("".join(f"{line}\n" for line in numbered).encode()) == 0
        await expect(page.get_by_text(numbered[-1]).first).to_be_visible(timeout=15_000)
        shown = await page.locator("body").inner_text()
        await browser.close()
    places = [shown.index(line) for line in numbered[-20:]]
    assert places in (sorted(places), sorted(places, reverse=True))
    assert problems == []


@pytest.fixture
def readers(hub: HubProcess, place: Place, node: str) -> Callable[..., list[Reader]]:
    """Return a function that makes one reader of every kind, for the given channels."""

    def make(*channels: str, base: str = "", ws_url: str = "") -> list[Reader]:
        base, ws_url = base or hub.url, ws_url or hub.ws_url
        return [
            NodeSubscriber(place, node, ws_url, *channels),
            OfficialSubscriber(ws_url, *channels),
            OurSubscriber(base, *channels),
            NodeEventSource(place, node, base, *channels),
            FeedReader(base, *channels),
        ]

    return make


async def test_cent_publishes_and_every_client_receives(
    start_hub: StartHub, place: Place, node: str
) -> None:
    """What ``cent`` publishes is received alike by five clients; its key is checked.

    Publishing, broadcasting, batches and history are those of the official API client.
    """
    hub = await start_hub("--api-key", "key-of-this-test")
    readers = [
        NodeSubscriber(place, node, hub.ws_url, "news", "sport"),
        OfficialSubscriber(hub.ws_url, "news", "sport"),
        OurSubscriber(hub.url, "news", "sport"),
        NodeEventSource(place, node, hub.url, "news", "sport"),
        FeedReader(hub.url, "news", "sport"),
    ]
    async with joined(readers):
        api = cent.AsyncClient(f"{hub.url}/api", api_key="key-of-this-test")
        first = await api.publish(cent.PublishRequest(channel="news", data={"n": 1}))
        await api.broadcast(cent.BroadcastRequest(channels=["news", "sport"], data={"n": 2}))
        batch = await api.batch(
            cent.BatchRequest(
                requests=[
                    cent.PublishRequest(channel="news", data={"n": n, "text": "é😀\u2028"})
                    for n in (3, 4, 5)
                ]
            )
        )
        again = await api.publish(
            cent.PublishRequest(channel="sport", data={"n": 6}, idempotency_key="k")
        )
        same = await api.publish(
            cent.PublishRequest(channel="sport", data={"n": 7}, idempotency_key="k")
        )
        history = await api.history(cent.HistoryRequest(channel="news", limit=100))
        channels = await api.channels(cent.ChannelsRequest())
        info = await api.info(cent.InfoRequest())
        await api.close()
        for reader in readers:
            await reader.received(7)
    assert (first.offset, len(batch.replies)) == (1, 3)
    assert (same.offset, same.epoch) == (again.offset, again.epoch)
    assert [pub.data["n"] for pub in history.publications] == [1, 2, 3, 4, 5]
    assert channels.channels["news"].num_clients == 5
    assert info.nodes[0].num_clients == 5
    for reader in readers:
        assert [data["n"] for data in reader.data("news")] == [1, 2, 3, 4, 5], reader.kind
        assert [data["n"] for data in reader.data("sport")] == [2, 6], reader.kind
        assert reader.data("news")[2]["text"] == "é😀\u2028", reader.kind
        assert [seen.offset for seen in reader.of("event", "news")] == [1, 2, 3, 4, 5]


async def test_what_was_published_while_a_subscriber_was_cut_off_comes_once_in_order(
    hub: HubProcess, readers: Callable[..., list[Reader]]
) -> None:
    """1,000 events on three channels, published while every connection is cut, all arrive.

    Official clients, ours and EventSource resume by themselves; the feeds follow the three
    channels with one composite cursor.
    """
    channels = ("a", "b", "c")
    async with FaultProxy(hub.port) as proxy, AsyncPublisher(hub.url) as publisher:
        base = f"http://127.0.0.1:{proxy.port}"
        ws_url = f"ws://127.0.0.1:{proxy.port}/connection/websocket"
        async with joined(readers(*channels, base=base, ws_url=ws_url)) as all_readers:
            await publisher.publish_many([(channel, 0) for channel in channels])
            for reader in all_readers:
                await reader.received(3)
            proxy.refuse = True
            proxy.cut()
            missed = [(channels[n % 3], n) for n in range(1, 1001)]
            await publisher.publish_many(missed)
            proxy.refuse = False
            for reader in all_readers:
                await reader.received(1003)
            # What is published now comes after it, and nothing else is on its way.
            await publisher.publish_many([(channel, 1001) for channel in channels])
            for reader in all_readers:
                await reader.received(1006)
    for reader in all_readers:
        assert reader.of("gap") == [], reader.kind
        for at, channel in enumerate(channels):
            expected = [0, *(n for n in range(1, 1001) if n % 3 == at), 1001]
            assert reader.data(channel) == expected, (reader.kind, channel)


async def test_a_subscriber_cut_off_before_its_first_event_misses_nothing(
    hub: HubProcess, readers: Callable[..., list[Reader]]
) -> None:
    """Whoever joined and saw nothing yet resumes from where it joined."""
    async with FaultProxy(hub.port) as proxy, AsyncPublisher(hub.url) as publisher:
        base = f"http://127.0.0.1:{proxy.port}"
        ws_url = f"ws://127.0.0.1:{proxy.port}/connection/websocket"
        async with joined(readers("quiet", base=base, ws_url=ws_url)) as all_readers:
            proxy.refuse = True
            proxy.cut()
            for n in range(10):
                await publisher.publish("quiet", n)
            proxy.refuse = False
            for reader in all_readers:
                await reader.received(10)
    for reader in all_readers:
        assert reader.data() == list(range(10)), reader.kind
        assert reader.of("gap") == [], reader.kind


@pytest.mark.parametrize("lost", ["trimmed", "removed", "expired"])
async def test_a_gap_is_told_when_history_was_lost_meanwhile(
    hub: HubProcess, readers: Callable[..., list[Reader]], lost: str
) -> None:
    """``recovered: false``, ``event: gap`` or a Gap comes, and nothing in its place."""
    async with FaultProxy(hub.port) as proxy, AsyncPublisher(hub.url) as publisher:
        base = f"http://127.0.0.1:{proxy.port}"
        ws_url = f"ws://127.0.0.1:{proxy.port}/connection/websocket"
        async with joined(readers("news", base=base, ws_url=ws_url)) as all_readers:
            await publisher.publish("news", "before")
            for reader in all_readers:
                await reader.received(1)
            proxy.refuse = True
            proxy.cut()
            count = 2_100 if lost == "trimmed" else 10  # the log holds 2,000
            await publisher.publish_many([("news", n) for n in range(count)])
            await _lose(hub, lost)
            proxy.refuse = False
            for reader in all_readers:
                await reader.until(lambda reader=reader: reader.of("gap") != [], "a gap")
            await publisher.publish("news", "after")
            for reader in all_readers:
                await reader.until(lambda reader=reader: reader.data()[-1] == "after", "'after'")
    for reader in all_readers:
        assert reader.data()[0] == "before", reader.kind
        assert len(reader.of("gap")) == 1, reader.kind
        # Where a client may have the rest of the log all the same, it comes after the gap.
        assert reader.data()[1:] == ["after"], (reader.kind, reader.seen[:5])


async def _lose(hub: HubProcess, how: str) -> None:
    if how == "removed":
        async with httpx.AsyncClient(base_url=hub.url) as http:
            answer = await http.post("/api/history_remove", json={"channel": "news"})
        assert answer.json() == {"result": {}}
    elif how == "expired":
        async with hub.valkey() as client:
            keys = [key async for key in client.scan_iter("fw:*news*")]
            assert keys
            for key in keys:
                await client.pexpire(key, 1)

            async def are_gone() -> bool:
                return not await client.exists(*keys)

            await eventually(are_gone)
