"""Server-sent events: one channel, 1,000 event streams, one message at a time.

The same servers' WebSockets run in the same rounds, so that both ways can be compared.

    python -m benchmarks.bench_sse [--rounds 5] [--seconds 3] [--peers nchan]

Prints a table and writes benchmarks/results/sse.json.
"""

from __future__ import annotations

from .harness.fan_out import fan_out
from .harness.scenario import Case, Scenario, run_scenario

SCENARIO = Scenario(
    name="sse",
    what="SSE fan-out, one channel, 200-byte messages",
    unit="deliveries/s",
    cases=[
        Case("1,000 streams, one at a time", lambda running: fan_out(running, 1_000, sse=True)),
        Case(
            "1,000 streams, ten on their way",
            lambda running: fan_out(running, 1_000, window=10, sse=True),
        ),
        Case("1,000 WebSockets, one at a time", lambda running: fan_out(running, 1_000)),
    ],
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
