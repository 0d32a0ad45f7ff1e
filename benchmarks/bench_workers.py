"""One worker and two: WebSocket fan-out, 2,000 connections on one channel.

Both hubs may use both cores, which they share with the load client and Redis: a second worker
gains what those leave. The load client's idle time says how much room there was.

    python -m benchmarks.bench_workers [--rounds 5] [--seconds 3]

Prints a table and writes benchmarks/results/workers.json.
"""

from __future__ import annotations

from .harness.fan_out import fan_out
from .harness.fanwire_hub import FanwireHub
from .harness.scenario import Case, Scenario, run_scenario

CONNECTIONS = 2_000

SCENARIO = Scenario(
    name="workers",
    what="WebSocket fan-out with two workers and with one, 2,000 connections, one channel",
    unit="deliveries/s",
    cases=[
        Case("one at a time", lambda running: fan_out(running, CONNECTIONS)),
        Case("ten on their way", lambda running: fan_out(running, CONNECTIONS, window=10)),
    ],
    hubs=lambda redis_core: [
        FanwireHub("fanwire, 2 workers", redis_core=redis_core, settings={"FANWIRE_WORKERS": "2"}),
        FanwireHub("fanwire, 1 worker", redis_core=redis_core),
    ],
    with_limit=False,
    with_peers=False,
    spread=True,
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
