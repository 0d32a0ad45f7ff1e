"""Snapshots as Prometheus metrics: one table of what there is, and a collector that reads it.

Every sample has a label ``worker``, the number of the worker's place on the port. A worker that
is replaced begins at 0 in the same place, which Prometheus knows as the reset of a counter:
``rate()`` and ``increase()`` go on over it. To carry the old figures over would need them to be
right after a crash, and they would be those of a moment before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Literal, NamedTuple, TypeAlias

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from hub.histogram import BOUNDS_S, Histogram
from hub.metrics.snapshot import Snapshot

__all__ = ["FAMILIES", "Family", "SnapshotCollector"]

_Value: TypeAlias = float | Histogram
_Read: TypeAlias = Callable[[Snapshot], Iterable[tuple[tuple[str, ...], _Value | None]]]

#: The reasons of ``Traffic.drops`` that end a connection. They are told from 0 on, so that the
#: first one is an increase. Any other reason but the next one counts here too.
_ENDS = ("slow", "no_pong")
_CONFLATED = "conflated"

_LE = [*map(floatToGoString, BOUNDS_S), "+Inf"]


class Family(NamedTuple):
    """One metric: its name, kind and help, its labels beside ``worker``, and where it stands.

    ``read`` gives a value for each combination of labels; None is left out.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: _Read
    labels: tuple[str, ...] = ()

    def metric(self, snapshots: Mapping[int, Snapshot | None]) -> Metric:
        """Return the metric with the samples of every worker that told."""
        labels = ("worker", *self.labels)
        metric: Metric = _KINDS[self.kind](self.name, self.help, labels=labels)
        for worker, snapshot in snapshots.items():
            if snapshot is None:
                continue
            for values, value in self.read(snapshot):
                if value is not None:
                    _add(metric, [str(worker), *values], value)
        return metric


_KINDS = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _add(metric: Metric, labels: list[str], value: _Value) -> None:
    if isinstance(metric, HistogramMetricFamily) and isinstance(value, Histogram):
        buckets = list(zip(_LE, map(float, accumulate(value.counts)), strict=True))
        metric.add_metric(labels, buckets, value.sum_s)
    elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily) and not isinstance(
        value, Histogram
    ):
        metric.add_metric(labels, value)
    else:
        raise TypeError(f"metric {metric.name!r} is a {metric.type}; got {value!r}")


def _one(read: Callable[[Snapshot], _Value | None]) -> _Read:
    """Read a metric that has no labels of its own."""
    return lambda snapshot: [((), read(snapshot))]


def _by(read: Callable[[Snapshot], dict[str, int]]) -> _Read:
    """Read a metric that has one label."""
    return lambda snapshot: [((key,), value) for key, value in sorted(read(snapshot).items())]


def _ended(snapshot: Snapshot) -> dict[str, int]:
    drops = {**dict.fromkeys(_ENDS, 0), **snapshot.traffic.drops}
    drops.pop(_CONFLATED, None)
    return drops


#: Whether a worker answered; the collector knows that, not a snapshot.
_WORKER_UP = Family(
    "fanwire_worker_up",
    "gauge",
    "1 if the worker told its metrics for this scrape, 0 if it did not within a second: it is "
    "starting, being replaced, or its event loop stands still.",
    _one(lambda _snapshot: 1),
)

#: Every metric, in the order in which they are told.
FAMILIES: tuple[Family, ...] = (
    _WORKER_UP,
    Family(
        "fanwire_build_info",
        "gauge",
        "1, with the version of Fanwire as a label.",
        lambda snapshot: [((snapshot.version,), 1)],
        ("version",),
    ),
    Family(
        "fanwire_start_time_seconds",
        "gauge",
        "When the worker started, in seconds since 1970; a replaced worker has a new one.",
        _one(lambda snapshot: snapshot.started_at),
    ),
    Family(
        "fanwire_publications_total",
        "counter",
        "Publications that came from Redis into a room of the worker, each counted once however "
        "many subscribers it has.",
        _one(lambda snapshot: snapshot.traffic.publications),
    ),
    Family(
        "fanwire_deliveries_total",
        "counter",
        "Publications handed to subscribers: one publication to a hundred subscribers counts a "
        "hundred.",
        _one(lambda snapshot: snapshot.traffic.deliveries),
    ),
    Family(
        "fanwire_delivered_bytes_total",
        "counter",
        "Bytes of the publications handed to subscribers, without the framing of the transport.",
        _one(lambda snapshot: snapshot.traffic.bytes),
    ),
    Family(
        "fanwire_dropped_connections_total",
        "counter",
        "Connections that were given up, by reason: slow had more waiting than outbox_bytes "
        "allows (code 3008), no_pong did not answer a ping (code 3012).",
        _by(_ended),
        ("reason",),
    ),
    Family(
        "fanwire_conflated_publications_total",
        "counter",
        "Publications that a slow subscriber did not get because a newer one took their place.",
        _one(lambda snapshot: snapshot.traffic.drops.get(_CONFLATED, 0)),
    ),
    Family(
        "fanwire_write_lag_seconds",
        "histogram",
        "Time from the arrival of a message from Redis until it was written to every subscriber "
        "of its room. Messages that were written together count once, as the first of them.",
        _one(lambda snapshot: snapshot.traffic.write_lag),
    ),
    Family(
        "fanwire_connections",
        "gauge",
        "Connected clients, by transport.",
        _by(lambda snapshot: snapshot.connections),
        ("transport",),
    ),
    Family(
        "fanwire_connections_accepted_total",
        "counter",
        "Clients that were let in, by transport.",
        _by(lambda snapshot: snapshot.accepted),
        ("transport",),
    ),
    Family(
        "fanwire_rooms",
        "gauge",
        "Channels that the worker follows because a subscriber is, or was a moment ago, in them.",
        _one(lambda snapshot: snapshot.rooms),
    ),
    Family(
        "fanwire_subscriptions",
        "gauge",
        "Subscribers of all rooms: a client in three channels counts three.",
        _one(lambda snapshot: snapshot.subscriptions),
    ),
    Family(
        "fanwire_follower_repairs_total",
        "counter",
        "Times a channel's log was read because a message was missing or could not be trusted.",
        _one(lambda snapshot: snapshot.follower.repairs),
    ),
    Family(
        "fanwire_follower_backfilled_publications_total",
        "counter",
        "Publications that Redis pub/sub lost and the log had.",
        _one(lambda snapshot: snapshot.follower.backfilled),
    ),
    Family(
        "fanwire_follower_gaps_total",
        "counter",
        "Times publications were lost to a room for good, because the log did not have them any "
        "more; its subscribers were told.",
        _one(lambda snapshot: snapshot.follower.gaps),
    ),
    Family(
        "fanwire_follower_foreign_messages_total",
        "counter",
        "Messages on our pub/sub channels that are none of ours.",
        _one(lambda snapshot: snapshot.follower.foreign),
    ),
    Family(
        "fanwire_follower_late_messages_total",
        "counter",
        "Messages that came when the log had told already what they say.",
        _one(lambda snapshot: snapshot.follower.late),
    ),
    Family(
        "fanwire_store_ready",
        "gauge",
        "1 while Redis can be used, 0 while it is away.",
        _one(lambda snapshot: int(snapshot.store_ready)),
    ),
    Family(
        "fanwire_loop_lag_seconds",
        "histogram",
        "How late the event loop came to what was due, measured ten times a second.",
        _one(lambda snapshot: snapshot.loop_lag),
    ),
    Family(
        "fanwire_process_cpu_seconds_total",
        "counter",
        "CPU time that the worker's process used, user and system.",
        _one(lambda snapshot: snapshot.process.cpu_s),
    ),
    Family(
        "fanwire_process_resident_memory_bytes",
        "gauge",
        "Memory of the worker's process that is in RAM. Linux only.",
        _one(lambda snapshot: snapshot.process.resident_bytes),
    ),
    Family(
        "fanwire_process_open_fds",
        "gauge",
        "Open file descriptors of the worker's process: one a connection, and some. Linux only.",
        _one(lambda snapshot: snapshot.process.open_fds),
    ),
)


class SnapshotCollector(Collector):
    """The metrics of the workers of one port; a worker without a snapshot is down."""

    def __init__(self, snapshots: Mapping[int, Snapshot | None]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for family in FAMILIES:
            metric = family.metric(self._snapshots)
            if family is _WORKER_UP:
                for worker, snapshot in self._snapshots.items():
                    if snapshot is None:
                        _add(metric, [str(worker)], 0)
            yield metric
