"""Medians, ranges and ratios are those of the rounds, and nothing is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness import report as module
from benchmarks.harness.report import Report, spread


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """A report of two rounds of ours and another, and of a server that is not there."""
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    report = Report(
        name="x",
        what="things",
        unit="things/s",
        rounds=2,
        seconds=1,
        pinned=True,
        settings={},
        columns=["weight"],
    )
    report.ours = "ours"
    for ours, theirs in ((100.0, 50.0), (300.0, 100.0)):
        report.add("case", "ours", ours, {"client_idle": 0.5, "weight": 7}, 0)
        report.add("case", "theirs", theirs, {"client_idle": 0.25, "weight": 7}, 1)
        report.add("case", "fast", theirs, {"client_idle": 0.05, "weight": 7}, 0)
    report.missing["nowhere"] = "it is not installed: install it"
    report.failed["broken"] = "it ended with status 1"
    report.finish()
    return report


def test_ratios_are_taken_within_a_round(report: Report, tmp_path: Path) -> None:
    """The ratio of the medians would be 2.67; that of the rounds is 2 and 3."""
    assert (tmp_path / report.write()).is_file()
    found = json.loads((tmp_path / "results" / "x.json").read_text("utf-8"))
    theirs = found["results"]["case"]["theirs"]
    assert theirs["ours_to_this"] == {"median": 2.5, "min": 2.0, "max": 3.0}
    assert (theirs["median"], theirs["errors"]) == (75.0, 2)
    assert theirs["details"]["client_idle"]["median"] == 0.25
    assert "ours_to_this" not in found["results"]["case"]["ours"]
    assert found["missing"] == {"nowhere": "it is not installed: install it"}
    assert found["failed"] == {"broken": "it ended with status 1"}


def test_the_table_tells_what_is_missing_and_wrong(report: Report) -> None:
    """Whatever did not run or miscounted is in the table."""
    table = report.table()
    assert "missing  nowhere: it is not installed: install it" in table
    assert "FAILED   broken: it ended with status 1" in table
    assert "2 ERRORS" in table
    assert " weight " in table
    assert [line.split()[0] for line in table.splitlines() if "CLIENT BUSY" in line] == ["fast"]


def test_spread_has_four_digits() -> None:
    """Figures are rounded to what a measurement can mean."""
    assert spread([12_345.678, 1, 99_999]) == {"median": 12_350.0, "min": 1.0, "max": 100_000.0}
