"""What each part of the way of a message costs: processor time of hub and Redis, memory.

Unlike the other benchmarks this one asks not how fast, but how much processor time: of the
hub, by its own ``/metrics``, for rooms of several sizes, with one message on its way and with
more; for connecting, subscribing, and doing nothing. ``benchmarks.capacity`` fits its model
on the figures.

    python -m benchmarks.bench_costs [--rounds 5] [--seconds 2]

Prints a table and writes benchmarks/results/costs.json.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial

from benchmarks.peers import CHANNEL_DIGITS, Subscribe
from services.follower import FollowerSettings

from .harness.fanwire_hub import FanwireHub
from .harness.load_client import Group, Load, LoadResult, held
from .harness.meter import Meter
from .harness.ports import free_port
from .harness.scenario import Case, NotOffered, Running, Sample, Scenario, run_scenario

_US = 1e6
#: For idle connections, shorter than in production, so that seconds of idling have pings in
#: them. Where messages are delivered it is that of production, and pings hardly count.
PING_S = 5
#: The follower compares each channel with its log this often: a span of idling has one of
#: these, and two pings.
COMPARE_S = FollowerSettings().compare_every_s
_WARM_UP_S = 0.5
#: Seconds in which a hub without connections is looked at, for what it uses anyway.
BASE_S = 2.0
FIRST = 500
CONNECTIONS = 2_000
MANY = 10


def delivering(
    running: Running,
    connections: int,
    *,
    channels: int = 1,
    window: int = 1,
    rate_per_s: float = 0,
    sse: bool = False,
) -> Sample:
    """Measure processor time a publication, with so many on their way, or so many a second."""
    subscribe = running.endpoint.sse if sse else running.endpoint.ws
    publish = running.endpoint.publish
    if subscribe is None:
        raise NotOffered("it offers no such stream")
    meter = Meter(running.port, publish.port)
    before = meter.read()["fanwire_publications_total"]
    load = Load(
        groups=[Group(subscribe, connections, sse=sse)],
        publish=publish,
        channels=channels,
        window=window,
        rate_per_s=rate_per_s,
        concurrency=200,
        warm_up_s=0.2,
        seconds=running.seconds + 2 * _WARM_UP_S,
    )
    results: list[LoadResult] = []
    thread = threading.Thread(target=lambda: results.append(running.load(load)))
    thread.start()
    try:
        meter.wait("fanwire_publications_total", before + 2)
        time.sleep(_WARM_UP_S)
        used = meter.over(running.seconds)
    finally:
        thread.join()
    if not results or not used.publications:
        raise RuntimeError("expected publications to reach the hub; the load client failed")
    return Sample(
        used.hub_s * _US / used.publications,
        {
            "hub_us_per_publication": used.hub_s * _US / used.publications,
            "redis_us_per_publication": used.redis_s * _US / used.publications,
            "publications_per_walk": used.publications / used.walks,
            "deliveries_per_publication": used.deliveries / used.publications,
            "bytes_per_delivery": used.delivered_bytes / used.deliveries,
            "publications_per_s": used.publications / used.seconds,
            "hub_utilisation": used.hub_s / used.seconds,
            "client_idle": results[0].client_idle,
        },
        results[0].errors,
    )


def holding(running: Running, subscriptions: int) -> Sample:
    """Measure processor time and memory of connections that come, and of those that stay.

    In a hub of their own, whose memory nobody used before, and which pings often.
    """
    settings = {"FANWIRE_PING_INTERVAL_S": str(PING_S), "FANWIRE_PONG_TIMEOUT_S": "4"}
    hub = FanwireHub(redis_core=running.cores.client, many_channels=True, settings=settings)
    port, core = free_port(), running.cores.client
    with hub.running(port, running.cores.server) as endpoint:
        assert endpoint.ws is not None
        subscribe = _subscribing(endpoint.ws, subscriptions)
        meter = Meter(port, endpoint.publish.port)
        alone = meter.over(BASE_S)
        # What the process needs for its first clients is not counted.
        with held(Load(groups=[Group(subscribe, FIRST)], channels=FIRST), port, core):
            start = meter.read()
            load = Load(groups=[Group(subscribe, CONNECTIONS)], channels=CONNECTIONS)
            with held(load, port, core):
                joined = meter.since(start)
                time.sleep(1)
                idle = meter.over(COMPARE_S)
    connections = float(CONNECTIONS)
    hub_s, redis_s = (
        (busy / idle.seconds - busy_alone / alone.seconds) / (connections + FIRST)
        for busy, busy_alone in ((idle.hub_s, alone.hub_s), (idle.redis_s, alone.redis_s))
    )
    return Sample(
        joined.hub_s * _US / connections,
        {
            "subscriptions": float(subscriptions),
            "hub_us_per_connection": joined.hub_s * _US / connections,
            "redis_us_per_connection": joined.redis_s * _US / connections,
            "bytes_per_connection": (
                (idle.resident_bytes - start["fanwire_process_resident_memory_bytes"]) / connections
            ),
            "idle_hub_us_per_connection_s": hub_s * _US,
            "idle_redis_us_per_connection_s": redis_s * _US,
        },
    )


def _subscribing(subscribe: Subscribe, subscriptions: int) -> Subscribe:
    """Return how a connection subscribes to so many channels of its own."""
    connect, first = subscribe.hello
    commands = [
        first.replace(CHANNEL_DIGITS, f"{CHANNEL_DIGITS}-{number}").replace(
            '"id":2', f'"id":{number + 2}'
        )
        for number in range(subscriptions)
    ]
    ready = f'{{"id":{subscriptions + 1},"subscribe"'
    # In one message, as the official clients send what they have to say at once.
    return replace(subscribe, hello=(connect, "\n".join(commands)), ready=ready, recover=())


#: Connections to one channel, and messages on their way.
_WINDOWS = ((1, 1), (10, 1), (100, 1), (1_000, 1), (1_000, 3), (1_000, 10), (10_000, 1))


def _cases() -> list[Case]:
    cases = [Case(f"idle, {n} channels each", partial(holding, subscriptions=n)) for n in (MANY, 1)]
    cases += [
        Case(f"WebSocket, 1 x {n}, window {w}", partial(delivering, connections=n, window=w))
        for n, w in _WINDOWS
    ]
    cases += [
        Case(f"SSE, 1 x {n}, window {w}", partial(delivering, connections=n, window=w, sse=True))
        for n, w in ((100, 1), (1_000, 1), (1_000, 10))
    ]
    cases += [
        Case(
            f"WebSocket, {rooms} x {n}, window {w}",
            partial(delivering, connections=rooms * n, channels=rooms, window=w),
        )
        for rooms, n, w in ((1_000, 1, 1), (1_000, 1, 200), (400, 5, 100))
    ]
    # The model is not fitted on these; it is checked with them.
    return [
        *cases,
        Case(
            "check, 10,000 connections on 2,000 channels, window 100",
            partial(delivering, connections=10_000, channels=2_000, window=100),
        ),
        Case(
            "check, 3,000 connections on 1,000 channels, 2,000 messages/s",
            partial(delivering, connections=3_000, channels=1_000, rate_per_s=2_000),
        ),
    ]


SCENARIO = Scenario(
    name="costs",
    what="processor time of the hub a publication, or a connection, 200-byte messages",
    unit="hub CPU, us",
    cases=_cases(),
    hubs=lambda redis_core: [FanwireHub(redis_core=redis_core, many_channels=True)],
    with_limit=False,
    with_peers=False,
    seconds=2,
    settings={"ping_s": PING_S, "compare_s": COMPARE_S},
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
