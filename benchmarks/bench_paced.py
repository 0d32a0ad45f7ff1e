"""Latency at a steady pace: 1,000 WebSockets on one channel, 50 messages a second.

Each message is due at its time, whether or not the ones before have arrived, and latency
counts from then. A server that falls behind has latencies that grow, and they are shown; one
that is more than five seconds behind in the end has failed.

    python -m benchmarks.bench_paced [--rounds 5] [--seconds 5] [--peers nchan,ws]

Prints a table and writes benchmarks/results/paced.json.
"""

from __future__ import annotations

from .harness.load_client import Group, Load
from .harness.scenario import Case, NotOffered, Running, Sample, Scenario, run_scenario

CONNECTIONS = 1_000
RATE_PER_S = 50
#: A server that is further behind at the end has no latency worth a figure.
DRAIN_S = 5


def measure(running: Running) -> Sample:
    """Publish at the pace; the figure is the 99th percentile over all deliveries."""
    if running.endpoint.ws is None:
        raise NotOffered("it offers no WebSocket")
    result = running.load(
        Load(
            groups=[Group(running.endpoint.ws, CONNECTIONS)],
            publish=running.endpoint.publish,
            rate_per_s=RATE_PER_S,
            seconds=running.seconds,
            warm_up_s=1,
            drain_s=DRAIN_S,
        )
    )
    if result.missing:
        raise RuntimeError(
            f"it cannot keep this pace: {result.missing} of {result.published * CONNECTIONS} "
            f"deliveries had not come {DRAIN_S} s after the last message was published"
        )
    latency = result.latency
    if latency is None or not latency.count:
        raise RuntimeError("expected deliveries to take the latency of; there were none")
    return Sample.of_load(
        latency.p99_us / 1000,
        result,
        p50_ms=latency.p50_us / 1000,
        p99_ms=latency.p99_us / 1000,
        p999_ms=latency.p999_us / 1000,
        max_ms=latency.max_us / 1000,
        deliveries_per_s=result.deliveries_per_s,
    )


SCENARIO = Scenario(
    name="paced",
    what="latency of 200-byte messages, 1,000 WebSockets, 50 messages a second",
    unit="p99, ms (less is better)",
    cases=[Case("1,000 connections, 50/s", measure)],
    seconds=5,
    settings={"rate_per_s": RATE_PER_S, "connections": CONNECTIONS},
    columns=("p50_ms", "p999_ms", "max_ms"),
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
