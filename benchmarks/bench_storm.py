"""A storm: 10,000 WebSockets are cut at once, miss messages, come back and recover them.

    python -m benchmarks.bench_storm [--rounds 3]

The figure is the time from the first SYN until every connection has everything it missed.
Prints a table and writes benchmarks/results/storm.json.
"""

from __future__ import annotations

from .harness.load_client import Group, Load
from .harness.scenario import Case, NotOffered, Running, Sample, Scenario, run_scenario

CONNECTIONS = 10_000
MISSED = 20
#: Handshakes at a time. Clients come back within seconds of each other, with jitter; more at
#: once would overflow the listening queue, and the kernel's second of retransmission with it.
CONCURRENCY = 500


def measure(running: Running) -> Sample:
    """Cut, publish, reconnect, recover."""
    subscribe = running.endpoint.ws
    if subscribe is None or not subscribe.recover:
        raise NotOffered("it offers no recovery")
    result = running.load(
        Load(
            groups=[Group(subscribe, CONNECTIONS)],
            publish=running.endpoint.publish,
            concurrency=CONCURRENCY,
            storm=MISSED,
            patience_s=30,
        )
    )
    return Sample.of_load(
        result.seconds,
        result,
        rejoin_s=result.rejoin_s,
        connections_per_s=CONNECTIONS / result.seconds,
    )


SCENARIO = Scenario(
    name="storm",
    what="10,000 WebSockets reconnect and recover 20 messages each, 500 at a time",
    unit="seconds (less is better)",
    cases=[Case("10,000 connections", measure)],
    with_limit=False,
    settings={"connections": CONNECTIONS, "missed": MISSED, "concurrency": CONCURRENCY},
    columns=("connections_per_s",),
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
