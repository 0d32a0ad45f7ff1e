"""What a metric is: its name, help and labels, and where its values stand in a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Literal, NamedTuple, TypeAlias

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from hub.histogram import BOUNDS_S, Histogram
from hub.metrics.snapshot import Snapshot

__all__ = ["Family", "add_sample", "by_label", "one"]

_Value: TypeAlias = float | Histogram
_Read: TypeAlias = Callable[[Snapshot], Iterable[tuple[tuple[str, ...], _Value | None]]]

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
                    add_sample(metric, [str(worker), *values], value)
        return metric


_KINDS = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def add_sample(metric: Metric, labels: list[str], value: _Value) -> None:
    """Add a value to ``metric``; raises ``TypeError`` where it is of another kind."""
    if isinstance(metric, HistogramMetricFamily) and isinstance(value, Histogram):
        buckets = list(zip(_LE, map(float, accumulate(value.counts)), strict=True))
        metric.add_metric(labels, buckets, value.sum_s)
    elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily) and not isinstance(
        value, Histogram
    ):
        metric.add_metric(labels, value)
    else:
        raise TypeError(f"metric {metric.name!r} is a {metric.type}; got {value!r}")


def one(read: Callable[[Snapshot], _Value | None]) -> _Read:
    """Read a metric that has no labels of its own."""
    return lambda snapshot: [((), read(snapshot))]


def by_label(read: Callable[[Snapshot], dict[str, int]]) -> _Read:
    """Read a metric that has one label."""
    return lambda snapshot: [((key,), value) for key, value in sorted(read(snapshot).items())]
