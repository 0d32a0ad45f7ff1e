"""Idle memory of a WebSocket connection: authenticated, subscribed to one channel, pinged.

Resident memory is read twice, with 1,000 connections and with 5,000, and the difference is
divided by 4,000: what a process needs before, and for its first clients, is not counted.

    python -m benchmarks.bench_memory [--rounds 3] [--seconds 6] [--peers nchan,ws]

``--seconds`` is how long connections are held before the second reading. The hub pings every
two seconds here, so that each connection was pinged. Prints a table and writes
benchmarks/results/memory.json.
"""

from __future__ import annotations

import time

from .harness.fanwire_hub import FanwireHub
from .harness.load_client import Group, Load, held
from .harness.processes import resident_bytes, tree
from .harness.scenario import Case, NotOffered, Running, Sample, Scenario, run_scenario

FIRST = 1_000
MORE = 4_000
PING_S = 2


def measure(running: Running) -> Sample:
    """Return the bytes that each further connection costs the server's processes."""
    subscribe = running.endpoint.ws
    if subscribe is None:
        raise NotOffered("it offers no WebSocket")
    pids, core = running.endpoint.pids, running.cores.client
    if not pids:
        raise NotOffered("its processes are not known")
    with held(Load(groups=[Group(subscribe, FIRST)]), running.port, core):
        time.sleep(running.seconds / 2)
        before = resident_bytes(tree(*pids))
        with held(Load(groups=[Group(subscribe, MORE)]), running.port, core):
            time.sleep(running.seconds)
            after = resident_bytes(tree(*pids))
    details = {"resident_bytes_1000": float(before), "resident_bytes_5000": float(after)}
    return Sample((after - before) / MORE, details)


SCENARIO = Scenario(
    name="memory",
    what="resident memory of an idle WebSocket, subscribed to one channel",
    unit="bytes (less is better)",
    cases=[Case("1,001st to 5,000th connection", measure)],
    hubs=lambda redis_core: [
        FanwireHub(
            redis_core=redis_core,
            authenticated=True,
            settings={"FANWIRE_PING_INTERVAL_S": str(PING_S), "FANWIRE_PONG_TIMEOUT_S": "1.5"},
        )
    ],
    with_limit=False,  # it keeps nothing but a number of each
    seconds=6,
    settings={"hub": "token checked at connect, history and recovery on", "ping_s": PING_S},
)


if __name__ == "__main__":
    run_scenario(SCENARIO)
