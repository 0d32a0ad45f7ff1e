"""Runs of the simulation: a part of a deployment under a Poisson stream, or a benchmark again."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .costs import Costs
from .simulation import Clock, Message, RedisServer, Room, Worker

__all__ = ["Outcome", "Part", "run_paced", "run_part", "run_window"]

_US = 1e-6
_WARM_UP = 0.2


@dataclass(frozen=True)
class Outcome:
    """What a run found, after its first fifth.

    Attributes:
        deliveries_per_s: written to connections.
        hub_busy, redis_busy: part of the time that each worked; 1 is all of it.
        p50_ms, p99_ms: from publishing to writing, over all deliveries.
        publications_per_walk: that went out together.
        waiting_s: messages that waited at the end, as seconds of publishing: a part that
            cannot keep up has more the longer the run.
        seconds: how long the run was.
    """

    deliveries_per_s: float
    hub_busy: float
    redis_busy: float
    p50_ms: float
    p99_ms: float
    publications_per_walk: float
    waiting_s: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """One worker of a deployment, and as many shards of Redis as its messages fill.

    Attributes:
        to_worker_per_s: publications that come to the worker.
        to_shard_per_s: publications that each shard appends, for this worker and others.
        nodes: workers that follow the channel of a publication, on average.
        rooms: channels that the worker follows and that are published to.
        members: subscribers of a room at the worker, on average.
        hub_background, redis_background: part of the time that goes to pings and comparisons.
        write_us, more_us: of the transports that its connections use.
    """

    to_worker_per_s: float
    to_shard_per_s: float
    nodes: float
    rooms: int
    members: float
    hub_background: float = 0.0
    redis_background: float = 0.0
    write_us: float
    more_us: float


class _Latencies:
    """Latencies with weights."""

    def __init__(self, clock: Clock, from_s: float) -> None:
        self._clock = clock
        self._from_s = from_s
        self._found: list[tuple[float, float]] = []
        self.deliveries = 0.0

    def add(self, message: Message, latency_s: float, weight: float) -> None:
        """Record, unless the run still warms up."""
        if self._clock.now >= self._from_s:
            self.deliveries += weight
            if message.published_s >= self._from_s:
                self._found.append((latency_s, weight))

    def percentiles_ms(self, *percents: float) -> list[float]:
        """Return percentiles; NaN where nothing was delivered."""
        ordered = sorted(self._found)
        total = sum(weight for _, weight in ordered)
        found: list[float] = []
        passed, at = 0.0, 0
        for percent in percents:
            while at < len(ordered) and passed + ordered[at][1] < total * percent / 100:
                passed += ordered[at][1]
                at += 1
            found.append(ordered[min(at, len(ordered) - 1)][0] * 1_000 if ordered else float("nan"))
        return found


class _Run:
    """A worker, its shards, and what is recorded of them."""

    def __init__(
        self,
        costs: Costs,
        *,
        seconds: float,
        write_us: float,
        more_us: float,
        nodes: float = 1,
        shards: int = 1,
        hub_background: float = 0.0,
        redis_background: float = 0.0,
        finished: Callable[[Message], None] = lambda _: None,
    ) -> None:
        self.clock = Clock()
        self.seconds = seconds
        self._from_s = seconds * _WARM_UP
        self.latencies = _Latencies(self.clock, self._from_s)
        # What the background takes is not there for messages: everything takes longer.
        hub = _US / (1 - hub_background)
        redis = _US / (1 - redis_background)
        self._background = (hub_background, redis_background)
        self.worker = Worker(
            self.clock,
            turn_s=costs.turn_us * hub,
            ingest_s=costs.ingest_us * hub,
            write_s=write_us * hub,
            more_s=more_us * hub,
            written=self.latencies.add,
            finished=finished,
        )
        self.shards = [
            RedisServer(
                self.clock,
                self._arrive,
                turn_s=costs.redis_turn_us * redis,
                each_s=costs.publication_us(nodes) * redis,
            )
            for _ in range(shards)
        ]

    def _arrive(self, message: Message) -> None:
        if message.room is not None:
            self.worker.take(message)

    def outcome(self, messages_per_s: float) -> Outcome:
        """Let the time pass; return what happened."""
        self.clock.run(self._from_s)
        hub_before_s, redis_before_s = self.worker.busy_s, [each.busy_s for each in self.shards]
        walks, publications = self.worker.walks, self.worker.publications
        self.clock.run(self.seconds)
        span_s = self.seconds - self._from_s
        hub = min(1.0, (self.worker.busy_s - hub_before_s) / span_s)
        redis = max(
            min(1.0, (shard.busy_s - before_s) / span_s)
            for shard, before_s in zip(self.shards, redis_before_s, strict=True)
        )
        p50_ms, p99_ms = self.latencies.percentiles_ms(50, 99)
        waiting = len(self.worker) + max(len(shard) for shard in self.shards)
        walked = max(1, self.worker.walks - walks)
        # Of what is busy anyway, the background is a part already.
        return Outcome(
            deliveries_per_s=self.latencies.deliveries / span_s,
            hub_busy=hub * (1 - self._background[0]) + self._background[0],
            redis_busy=redis * (1 - self._background[1]) + self._background[1],
            p50_ms=p50_ms,
            p99_ms=p99_ms,
            publications_per_walk=(self.worker.publications - publications) / walked,
            waiting_s=waiting / messages_per_s,
            seconds=self.seconds,
        )


def run_part(part: Part, costs: Costs, *, seconds: float, seed: int = 1) -> Outcome:
    """Run a part of a deployment under Poisson streams."""
    chance = random.Random(seed)
    shards = math.ceil(part.to_worker_per_s / part.to_shard_per_s)
    run = _Run(
        costs,
        seconds=seconds,
        write_us=part.write_us,
        more_us=part.more_us,
        nodes=part.nodes,
        shards=shards,
        hub_background=part.hub_background,
        redis_background=part.redis_background,
    )
    rooms = [Room(_about(part.members, chance)) for _ in range(part.rooms)]
    to_us = min(1.0, part.to_worker_per_s / shards / part.to_shard_per_s)
    for shard in run.shards:
        _stream(run, shard, rooms, part.to_shard_per_s, to_us, chance)
    return run.outcome(part.to_shard_per_s)


def _stream(
    run: _Run, shard: RedisServer, rooms: Sequence[Room], per_s: float, to_us: float,
    chance: random.Random,
) -> None:  # fmt: skip
    def publish() -> None:
        room = chance.choice(rooms) if chance.random() < to_us else None
        shard.take(Message(run.clock.now, room))
        run.clock.after(chance.expovariate(per_s), publish)

    run.clock.after(chance.expovariate(per_s), publish)


def _about(mean: float, chance: random.Random) -> int:
    """Return a whole number, 1 or more, of this mean."""
    return max(1, int(mean) + (chance.random() < mean % 1))


def run_paced(
    costs: Costs, *, connections: int, per_s: float, seconds: float, channels: int = 1
) -> Outcome:
    """Run what the load client does at a pace: evenly, on one channel after the other."""

    def publish() -> None:
        run.shards[0].take(Message(run.clock.now, next(turn)))
        run.clock.after(1 / per_s, publish)

    run = _Run(
        costs, seconds=seconds, write_us=costs.write_us(connections), more_us=costs.ws_more_us
    )
    turn = itertools.cycle([Room(connections // channels) for _ in range(channels)])
    run.clock.after(0, publish)
    return run.outcome(per_s)


def run_window(
    costs: Costs, *, channels: int, connections: int, window: int, seconds: float
) -> Outcome:
    """Run what the load client does with a window: always so many messages on their way.

    The next is published, on the next channel, when one reached all of its subscribers.
    """

    def publish(_: Message | None = None) -> None:
        run.shards[0].take(Message(run.clock.now, next(turn)))

    run = _Run(
        costs,
        seconds=seconds,
        write_us=costs.write_us(connections),
        more_us=costs.ws_more_us,
        finished=publish,
    )
    turn = itertools.cycle([Room(connections // channels) for _ in range(channels)])
    for _ in range(window):
        run.clock.after(0, publish)
    return run.outcome(float(window))
