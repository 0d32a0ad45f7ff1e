"""What readers that stopped reading cost those who go on: nothing, it should be.

The paced load of ``bench_paced``: 1,000 WebSockets, 50 messages a second. Beside them nobody,
or 200 subscribers of the same channel whose queues in the hub are half full and grow.

    python -m benchmarks.bench_stalled [--rounds 5] [--seconds 5]

Prints a table and writes benchmarks/results/stalled.json.
"""

from __future__ import annotations

from functools import partial

from . import bench_paced
from .harness.scenario import Case, Running, Sample, Scenario, run_scenario
from .harness.stalled import stalled

STALLED = 200


def measure(running: Running, *, beside: int) -> Sample:
    """Measure the latency of those who read."""
    with stalled(running.endpoint, running.port, beside):
        return bench_paced.measure(running)


SCENARIO = Scenario(
    name="stalled",
    what="latency of 1,000 WebSockets at 50 messages a second beside readers that stopped",
    unit="p99, ms (less is better)",
    cases=[
        Case("nobody stalls", partial(measure, beside=0)),
        Case(f"{STALLED} readers stopped", partial(measure, beside=STALLED)),
    ],
    with_limit=False,
    with_peers=False,
    seconds=5,
    settings={"rate_per_s": bench_paced.RATE_PER_S, "connections": bench_paced.CONNECTIONS},
    columns=("p50_ms", "p999_ms", "max_ms"),
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
