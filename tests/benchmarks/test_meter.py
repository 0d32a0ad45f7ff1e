"""The meter counts what the load client counts, and costs come with what was counted."""

from __future__ import annotations

import pytest

from benchmarks.bench_redis_costs import Valkey, appending
from benchmarks.harness.cores import Cores
from benchmarks.harness.fanwire_hub import FanwireHub
from benchmarks.harness.load_client import Group, Load, run_load
from benchmarks.harness.meter import Meter
from benchmarks.harness.ports import free_port
from benchmarks.harness.scenario import Running

CONNECTIONS = 20


def test_the_meter_counts_what_the_load_client_counts() -> None:
    """Publications and deliveries are the same on both sides; walks are no more than these."""
    port = free_port()
    with FanwireHub().running(port, None) as endpoint:
        assert endpoint.ws is not None
        meter = Meter(port, endpoint.publish.port)
        before = meter.read()
        load = Load(
            groups=[Group(endpoint.ws, CONNECTIONS)],
            publish=endpoint.publish,
            window=10,
            seconds=0.3,
            warm_up_s=0.1,
        )
        result = run_load(load, port)
        meter.wait("fanwire_deliveries_total", result.received)
        used = meter.since(before)
    assert used.deliveries == result.received > 0
    assert used.publications == result.published
    assert 0 < used.walks <= used.publications
    assert used.delivered_bytes > 200 * used.deliveries
    assert 0 < used.hub_s < used.seconds
    assert used.redis_s > 0
    assert used.resident_bytes > 1e6


@pytest.mark.parametrize(("publishers", "window", "turns"), [(1, 1, 1.0), (1, 16, 1 / 16)])
def test_what_redis_did_is_counted(publishers: int, window: int, turns: float) -> None:
    """One request a turn costs a turn each; sixteen sent together share one."""
    with Valkey().running(0, None) as endpoint:
        running = Running(endpoint, 0, Cores(None, None), 0.2)
        sample = appending(running, 2, publishers, window)
    found = sample.details
    assert found["turns_per_publication"] == pytest.approx(turns, rel=0.5)
    # Request, reply, and a message to each of two nodes.
    assert found["socket_calls_per_publication"] >= 4 / window * 0.9
    assert found["redis_us_per_publication"] == sample.value > 0
    assert found["log_bytes_per_publication"] > 200
