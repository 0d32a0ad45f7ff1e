"""Metrics as Prometheus reads them: one table, every worker, nothing twice."""

from __future__ import annotations

import re
from pathlib import Path
from runpy import run_path

import pytest
from prometheus_client import exposition as text_format
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from hub.histogram import BOUNDS_S, Histogram
from hub.metrics.exposition import FAMILIES, SnapshotCollector
from hub.metrics.family import Family
from hub.metrics.process import ProcessUse
from hub.metrics.snapshot import Snapshot
from hub.traffic import Traffic
from services.follower import FollowerStats

ROOT = Path(__file__).parents[3]


def _snapshot(traffic: Traffic | None = None, process: ProcessUse | None = None) -> Snapshot:
    return Snapshot(
        version="1.2.3",
        started_at=1_700_000_000.5,
        traffic=traffic or Traffic(publications=3, deliveries=30, bytes=600),
        connections={"websocket": 10, "sse": 0},
        accepted={"websocket": 12, "sse": 1},
        rooms=2,
        subscriptions=11,
        follower=FollowerStats(repairs=1, backfilled=2, gaps=3, foreign=4, late=5),
        store_ready=True,
        loop_lag=Histogram(),
        process=process or ProcessUse(1.5, 1024, 9),
    )


def _samples(
    snapshots: dict[int, Snapshot | None],
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = text_format.generate_latest(SnapshotCollector(snapshots)).decode()
    samples = [sample for family in parse(text) for sample in family.samples]
    found = {(one.name, frozenset(one.labels.items())): one.value for one in samples}
    assert len(found) == len(samples), "a sample is told twice"
    return found


def _value(
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str
) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def test_both_formats_hold_every_metric() -> None:
    """Prometheus asks for OpenMetrics, people and other collectors get the classic text."""
    collector = SnapshotCollector({0: _snapshot()})
    classic = parse(text_format.generate_latest(collector).decode())
    modern = parse_openmetrics(openmetrics.generate_latest(collector).decode())
    names = {family.name.removesuffix("_total") for family in FAMILIES}
    assert {family.name.removesuffix("_total") for family in classic} == names
    assert {family.name for family in modern} == names


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_the_conventions(family: Family) -> None:
    """A counter ends in _total, a histogram in its unit; the help is a sentence."""
    assert re.fullmatch(r"fanwire(_[a-z]+)+", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert family.kind != "histogram" or family.name.endswith("_seconds")
    assert family.help.endswith(".")
    assert "worker" not in family.labels


def test_each_worker_has_its_samples_and_a_lost_one_is_down() -> None:
    """A worker that did not answer has one sample: that it is down."""
    samples = _samples({0: _snapshot(), 1: None, 2: _snapshot(Traffic(publications=7))})
    assert _value(samples, "fanwire_publications_total", worker="0") == 3
    assert _value(samples, "fanwire_publications_total", worker="2") == 7
    up = {n: _value(samples, "fanwire_worker_up", worker=str(n)) for n in range(3)}
    assert up == {0: 1, 1: 0, 2: 1}
    assert [name for name, labels in samples if ("worker", "1") in labels] == ["fanwire_worker_up"]


def test_histograms_are_cumulative() -> None:
    """Each bucket counts what is up to its bound; the last one is the count."""
    traffic = Traffic()
    for seconds in (0.0001, 0.0002, 0.3, 60.0):
        traffic.write_lag.observe(seconds)
    samples = _samples({0: _snapshot(traffic)})
    name = "fanwire_write_lag_seconds"
    buckets = {
        dict(labels)["le"]: value
        for (of, labels), value in samples.items()
        if of == f"{name}_bucket"
    }
    assert [*map(float, buckets)] == [*BOUNDS_S, float("inf")]
    assert (buckets["0.0001"], buckets["0.00025"], buckets["0.25"]) == (1, 2, 2)
    assert (buckets["0.5"], buckets["10.0"], buckets["+Inf"]) == (3, 3, 4)
    assert _value(samples, f"{name}_count", worker="0") == 4
    assert _value(samples, f"{name}_sum", worker="0") == pytest.approx(60.3003)


def test_drops_are_told_from_zero_and_by_what_was_dropped() -> None:
    """The first drop is an increase; connections and publications are never added up."""
    name = "fanwire_dropped_connections_total"
    samples = _samples({0: _snapshot()})
    assert _value(samples, name, worker="0", reason="slow") == 0
    assert _value(samples, name, worker="0", reason="no_pong") == 0
    samples = _samples({0: _snapshot(Traffic(drops={"slow": 2, "conflated": 5, "new": 1}))})
    assert _value(samples, name, worker="0", reason="slow") == 2
    assert _value(samples, name, worker="0", reason="new") == 1
    assert _value(samples, name, worker="0", reason="conflated") is None
    assert _value(samples, "fanwire_conflated_publications_total", worker="0") == 5


def test_what_the_system_does_not_tell_is_left_out() -> None:
    """Elsewhere than on Linux there is no memory, instead of memory 0."""
    samples = _samples({0: _snapshot(process=ProcessUse(1.5))})
    assert _value(samples, "fanwire_process_cpu_seconds_total", worker="0") == 1.5
    assert _value(samples, "fanwire_process_resident_memory_bytes", worker="0") is None


def test_a_snapshot_survives_its_way_to_a_sibling() -> None:
    """What is decoded is equal, and no longer counts with the original."""
    traffic = Traffic(drops={"slow": 1})
    traffic.write_lag.observe(0.02)
    original = _snapshot(traffic)
    copy = Snapshot.decode(original.encode())
    assert copy == original
    traffic.publications += 1
    assert copy.traffic.publications == 0


def test_the_documentation_is_current() -> None:
    """``python -m docs.make_metrics`` has been run after the last change."""
    script = run_path(str(ROOT / "docs" / "make_metrics.py"))
    assert script["TARGET"].read_text("utf-8") == script["make"]()
