"""Snapshots as Prometheus metrics: one table of what there is, and a collector that reads it.

Every sample has a label ``worker``, the number of the worker's place on the port. A worker that
is replaced begins at 0 in the same place, which Prometheus knows as the reset of a counter:
``rate()`` and ``increase()`` go on over it. To carry the old figures over would need them to be
right after a crash, and they would be those of a moment before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hub.metrics.families_of_hub import HUB_FAMILIES, WORKER_UP
from hub.metrics.families_of_services import SERVICE_FAMILIES
from hub.metrics.family import Family, add_sample
from hub.metrics.snapshot import Snapshot

__all__ = ["FAMILIES", "SnapshotCollector"]

#: Every metric, in the order in which they are told.
FAMILIES: tuple[Family, ...] = (*HUB_FAMILIES, *SERVICE_FAMILIES)


class SnapshotCollector(Collector):
    """The metrics of the workers of one port; a worker without a snapshot is down."""

    def __init__(self, snapshots: Mapping[int, Snapshot | None]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for family in FAMILIES:
            metric = family.metric(self._snapshots)
            if family is WORKER_UP:
                for worker, snapshot in self._snapshots.items():
                    if snapshot is None:
                        add_sample(metric, [str(worker)], 0)
            yield metric
