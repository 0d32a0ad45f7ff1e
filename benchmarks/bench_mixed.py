"""Many rooms: 10,000 WebSockets on 2,000 channels, five on each.

    python -m benchmarks.bench_mixed [--rounds 3] [--seconds 3]

Prints a table and writes benchmarks/results/mixed.json.
"""

from __future__ import annotations

from .harness.fanwire_hub import FanwireHub
from .harness.load_client import Group, Load
from .harness.scenario import Case, NotOffered, Running, Sample, Scenario, run_scenario

CONNECTIONS = 10_000
CHANNELS = 2_000
WINDOW = 100


def measure(running: Running) -> Sample:
    """Publish round-robin over the channels, so many messages on their way at a time."""
    subscribe = running.endpoint.ws
    if subscribe is None or not subscribe.many_channels:
        raise NotOffered("it is set up with one channel")
    result = running.load(
        Load(
            groups=[Group(subscribe, CONNECTIONS)],
            publish=running.endpoint.publish,
            channels=CHANNELS,
            concurrency=200,
            window=WINDOW,
            seconds=running.seconds,
        )
    )
    return Sample.of_load(
        result.deliveries_per_s,
        result,
        messages_per_s=result.messages_per_s,
        p99_ms=0.0 if result.latency is None else result.latency.p99_us / 1000,
    )


SCENARIO = Scenario(
    name="mixed",
    what="10,000 WebSockets on 2,000 channels, 200-byte messages through Redis",
    unit="deliveries/s",
    cases=[Case("10,000 connections, 2,000 channels", measure)],
    hubs=lambda redis_core: [FanwireHub(redis_core=redis_core, many_channels=True)],
    with_limit=False,
    settings={"window": WINDOW},
    columns=("messages_per_s", "p99_ms"),
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
