"""New connections a second: from the SYN to the reply to the subscription, 5,000 WebSockets.

    python -m benchmarks.bench_accept [--rounds 5] [--peers nchan,ws]

Prints a table and writes benchmarks/results/accept.json.
"""

from __future__ import annotations

from .harness.load_client import Group, Load
from .harness.scenario import Case, NotOffered, Running, Sample, Scenario, run_scenario

CONNECTIONS = 5_000
#: Handshakes at a time: servers are never idle, and no listening queue overflows.
CONCURRENCY = 100


def measure(running: Running) -> Sample:
    """Connect all, so many at a time."""
    if running.endpoint.ws is None:
        raise NotOffered("it offers no WebSocket")
    group = Group(running.endpoint.ws, CONNECTIONS)
    result = running.load(Load(groups=[group], concurrency=CONCURRENCY))
    return Sample(CONNECTIONS / result.connect_s, {"connect_s": result.connect_s})


SCENARIO = Scenario(
    name="accept",
    what="WebSockets accepted and subscribed a second, 5,000 of them, 100 at a time",
    unit="connections/s",
    cases=[Case("5,000 connections", measure)],
    settings={"connections": CONNECTIONS, "concurrency": CONCURRENCY},
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
