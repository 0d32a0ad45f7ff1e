"""The measurements that the model stands on, as the benchmarks wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.hub_process import RESULTS

__all__ = ["Results", "ResultsError"]


class ResultsError(Exception):
    """A measurement is not there, or not as its benchmark writes it."""


class Results:
    """Reads ``<name>.json`` in a folder, each once."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self._folder = folder
        self._reports: dict[str, dict[str, Any]] = {}

    def report(self, name: str) -> dict[str, Any]:
        """Return the report of ``benchmarks/bench_<name>.py``.

        Raises:
            ResultsError: there is none, or it is no JSON object.
        """
        if name not in self._reports:
            path = self._folder / f"{name}.json"
            again = f"run: python -m benchmarks.bench_{name}"
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise ResultsError(f"expected {path.name} in {path.parent}; {again}") from None
            except ValueError as error:
                raise ResultsError(f"expected JSON in {path.name}; {error}; {again}") from None
            if not isinstance(found, dict) or not isinstance(found.get("results"), dict):
                raise ResultsError(f'expected an object with "results" in {path.name}; {again}')
            self._reports[name] = found
        return self._reports[name]

    def cases(self, name: str) -> list[str]:
        """Return the cases that a report has."""
        return list(self.report(name)["results"])

    def value(self, name: str, case: str) -> float:
        """Return the median of the figure that a report compares, of ours."""
        return self._median(name, case, self._row(name, case))

    def detail(self, name: str, case: str, detail: str) -> float:
        """Return the median of another figure of ours.

        Raises:
            ResultsError: the case is missing, failed or does not tell it.
        """
        details = self._row(name, case).get("details", {})
        if detail not in details:
            told = ", ".join(details) or "nothing"
            raise ResultsError(f"expected {detail!r} of {case!r} in {name}.json; it has {told}")
        return self._median(name, case, details[detail])

    def setting(self, name: str, setting: str) -> float:
        """Return a number that describes the measurement."""
        found = self.report(name).get(setting)
        if not isinstance(found, int | float):
            raise ResultsError(f"expected the number {setting!r} in {name}.json; it has {found!r}")
        return float(found)

    def _row(self, name: str, case: str) -> dict[str, Any]:
        report = self.report(name)
        ours = report.get("ours", "")
        row = report["results"].get(case, {}).get(ours)
        if not isinstance(row, dict):
            raise ResultsError(
                f"expected case {case!r} of {ours!r} in {name}.json; it has "
                f"{', '.join(report['results']) or 'none'} "
                f"(failed: {report.get('failed') or 'none'}); "
                f"run: python -m benchmarks.bench_{name}"
            )
        return row

    def _median(self, name: str, case: str, found: object) -> float:
        median = found.get("median") if isinstance(found, dict) else None
        if not isinstance(median, int | float):
            raise ResultsError(f"expected a median of {case!r} in {name}.json; got {found!r}")
        return float(median)
