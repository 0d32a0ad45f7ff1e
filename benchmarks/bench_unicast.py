"""A channel for each: 1,000 channels with one WebSocket each, every message through Redis.

The same hub runs once more with a pub/sub loop of redis-py in place of its own subscriber
connection, which shows what reading from Redis costs.

    python -m benchmarks.bench_unicast [--rounds 5] [--seconds 3]

Prints a table and writes benchmarks/results/unicast.json.
"""

from __future__ import annotations

from .harness.ballast import ballast
from .harness.fanwire_hub import FanwireHub
from .harness.load_client import Group, Load
from .harness.scenario import Case, NotOffered, Running, Sample, Scenario, run_scenario

CHANNELS = 1_000
#: Enough that hub and Redis never wait for the load client, and far below any bound.
WINDOW = 500


def measure(running: Running) -> Sample:
    """Publish round-robin over the channels, so many messages on their way at a time."""
    if running.endpoint.ws is None:
        raise NotOffered("it offers no WebSocket")
    result = running.load(
        Load(
            groups=[Group(running.endpoint.ws, CHANNELS)],
            publish=running.endpoint.publish,
            channels=CHANNELS,
            window=WINDOW,
            seconds=running.seconds,
        )
    )
    return Sample.of_load(result.deliveries_per_s, result)


def hubs(redis_core: int | None) -> list[FanwireHub]:
    """Return the hub as it is, and with redis-py's pub/sub."""
    return [
        FanwireHub(redis_core=redis_core, many_channels=True),
        FanwireHub(
            "fanwire, redis-py pub/sub",
            redis_core=redis_core,
            many_channels=True,
            module="benchmarks.redis_py_hub",
        ),
    ]


def measure_with_half_a_core(running: Running) -> Sample:
    """Do the same while something else takes half of the hub's core.

    The script of each message and the load client, on the other core, take longer than the
    hub: with a core to itself it waits for them, whatever reads from Redis.
    """
    with ballast(running.cores.server):
        return measure(running)


SCENARIO = Scenario(
    name="unicast",
    what="unicast through Redis, 1,000 channels with one WebSocket each, 200-byte messages",
    unit="deliveries/s",
    cases=[
        Case("half a core for the hub", measure_with_half_a_core),
        Case("a core for the hub", measure),
    ],
    hubs=hubs,
    with_limit=False,
    with_peers=False,
    settings={"window": WINDOW},
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
