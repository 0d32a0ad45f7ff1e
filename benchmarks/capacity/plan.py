"""How many workers and which Redis a load takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from .costs import Costs
from .runs import Outcome, Part, run_part
from .simulation import REDIS_TURN_LIMIT

__all__ = ["WORKLOADS", "Plan", "Workload", "part_of", "plan"]

#: Part of what a worker or shard could do at most that it is given to do: the rest is for
#: peaks, reconnects and the death of a neighbour.
TARGET = 0.6
#: Milliseconds within which 99 % of deliveries are written.
TARGET_P99_MS = 250.0
#: Connections of a worker: `max_connections` by default, and the most that was measured.
MAX_CONNECTIONS = 10_000
PING_S = 25.0
COMPARE_S = 10.0
#: A machine keeps one core for its kernel and network, which were not measured.
MACHINE_CORES = 8
MACHINE_WORKERS = MACHINE_CORES - 1
#: Bytes that TCP, IP and Ethernet add to a packet, and a WebSocket to a frame of this size.
PACKET_BYTES = 20 + 20 + 12 + 18
FRAME_BYTES = 4
#: Seconds of a simulated run: fewer for more messages, so that each takes about as long.
_MESSAGES = 40_000
_MAX_SECONDS = 20.0
_MOST_WORKERS = 100_000


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What connections do.

    Attributes:
        name, what: for people.
        subscriptions: channels of a connection.
        subscribers: of a channel; 0: everybody.
        per_connection_s: messages that are published a second, per connection.
        per_s: messages that are published a second, whatever the number of connections.
        publishing: part of the channels that anything is published to at a time.
        logged: part of the channels that have an event log, because something was
            published to them lately.
        history: publications in such a log.
    """

    name: str
    what: str
    subscriptions: int
    subscribers: int
    per_connection_s: float = 0.0
    per_s: float = 0.0
    publishing: float = 1.0
    logged: float = 1.0
    history: int = 100

    def channels(self, connections: int) -> float:
        """Return how many channels there are."""
        return connections * self.subscriptions / (self.subscribers or connections)

    def published(self, connections: int) -> float:
        """Return messages a second."""
        return connections * self.per_connection_s + self.per_s

    def delivered(self, connections: int) -> float:
        """Return deliveries a second."""
        return self.published(connections) * (self.subscribers or connections)

    def kept(self, connections: int) -> float:
        """Return publications in all logs."""
        return self.channels(connections) * self.logged * self.history


WORKLOADS = (
    Workload(
        name="chat",
        what="10 channels a user, 10 users in each; a user sends 0.1 messages a second",
        subscriptions=10,
        subscribers=10,
        per_connection_s=0.1,
    ),
    Workload(
        name="broadcast",
        what="everybody on one channel, 1 message a second",
        subscriptions=1,
        subscribers=0,
        per_s=1.0,
    ),
    Workload(
        name="tokens",
        what="a channel for each user; 20 messages a second on 5 % of them",
        subscriptions=1,
        subscribers=1,
        per_connection_s=1.0,
        publishing=0.05,
        logged=0.1,
        history=1_000,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a load takes, and how it fares.

    ``hub_load`` and ``redis_load`` are parts of what each could do at most, when everything
    that waits is taken together; ``outcome`` has how busy they look meanwhile.
    """

    workload: Workload
    connections: int
    workers: int
    shards: int
    hub_load: float
    redis_load: float
    worker_bytes: float
    log_bytes: float
    egress_bits_per_s: float
    rejoin_s: float
    bound: str
    outcome: Outcome

    @property
    def machines(self) -> int:
        """Machines for the workers."""
        return math.ceil(self.workers / MACHINE_WORKERS)

    @property
    def first(self) -> tuple[str, float]:
        """Return which part saturates first, and how many times the load that takes."""
        part, load = max(
            ("a hub worker", self.hub_load), ("Redis", self.redis_load), key=lambda one: one[1]
        )
        return part, 1 / load


def _nodes_of_a_channel(workload: Workload, connections: int, workers: int) -> float:
    """Return how many workers follow a channel whose subscribers connect where they happen to."""
    subscribers = workload.subscribers or connections
    return workers * (1 - (1 - 1 / workers) ** subscribers)


def part_of(
    workload: Workload, connections: int, workers: int, shards: int, costs: Costs
) -> tuple[Part, float, float]:
    """Return one worker and its shards, and the loads of both."""
    nodes = _nodes_of_a_channel(workload, connections, workers)
    followed = workload.channels(connections) * nodes
    published = workload.published(connections)
    hub_background = (
        connections / workers * costs.ping_us / PING_S
        + followed / workers * costs.compare_us / COMPARE_S
    ) / 1e6
    redis_background = followed / shards * costs.redis_compare_us / COMPARE_S / 1e6
    arriving = published * nodes / workers
    delivered = workload.delivered(connections) / workers
    write_us = costs.write_us(connections / workers)
    part = Part(
        to_worker_per_s=arriving,
        to_shard_per_s=published / shards,
        nodes=nodes,
        rooms=max(1, round(followed / workers * workload.publishing)),
        members=delivered / arriving,
        hub_background=hub_background,
        redis_background=redis_background,
        write_us=write_us,
        more_us=costs.ws_more_us,
    )
    hub_load = hub_background + (arriving * costs.ingest_us + delivered * write_us) / 1e6
    redis_load = (
        redis_background
        + published
        / shards
        * (costs.publication_us(nodes) + costs.redis_turn_us / REDIS_TURN_LIMIT)
        / 1e6
    )
    return part, hub_load, redis_load


def simulate(part: Part, costs: Costs) -> Outcome:
    """Run a part for as long as tells percentiles."""
    per_s = max(part.to_shard_per_s, part.to_worker_per_s, part.to_worker_per_s * part.members / 32)
    return run_part(part, costs, seconds=min(_MAX_SECONDS, max(0.5, _MESSAGES / per_s)))


def plan(workload: Workload, connections: int, costs: Costs) -> Plan:
    """Return the least workers and shards that carry a load as the targets say.

    Raises:
        ValueError: not even a hundred thousand workers would.
    """
    workers, bound = math.ceil(connections / MAX_CONNECTIONS), "connections"
    while workers <= _MOST_WORKERS:
        shards = 1
        while part_of(workload, connections, workers, shards, costs)[2] > TARGET:
            shards = math.ceil(shards * 1.05 + 0.5)
        part, hub_load, redis_load = part_of(workload, connections, workers, shards, costs)
        if hub_load > TARGET:
            workers, bound = max(workers + 1, math.ceil(workers * hub_load / TARGET)), "hub CPU"
            continue
        outcome = simulate(part, costs)
        if outcome.p99_ms > TARGET_P99_MS:
            workers, bound = math.ceil(workers * 1.25), "latency"
            continue
        own = connections / workers
        seconds = own * (costs.connect_us + workload.subscriptions * costs.subscribe_us) / 1e6
        alone = workload.subscribers > 0
        own_bytes = costs.connection_bytes + costs.channel_bytes * (
            workload.subscriptions if alone else 0
        )
        wire = costs.message_bytes + FRAME_BYTES + PACKET_BYTES
        return Plan(
            workload=workload,
            connections=connections,
            workers=workers,
            shards=shards,
            hub_load=hub_load,
            redis_load=redis_load,
            worker_bytes=costs.base_bytes + own * own_bytes,
            log_bytes=workload.kept(connections) * costs.log_bytes,
            egress_bits_per_s=workload.delivered(connections) * wire * 8,
            rejoin_s=seconds,
            bound=bound,
            outcome=outcome,
        )
    raise ValueError(
        f"expected at most {_MOST_WORKERS:,} workers to carry {workload.name!r} with "
        f"{connections:,} connections; a worker takes too long for a single message"
    )
