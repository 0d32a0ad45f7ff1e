"""What the model found, as tables of Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from .costs import Costs, Fitted
from .limits import Limit
from .plan import COMPARE_S, MACHINE_CORES, MACHINE_WORKERS, MAX_CONNECTIONS, PING_S, Plan
from .validation import Check

__all__ = ["as_json", "sections"]

_MIB, _GIB = 1 << 20, 1 << 30
_SERVED_BY_ONE_S = 1e6

_COSTS = (
    ("hub, a turn of the loop that messages begin", "turn_us"),
    ("hub, a publication that arrives at a worker", "ingest_us"),
    ("hub, each further publication in the same write, WebSocket", "ws_more_us"),
    ("hub, each further publication in the same write, SSE", "sse_more_us"),
    ("hub, a connection that comes", "connect_us"),
    ("hub, each of its subscriptions", "subscribe_us"),
    (f"hub, a ping and its answer, every {PING_S:g} s a connection", "ping_us"),
    (f"hub, the comparison of a followed channel, every {COMPARE_S:g} s", "compare_us"),
    ("Redis, a turn of the loop", "redis_turn_us"),
    ("Redis, a read or write of a socket", "redis_socket_us"),
    ("Redis, the script that appends and announces a publication", "append_us"),
    ("Redis, the message to each worker that follows the channel", "message_us"),
    ("Redis, a connection that comes", "redis_connect_us"),
    ("Redis, each subscription to a channel new to the worker", "redis_subscribe_us"),
    (f"Redis, the comparison of a followed channel, every {COMPARE_S:g} s", "redis_compare_us"),
)  # fmt: skip
_BYTES = (
    ("memory, a worker without connections", "base_bytes"),
    ("memory, a connection with one subscription", "connection_bytes"),
    ("memory, what a subscription to a channel of its own adds", "channel_bytes"),
    ("memory of Redis, a publication in an event log", "log_bytes"),
    ("a delivered publication of 200 bytes of data", "message_bytes"),
)


def sections(
    fitted: Fitted,
    checks: Sequence[Check],
    limits: Sequence[Limit],
    plans: Sequence[Plan],
    report: Mapping[str, Any],
) -> dict[str, str]:
    """Return the tables by the name of the section they stand in; ``report`` is costs.json."""
    told = {
        "measured": _measured(report),
        "costs": _costs(fitted.costs),
        "fit": _fit(fitted),
        "checks": _checks(checks),
        "limits": _limits(limits),
    }
    for plan in plans:
        name = plan.workload.name
        if name not in told:
            told[name] = _plans([one for one in plans if one.workload.name == name])
    return told


def as_json(
    fitted: Fitted,
    checks: Sequence[Check],
    limits: Sequence[Limit],
    plans: Sequence[Plan],
    report: Mapping[str, Any],
) -> dict[str, object]:
    """Return all of it, with what it was fitted on."""
    return {
        "what": "cost model fitted on costs.json, redis_costs.json and memory.json; simulated",
        "measured": {name: report[name] for name in ("machine", "rounds", "commit")},
        "costs": msgspec.to_builtins(fitted.costs),
        "fit": [
            {"case": case, "measured_us": measured, "modelled_us": round(modelled, 2)}
            for case, measured, modelled in fitted.residuals
        ],
        "checks": [{**asdict(check), "error": round(check.error, 3)} for check in checks],
        "limits": [asdict(limit) for limit in limits],
        "plans": [
            {
                "workload": plan.workload.name,
                "connections": plan.connections,
                "workers": plan.workers,
                "machines": plan.machines,
                "shards": plan.shards,
                "hub_load": round(plan.hub_load, 3),
                "redis_load": round(plan.redis_load, 3),
                "worker_bytes": round(plan.worker_bytes),
                "log_bytes": round(plan.log_bytes),
                "egress_bits_per_s": round(plan.egress_bits_per_s),
                "rejoin_s": round(plan.rejoin_s, 1),
                "bound": plan.bound,
                "outcome": asdict(plan.outcome),
            }
            for plan in plans
        ],
    }


def _measured(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"Python {machine['python']}; rounds: {report['rounds']}; commit "
        f"{report['commit']}. One core is one of these."
    )


def _costs(costs: Costs) -> str:
    values = [
        (f"hub, a delivery to {what}, with {connections:,} connections", value)
        for what, sse in (("a WebSocket", False), ("an event stream (SSE)", True))
        for connections in (100, 1_000, MAX_CONNECTIONS)
        for value in [costs.write_us(connections, sse=sse)]
    ]
    values += [(what, getattr(costs, name)) for what, name in _COSTS]
    rows = []
    for what, value in values:
        a_core = f"{_short(_SERVED_BY_ONE_S / value)}/s" if value else "-"
        rows.append((what, f"{_us(value)} us", a_core))
    rows += [(what, _size(getattr(costs, name)), "") for what, name in _BYTES]
    return _table(("what", "cost", "one core does"), rows)


def _fit(fitted: Fitted) -> str:
    return _table(
        ("measurement", "measured, us a publication", "model", "off by"),
        [
            (case, _us(measured), _us(modelled), f"{modelled / measured - 1:+.0%}")
            for case, measured, modelled in fitted.residuals
        ],
    )


def _checks(checks: Sequence[Check]) -> str:
    return _table(
        ("run", "figure", "predicted", "measured", "off by"),
        [
            (one.run, one.what, _figure(one.predicted), _figure(one.measured), f"{one.error:+.0%}")
            for one in checks
        ],
    )


def _limits(limits: Sequence[Limit]) -> str:
    return _table(
        ("workload", "a worker, at most", "there", "one Redis, at most", "there"),
        [
            (
                one.workload,
                f"{_short(one.deliveries_per_s)} deliveries/s",
                f"{one.worker.hub_busy:.0%} busy, p99 {_figure(one.worker.p99_ms)} ms",
                f"{_short(one.publications_per_s)} publications/s to {one.nodes:.3g} workers each",
                f"{one.redis.redis_busy:.0%} busy",
            )
            for one in limits
        ],
    )


def _plans(plans: Sequence[Plan]) -> str:
    rows = []
    for one in plans:
        part, times = one.first
        rows.append(
            (
                f"{one.connections:,}" + (" *" if one.connections > MAX_CONNECTIONS else ""),
                f"{one.workers:,} ({one.bound})",
                f"{one.machines:,} x {_gib(one.worker_bytes * min(MACHINE_WORKERS, one.workers))}",
                "one" if one.shards == 1 else f"Cluster, {one.shards} shards",
                f"{one.hub_load:.0%}, looks {one.outcome.hub_busy:.0%} busy",
                f"{one.redis_load:.0%}, looks {one.outcome.redis_busy:.0%} busy",
                f"{_gib(one.log_bytes / one.shards)} each",
                f"{_figure(one.outcome.p50_ms)} / {_figure(one.outcome.p99_ms)} ms",
                f"{one.egress_bits_per_s / 1e9:.2g} Gbit/s",
                f"{one.rejoin_s:.0f} s",
                f"{part}, at {times:.1f} x",
            )
        )
    return _table(
        (
            "connections", "workers (bound by)", f"machines of {MACHINE_CORES} cores x memory",
            "Redis", "load of a worker", "load of a Redis", "its logs", "p50 / p99", "egress",
            "all back after a restart", "saturates first",
        ),
        rows,
    )  # fmt: skip


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _us(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2g} M"
    return f"{value / 1e3:.3g} k" if value >= 1e3 else f"{value:.3g}"


def _size(value: float) -> str:
    if value >= _MIB:
        return f"{value / _MIB:.0f} MiB"
    return f"{value / 1024:.1f} KiB" if value >= 1024 else f"{value:.0f} bytes"


def _gib(value: float) -> str:
    return f"{value / _GIB:.1f} GiB"
