"""Runs that the fit has not seen, predicted and compared with what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from .costs import Costs
from .results import Results
from .runs import run_paced, run_window

__all__ = ["Check", "validate"]

_MANY = "check, 10,000 connections on 2,000 channels, window 100"
_STEADY = "check, 3,000 connections on 1,000 channels, 2,000 messages/s"
_MIXED = "10,000 connections, 2,000 channels"
_PACED = "1,000 connections, 50/s"


@dataclass(frozen=True)
class Check:
    """A figure that was predicted and measured."""

    run: str
    what: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Return how far the prediction is off, as a part of what was measured."""
        return self.predicted / self.measured - 1


def validate(results: Results, costs: Costs) -> list[Check]:
    """Predict the benchmarks that are checks, in the simulation, and compare.

    Raises:
        ResultsError: one of them was not measured.
    """
    return [*_many(results, costs), *_steady(results, costs), *_paced(results, costs)]


def _many(results: Results, costs: Costs) -> list[Check]:
    window = int(results.setting("mixed", "window"))
    found = run_window(costs, channels=2_000, connections=10_000, window=window, seconds=2)
    us_each = found.hub_busy * 1e6 / (found.deliveries_per_s / 5)
    run = "mixed: 10,000 connections, 2,000 channels, 100 messages on their way"
    return [
        Check(
            run, "hub CPU a publication, us", us_each,
            results.detail("costs", _MANY, "hub_us_per_publication"),
        ),
        Check(run, "deliveries/s", found.deliveries_per_s, results.value("mixed", _MIXED)),
        Check(run, "p99, ms", found.p99_ms, results.detail("mixed", _MIXED, "p99_ms")),
    ]  # fmt: skip


def _steady(results: Results, costs: Costs) -> list[Check]:
    found = run_paced(costs, connections=3_000, channels=1_000, per_s=2_000, seconds=2)
    run = "steady: 3,000 connections, 1,000 channels, 2,000 messages/s"
    measured = results.detail("costs", _STEADY, "hub_utilisation")
    return [Check(run, "hub busy, part of a core", found.hub_busy, measured)]


def _paced(results: Results, costs: Costs) -> list[Check]:
    per_s = results.setting("paced", "rate_per_s")
    connections = int(results.setting("paced", "connections"))
    found = run_paced(costs, connections=connections, per_s=per_s, seconds=5)
    run = f"paced: {connections:,} connections, 1 channel, {per_s:g} messages/s"
    return [
        Check(
            run, "deliveries/s", found.deliveries_per_s,
            results.detail("paced", _PACED, "deliveries_per_s"),
        ),
        Check(run, "p50, ms", found.p50_ms, results.detail("paced", _PACED, "p50_ms")),
        Check(run, "p99, ms", found.p99_ms, results.detail("paced", _PACED, "p99_ms")),
    ]  # fmt: skip
