"""The capacity model: queues as the textbooks have them, costs found again, and clear refusals."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.capacity.costs import Costs, fit_costs
from benchmarks.capacity.least_squares import fit
from benchmarks.capacity.limits import limits_of
from benchmarks.capacity.plan import TARGET, TARGET_P99_MS, WORKLOADS, plan
from benchmarks.capacity.report import as_json, sections
from benchmarks.capacity.results import Results, ResultsError
from benchmarks.capacity.runs import run_paced, run_window
from benchmarks.capacity.sections import replace_sections
from benchmarks.capacity.simulation import Clock, Message, RedisServer, Room, Worker
from benchmarks.capacity.validation import validate

DOC = Path(__file__).parents[2] / "docs" / "capacity.md"
COSTS = Costs(
    turn_us=30.0,
    ingest_us=10.0,
    ws_write_us=7.0,
    ws_more_us=0.5,
    spread_us=0.0,
    sse_write_us=6.0,
    sse_more_us=0.25,
    connect_us=500.0,
    subscribe_us=50.0,
    ping_us=100.0,
    compare_us=8.0,
    redis_turn_us=20.0,
    redis_socket_us=3.0,
    append_us=12.0,
    message_us=0.5,
    redis_connect_us=40.0,
    redis_subscribe_us=10.0,
    redis_compare_us=2.0,
    base_bytes=60e6,
    connection_bytes=5_000.0,
    channel_bytes=2_000.0,
    log_bytes=250.0,
    message_bytes=268.0,
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of measurements that a machine with :data:`COSTS` would give."""
    c = msgspec.structs.replace(COSTS, spread_us=0.75)
    deliveries = {}
    for kind, channels, members, window in (
        ("WebSocket", 1, 1, 1), ("WebSocket", 1, 100, 1), ("WebSocket", 1, 1000, 1),
        ("WebSocket", 1, 1000, 10), ("WebSocket", 1000, 1, 200),
        ("SSE", 1, 1000, 1), ("SSE", 1, 1000, 10),
    ):  # fmt: skip
        batch = window if channels == 1 else 1
        turns = 1 / batch if channels == 1 else 2 / window
        sse = kind == "SSE"
        write, more = (c.sse_write_us, c.sse_more_us) if sse else (c.ws_write_us, c.ws_more_us)
        us = turns * c.turn_us + c.ingest_us
        write += c.spread_us * math.log10(channels * members)
        us += members * (write + (batch - 1) * more) / batch
        deliveries[f"{kind}, {channels} x {members}, window {window}"] = {
            "hub_us_per_publication": us,
            "publications_per_walk": batch,
            "bytes_per_delivery": c.message_bytes,
        }
    for n in (1, 10):
        deliveries[f"idle, {n} channels each"] = {
            "subscriptions": n,
            "hub_us_per_connection": c.connect_us + n * c.subscribe_us,
            "redis_us_per_connection": c.redis_connect_us + n * c.redis_subscribe_us,
            "bytes_per_connection": c.connection_bytes + n * c.channel_bytes,
            "idle_hub_us_per_connection_s": c.ping_us / 5 + n * c.compare_us / 10,
            "idle_redis_us_per_connection_s": n * c.redis_compare_us / 10,
        }
    deliveries["check, 10,000 connections on 2,000 channels, window 100"] = {
        "hub_us_per_publication": 50
    }
    deliveries["check, 3,000 connections on 1,000 channels, 2,000 messages/s"] = {
        "hub_utilisation": 0.2
    }
    write_report(tmp_path, "costs", deliveries, ping_s=5, compare_s=10)
    redis = {}
    for turns, calls, nodes in ((1, 2, 0), (0.1, 2, 0), (0.06, 0.6, 8), (1, 10, 8), (1, 3, 1)):
        redis[f"{nodes} nodes, {turns} turns, {calls} calls"] = {
            "redis_us_per_publication": c.append_us
            + turns * c.redis_turn_us
            + calls * c.redis_socket_us
            + nodes * c.message_us,
            "turns_per_publication": turns,
            "socket_calls_per_publication": calls,
            "messages_per_publication": nodes,
            "log_bytes_per_publication": c.log_bytes,
        }
    write_report(tmp_path, "redis_costs", redis)
    memory = {"resident_bytes_1000": c.base_bytes + 1_000 * c.connection_bytes}
    write_report(tmp_path, "memory", {"5,000": memory}, value=c.connection_bytes)
    mixed = {"10,000 connections, 2,000 channels": {"p99_ms": 6.0}}
    write_report(tmp_path, "mixed", mixed, value=90_000, window=100)
    paced = {"1,000 connections, 50/s": {"p50_ms": 4.0, "p99_ms": 8.0, "deliveries_per_s": 50_000}}
    write_report(tmp_path, "paced", paced, rate_per_s=50, connections=1_000)
    return tmp_path


def write_report(
    folder: Path,
    name: str,
    cases: dict[str, dict[str, float]],
    *,
    value: float = 1.0,
    **settings: float,
) -> None:
    """Write a report as ``benchmarks/harness/report.py`` does."""
    results = {
        case: {
            "ours": {
                "median": value,
                "details": {detail: {"median": found} for detail, found in details.items()},
            }
        }
        for case, details in cases.items()
    }
    report = {"ours": "ours", "machine": {}, "failed": {}, "results": results, **settings}
    (folder / f"{name}.json").write_text(json.dumps(report), "utf-8")


@pytest.mark.parametrize("load", [0.3, 0.6, 0.85])
def test_a_queue_with_fixed_service_waits_as_the_formula_says(load: float) -> None:
    """The mean wait of M/D/1 is load x service / (2 x (1 - load)); ours is within 6 %."""
    service_s, count = 0.001, 120_000
    chance, clock = random.Random(7), Clock()
    waits: list[float] = []

    def done(message: Message) -> None:
        waits.append(clock.now - message.published_s - service_s)

    server = RedisServer(clock, done, turn_s=0, each_s=service_s, limit=1)

    def arrive() -> None:
        server.take(Message(clock.now, None))
        clock.after(chance.expovariate(load / service_s), arrive)

    clock.after(0, arrive)
    clock.run(count * service_s / load)
    expected = load * service_s / (2 * (1 - load))
    assert sum(waits) / len(waits) == pytest.approx(expected, rel=0.06)
    assert server.busy_s / clock.now == pytest.approx(load, rel=0.02)


Written = list[tuple[Message, float, float]]


def worker(clock: Clock) -> tuple[Worker, Written, list[Message]]:
    """A worker of round costs: a turn 1 ms, a publication 0.1 ms, a write 0.01 ms.

    And what it wrote, with latencies and how many, and what it finished.
    """
    written: Written = []
    done: list[Message] = []
    hub = Worker(
        clock,
        turn_s=1e-3,
        ingest_s=1e-4,
        write_s=1e-5,
        more_s=1e-6,
        written=lambda *what: written.append(what),
        finished=done.append,
    )
    return hub, written, done


def test_a_lonely_message_takes_the_sum_of_its_costs() -> None:
    """Turn, ingest and one write a member; the last member waits for all of it."""
    clock = Clock()
    hub, written, done = worker(clock)
    hub.take(Message(0.0, Room(300)))
    clock.run(1.0)
    assert hub.busy_s == pytest.approx(1e-3 + 1e-4 + 300e-5)
    assert len(done) == 1
    assert sum(weight for *_, weight in written) == pytest.approx(300)
    assert 4e-3 < max(latency for _, latency, _ in written) <= hub.busy_s


def test_what_comes_during_a_walk_leaves_together_in_the_next() -> None:
    """Nine messages that come while the first is walked to a room cost it one more walk."""
    clock, room = Clock(), Room(1_000)
    hub, written, done = worker(clock)
    for number in range(10):
        clock.after(0.0 if number == 0 else 2e-3 + number * 1e-4, lambda: hub.take(
            Message(clock.now, room)
        ))  # fmt: skip
    clock.run(1.0)
    assert hub.walks == 2
    assert len(done) == 10
    assert sum(weight for *_, weight in written) == pytest.approx(10_000)


def test_a_small_room_does_not_wait_for_a_large_one() -> None:
    """Rooms take turns, so five subscribers are served within slices of fifty thousand."""
    clock, large, small = Clock(), Room(50_000), Room(5)
    hub, written, done = worker(clock)
    hub.take(Message(0.0, large))
    clock.after(1e-3, lambda: hub.take(Message(clock.now, small)))
    clock.run(5.0)
    assert [message.room for message in done] == [small, large]
    assert max(latency for message, latency, _ in written if message.room is small) < 0.02


def test_a_run_can_be_repeated() -> None:
    """The same seed gives the same figures to the last digit."""
    first, second = (plan(WORKLOADS[0], 100_000, COSTS) for _ in range(2))
    assert first == second


def test_a_window_keeps_the_worker_busy() -> None:
    """With a hundred messages on their way the worker is the limit, at its cost a message."""
    found = run_window(COSTS, channels=2_000, connections=10_000, window=100, seconds=1)
    assert found.hub_busy > 0.97
    cost_us = COSTS.ingest_us + 5 * COSTS.ws_write_us
    assert found.deliveries_per_s == pytest.approx(5e6 / cost_us, rel=0.1)
    assert found.p99_ms > 100 * cost_us / 1e3 * 0.5


def test_a_pace_delivers_all_of_it() -> None:
    """At 50 messages a second to a thousand, the median is half a walk and some."""
    found = run_paced(COSTS, connections=1_000, per_s=50, seconds=4)
    assert found.deliveries_per_s == pytest.approx(50_000, rel=0.02)
    assert found.p50_ms == pytest.approx(3.6, rel=0.05)
    assert found.hub_busy == pytest.approx(50 * (7_000 + 40) / 1e6, rel=0.02)


def test_the_fit_finds_the_costs(results: Path) -> None:
    """Measurements that are made from costs give these costs, and no residual."""
    found = fit_costs(Results(results))
    for name in Costs.__struct_fields__:
        expected = 0.75 if name == "spread_us" else getattr(COSTS, name)
        if name == "channel_bytes":
            continue  # from whole bytes a connection, of which one channel is shared
        assert getattr(found.costs, name) == pytest.approx(expected, rel=0.01), name
    for case, measured, modelled in found.residuals:
        assert modelled == pytest.approx(measured, rel=0.01), case


def test_no_cost_is_negative() -> None:
    """Noise that asks for a negative cost gives 0, and the other is fitted alone."""
    assert fit([(1, 1), (1, 2), (1, 4)], [10, 9, 8])[1] == 0
    with pytest.raises(ValueError, match="tell the costs apart"):
        fit([(1, 1), (2, 2)], [1, 2])


def test_missing_results_are_refused(results: Path) -> None:
    """The message names the file, what is missing in it, and the command that makes it."""
    (results / "memory.json").unlink()
    with pytest.raises(ResultsError, match=r"expected memory\.json .*benchmarks\.bench_memory"):
        fit_costs(Results(results))
    (results / "redis_costs.json").write_text("{", "utf-8")
    with pytest.raises(ResultsError, match=r"expected JSON in redis_costs\.json"):
        fit_costs(Results(results))
    (results / "redis_costs.json").write_text("[]", "utf-8")
    with pytest.raises(ResultsError, match='expected an object with "results"'):
        fit_costs(Results(results))


@pytest.mark.parametrize("case", ["idle, 10 channels each", "SSE, 1 x 1000, window 10"])
def test_a_missing_figure_is_refused(results: Path, case: str) -> None:
    """A case without its figures, or too few cases, is told and not guessed."""
    path = results / "costs.json"
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    row = report["results"][case]
    row["ours"]["details"] = {}
    path.write_text(json.dumps(report), "utf-8")
    with pytest.raises(ResultsError, match=r"expected '\w+' of '.*' in costs\.json; it has"):
        fit_costs(Results(results))
    del report["results"][case]
    path.write_text(json.dumps(report), "utf-8")
    if case.startswith("idle"):
        with pytest.raises(ResultsError, match="two numbers of channels"):
            fit_costs(Results(results))


def test_checks_need_their_runs(results: Path) -> None:
    """A prediction without a measurement beside it is no check."""
    assert len(validate(Results(results), COSTS)) >= 5
    (results / "mixed.json").unlink()
    with pytest.raises(ResultsError, match=r"expected mixed\.json"):
        validate(Results(results), COSTS)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_plans_keep_what_they_promise(workload: Any) -> None:
    """Workers and Redis have room, latency is within the target, and more users take more."""
    plans = [plan(workload, connections, COSTS) for connections in (10_000, 100_000, 1_000_000)]
    for one in plans:
        assert max(one.hub_load, one.redis_load) <= TARGET
        assert one.outcome.p99_ms <= TARGET_P99_MS
        assert one.outcome.hub_busy >= one.hub_load * 0.8
    workers = [one.workers for one in plans]
    assert workers == sorted(workers)
    assert workers[-1] >= 100


def test_too_slow_a_hub_is_no_plan() -> None:
    """A write that takes longer than the target for one message has no number of workers."""
    slow = msgspec.structs.replace(COSTS, ws_write_us=1e6)
    with pytest.raises(ValueError, match="expected at most"):
        plan(WORKLOADS[1], 1_000_000, slow)


def test_the_document_has_every_section(results: Path) -> None:
    """Whatever the program writes has its place in the document, and no place stays empty."""
    found = fit_costs(Results(results))
    checks = validate(Results(results), found.costs)
    limits = [limits_of(WORKLOADS[-1], found.costs)]
    plans = [plan(workload, 10_000, found.costs) for workload in WORKLOADS]
    machine = {"cpu": "a", "cores": 2, "kernel": "b", "python": "c"}
    report = {"machine": machine, "rounds": 3, "commit": "d"}
    told = sections(found, checks, limits, plans, report)
    text = replace_sections(DOC.read_text("utf-8"), told)
    for name, section in told.items():
        assert section.rstrip() in text, name
    assert set(told) == {line[5:-4] for line in text.splitlines() if line.startswith("<!-- ") and
                         not line.startswith("<!-- /")}  # fmt: skip
    json.dumps(as_json(found, checks, limits, plans, report))


def test_a_section_that_is_missing_is_told() -> None:
    """A table without its place is not dropped in silence."""
    assert replace_sections("a <!-- x -->old<!-- /x --> b", {"x": "new"}) == (
        "a <!-- x -->\nnew\n<!-- /x --> b"
    )
    with pytest.raises(ValueError, match="expected one section <!-- y -->"):
        replace_sections("nothing", {"y": "new"})
