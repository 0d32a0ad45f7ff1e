"""WebSocket fan-out: one channel, 1,000 and 5,000 connections, one message at a time.

    python -m benchmarks.bench_fanout [--rounds 5] [--seconds 3] [--peers nchan,ws]

Prints a table and writes benchmarks/results/fanout.json.
"""

from __future__ import annotations

from .harness.fan_out import fan_out
from .harness.scenario import Case, Scenario, run_scenario

SCENARIO = Scenario(
    name="fanout",
    what="WebSocket fan-out, one channel, 200-byte messages one at a time",
    unit="deliveries/s",
    cases=[
        Case("1,000 connections", lambda running: fan_out(running, 1_000)),
        Case("5,000 connections", lambda running: fan_out(running, 5_000)),
    ],
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
