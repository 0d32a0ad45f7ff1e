"""What each thing costs, fitted on the measurements."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import msgspec

from .least_squares import fit
from .results import Results, ResultsError

__all__ = ["Costs", "Fitted", "fit_costs"]

_DELIVERING = re.compile(r"(WebSocket|SSE), (\d+) x (\d+), window (\d+)")
_IDLE = re.compile(r"idle, (\d+) channels each")


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds of processor time (``_us``) and bytes, each of one.

    Attributes:
        turn_us: a turn of the hub's event loop that messages from Redis begin.
        ingest_us: a publication that comes to a node: parsed, judged, put into its room.
        ws_write_us, sse_write_us: a write to a connection, with its first publication.
        spread_us: what such a write costs more with each tenfold of the worker's connections,
            because caches hold less of them.
        ws_more_us, sse_more_us: each further publication in the same write.
        connect_us, subscribe_us: a connection that comes; each of its subscriptions.
        ping_us: a ping and its answer.
        compare_us: the periodic comparison of a followed channel with its log.
        redis_turn_us: a turn of Redis's loop.
        redis_socket_us: a read or a write of a socket of Redis.
        append_us: the script that appends and announces a publication.
        message_us: the message to each node that follows its channel, beside the write.
        redis_connect_us, redis_subscribe_us, redis_compare_us: as of the hub.
        base_bytes: of a worker without connections.
        connection_bytes: of a connection with a subscription to a channel of many.
        channel_bytes: what a subscription to a channel of its own adds.
        log_bytes: of Redis, for a publication in an event log.
        message_bytes: of a delivered publication, without what transports add.
    """

    turn_us: float
    ingest_us: float
    ws_write_us: float
    ws_more_us: float
    spread_us: float
    sse_write_us: float
    sse_more_us: float
    connect_us: float
    subscribe_us: float
    ping_us: float
    compare_us: float
    redis_turn_us: float
    redis_socket_us: float
    append_us: float
    message_us: float
    redis_connect_us: float
    redis_subscribe_us: float
    redis_compare_us: float
    base_bytes: float
    connection_bytes: float
    channel_bytes: float
    log_bytes: float
    message_bytes: float

    def write_us(self, connections: float, *, sse: bool = False) -> float:
        """Return what a write costs a worker with so many connections."""
        first = self.sse_write_us if sse else self.ws_write_us
        return first + self.spread_us * math.log10(max(1.0, connections))

    def publication_us(self, nodes: float) -> float:
        """Return what a publication costs Redis beside the turn, with so many nodes to tell.

        Request, reply and every message take a call each: publishers and nodes are many, so
        that two messages to the same one in a turn are rare.
        """
        return (
            self.append_us
            + 2 * self.redis_socket_us
            + nodes * (self.message_us + self.redis_socket_us)
        )


class Fitted(NamedTuple):
    """The costs, and what they make of each measurement that they were fitted on."""

    costs: Costs
    #: Name of the case, measured and modelled microseconds.
    residuals: list[tuple[str, float, float]]


class _Delivering(NamedTuple):
    case: str
    #: Per publication: turns, publications, tenfolds of connections times writes, then first
    #: and further publications of writes, WebSocket and SSE.
    row: tuple[float, ...]


def fit_costs(results: Results) -> Fitted:
    """Fit on ``costs.json``, ``redis_costs.json`` and ``memory.json``.

    Raises:
        ResultsError: one of them is missing or lacks what is needed.
    """
    idle = _idle(results)
    deliver, hub_residuals = _delivering(results)
    redis, redis_residuals = _redis(results)
    costs = Costs(**deliver, **redis, **idle, **_memory(results))
    return Fitted(costs, hub_residuals + redis_residuals)


def _delivering(results: Results) -> tuple[dict[str, float], list[tuple[str, float, float]]]:
    found: list[_Delivering] = []
    measured: list[float] = []
    for case in results.cases("costs"):
        if (match := _DELIVERING.fullmatch(case)) is None:
            continue
        sse, (channels, members, window) = match[1] == "SSE", map(int, match.groups()[1:])
        batch = max(1.0, results.detail("costs", case, "publications_per_walk"))
        # One room is walked in turns of its own. Of many rooms, what came together shares a
        # turn: about half the window, for the other half is on its way elsewhere.
        turns = 1 / batch if channels == 1 else 1 / max(1.0, window / 2)
        writes = (members / batch, members * (1 - 1 / batch))
        tenfolds = writes[0] * math.log10(channels * members)
        row = (turns, 1.0, tenfolds, *((0.0, 0.0, *writes) if sse else (*writes, 0.0, 0.0)))
        found.append(_Delivering(case, row))
        measured.append(results.detail("costs", case, "hub_us_per_publication"))
    names = (
        "turn_us", "ingest_us", "spread_us", "ws_write_us", "ws_more_us", "sse_write_us",
        "sse_more_us",
    )  # fmt: skip
    if len(found) < len(names):
        raise ResultsError(f"expected {len(names)} cases of deliveries or more; got {len(found)}")
    coefficients = fit([one.row for one in found], measured)
    residuals = [
        (f"hub: {one.case}", value, _dot(one.row, coefficients))
        for one, value in zip(found, measured, strict=True)
    ]
    return dict(zip(names, coefficients, strict=True)), residuals


def _redis(results: Results) -> tuple[dict[str, float], list[tuple[str, float, float]]]:
    rows, measured = [], []
    cases = results.cases("redis_costs")
    for case in cases:
        turns, calls, messages = (
            results.detail("redis_costs", case, f"{what}_per_publication")
            for what in ("turns", "socket_calls", "messages")
        )
        rows.append((turns, calls, 1.0, messages))
        measured.append(results.detail("redis_costs", case, "redis_us_per_publication"))
    coefficients = fit(rows, measured)
    residuals = [
        (f"Redis: {case}", value, _dot(row, coefficients))
        for case, row, value in zip(cases, rows, measured, strict=True)
    ]
    names = ("redis_turn_us", "redis_socket_us", "append_us", "message_us")
    return dict(zip(names, coefficients, strict=True)), residuals


def _idle(results: Results) -> dict[str, float]:
    """Solve for what a connection and what a subscription costs, from two numbers of them."""
    cases = [case for case in results.cases("costs") if _IDLE.fullmatch(case)]
    few, many = _two(results, cases, "subscriptions")

    def split(detail: str) -> tuple[float, float]:
        first, last = (results.detail("costs", case, detail) for case in (few[0], many[0]))
        each = max(0.0, (last - first) / (many[1] - few[1]))
        return max(0.0, first - few[1] * each), each

    ping_s, compare_s = (results.setting("costs", name) for name in ("ping_s", "compare_s"))
    connect, subscribe = split("hub_us_per_connection")
    redis_connect, redis_subscribe = split("redis_us_per_connection")
    staying, following = split("idle_hub_us_per_connection_s")
    return {
        "connect_us": connect,
        "subscribe_us": subscribe,
        "ping_us": staying * ping_s,
        "compare_us": following * compare_s,
        "redis_connect_us": redis_connect,
        "redis_subscribe_us": redis_subscribe,
        "redis_compare_us": split("idle_redis_us_per_connection_s")[1] * compare_s,
    }


def _two(results: Results, cases: list[str], detail: str) -> tuple[tuple[str, float], ...]:
    found = sorted(
        ((case, results.detail("costs", case, detail)) for case in cases), key=lambda one: one[1]
    )
    if len(found) < 2 or found[0][1] == found[-1][1]:
        raise ResultsError(
            f"expected idle connections with two numbers of channels in costs.json; got {cases}"
        )
    return found[0], found[-1]


def _memory(results: Results) -> dict[str, float]:
    case = results.cases("memory")[0]
    connection = results.value("memory", case)
    base = results.detail("memory", case, "resident_bytes_1000") - 1_000 * connection
    idle = [one for one in results.cases("costs") if _IDLE.fullmatch(one)]
    _, (many, subscriptions) = _two(results, idle, "subscriptions")
    with_channels = results.detail("costs", many, "bytes_per_connection")
    message = next(one for one in results.cases("costs") if _DELIVERING.fullmatch(one))
    return {
        "base_bytes": max(0.0, base),
        "connection_bytes": connection,
        "channel_bytes": max(0.0, (with_channels - connection) / subscriptions),
        "log_bytes": results.detail(
            "redis_costs", results.cases("redis_costs")[0], "log_bytes_per_publication"
        ),
        "message_bytes": results.detail("costs", message, "bytes_per_delivery"),
    }


def _dot(row: tuple[float, ...], coefficients: list[float]) -> float:
    return sum(cell * each for cell, each in zip(row, coefficients, strict=True))
