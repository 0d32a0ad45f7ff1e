"""Where each part saturates: its load raised in the simulation until it cannot keep up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from .costs import Costs
from .plan import MAX_CONNECTIONS, TARGET_P99_MS, Workload, part_of
from .runs import Outcome, Part, run_part

__all__ = ["Limit", "limits_of"]

_STEPS = 12
_MESSAGES = 30_000
#: More than this part of all messages of a run that still wait is a queue that grows.
_WAITING = 0.02


@dataclass(frozen=True)
class Limit:
    """The most that one part takes of a workload, by the simulation.

    ``deliveries_per_s`` of a worker, ``publications_per_s`` of a Redis, and what it looks like
    there.
    """

    workload: str
    deliveries_per_s: float
    worker: Outcome
    publications_per_s: float
    redis: Outcome
    nodes: float


def limits_of(workload: Workload, costs: Costs) -> Limit:
    """Find both limits, by halving, with a hundred workers of 10,000 connections."""
    workers = 100
    part, _, _ = part_of(workload, workers * MAX_CONNECTIONS, workers, 1, costs)
    # First a worker with a Redis that costs nothing, then a Redis with a worker that gets one
    # message in a thousand, so that the other part is never the limit.
    hub_times, hub = _most(
        replace(part, nodes=0.0, to_shard_per_s=part.to_worker_per_s, redis_background=0.0),
        _without_redis(costs),
        redis=False,
    )
    redis_times, redis = _most(
        replace(part, to_worker_per_s=part.to_shard_per_s / 1_000, redis_background=0.0),
        costs,
        redis=True,
    )
    return Limit(
        workload=workload.name,
        deliveries_per_s=part.to_worker_per_s * part.members * hub_times,
        worker=hub,
        publications_per_s=part.to_shard_per_s * redis_times,
        redis=redis,
        nodes=part.nodes,
    )


def _without_redis(costs: Costs) -> Costs:
    """Return the costs with a Redis that costs next to nothing."""
    return msgspec.structs.replace(
        costs, redis_turn_us=0.01, redis_socket_us=0.0, append_us=0.01, message_us=0.0
    )


def _most(part: Part, costs: Costs, *, redis: bool) -> tuple[float, Outcome]:
    """Return how many times its rates a part keeps up with, and what it does then."""
    low, high, best = 0.0, 1.0, None
    while (found := _run(part, costs, high)) and _keeps_up(found, redis=redis):
        low, high, best = high, high * 2, found
    for _ in range(_STEPS):
        middle = (low + high) / 2
        found = _run(part, costs, middle)
        if _keeps_up(found, redis=redis):
            low, best = middle, found
        else:
            high = middle
    return low, best or found


def _run(part: Part, costs: Costs, times: float) -> Outcome:
    more = replace(
        part,
        to_worker_per_s=part.to_worker_per_s * times,
        to_shard_per_s=part.to_shard_per_s * times,
    )
    per_s = max(more.to_shard_per_s, more.to_worker_per_s * more.members / 32)
    return run_part(more, costs, seconds=max(0.25, min(20.0, _MESSAGES / per_s)))


def _keeps_up(found: Outcome, *, redis: bool) -> bool:
    # Not by how busy it is: a worker is busy all the time long before it has no time left,
    # because what waits is taken together.
    return found.waiting_s < _WAITING * found.seconds and (redis or found.p99_ms <= TARGET_P99_MS)
