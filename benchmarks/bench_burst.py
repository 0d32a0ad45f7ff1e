"""WebSocket fan-out with ten messages on their way: one channel, 1,000 connections.

    python -m benchmarks.bench_burst [--rounds 5] [--seconds 3] [--peers nchan,ws]

Prints a table and writes benchmarks/results/burst.json.
"""

from __future__ import annotations

from .harness.fan_out import fan_out
from .harness.scenario import Case, Scenario, run_scenario

WINDOW = 10

SCENARIO = Scenario(
    name="burst",
    what="WebSocket fan-out, one channel, 200-byte messages, ten on their way at a time",
    unit="deliveries/s",
    cases=[Case("1,000 connections", lambda running: fan_out(running, 1_000, window=WINDOW))],
    settings={"window": WINDOW},
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
