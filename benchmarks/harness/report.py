"""The report of a scenario: medians, ranges and ratios, as a table and as JSON."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.hub_process import RESULTS, ROOT, machine
from benchmarks.peers import PAYLOAD_BYTES

__all__ = ["Report", "spread"]

#: A load client that waits for work for a smaller part of the time may be what is measured.
_LEAST_IDLE = 0.1


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and greatest of ``values``, to four significant digits."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: _rounded(value) for name, value in found.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


class Report:
    """Collects samples round by round; a server that failed keeps those it gave before."""

    def __init__(
        self,
        *,
        name: str,
        what: str,
        unit: str,
        rounds: int,
        seconds: float,
        pinned: bool,
        settings: dict[str, object],
        columns: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._columns = columns
        self.unit = unit
        self.ours = ""
        self.missing: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self._head = {
            "what": what,
            "unit": unit,
            "payload_bytes": PAYLOAD_BYTES,
            "rounds": rounds,
            "seconds": seconds,
            "server_alone_on_its_core": pinned,
            **settings,
        }
        self._values: dict[str, dict[str, list[float]]] = {}
        self._details: dict[str, dict[str, list[dict[str, float]]]] = {}
        self._errors: dict[str, dict[str, int]] = {}
        self._results: dict[str, dict[str, dict[str, object]]] = {}

    def add(
        self, case: str, server: str, value: float, details: dict[str, float], errors: int
    ) -> None:
        """Take one sample."""
        self._values.setdefault(case, {}).setdefault(server, []).append(value)
        self._details.setdefault(case, {}).setdefault(server, []).append(details)
        counted = self._errors.setdefault(case, {})
        counted[server] = counted.get(server, 0) + errors

    def finish(self) -> None:
        """Work out medians, ranges, and the ratio of ours to each server within each round."""
        for case, servers in self._values.items():
            rows = self._results.setdefault(case, {})
            ours = servers.get(self.ours, [])
            for server, values in servers.items():
                row: dict[str, object] = {**spread(values)}
                pairs = [
                    mine / theirs for mine, theirs in zip(ours, values, strict=False) if theirs
                ]
                if server != self.ours and pairs:
                    row["ours_to_this"] = spread(pairs)
                row["errors"] = self._errors[case][server]
                samples = self._details[case][server]
                row["details"] = {
                    name: spread([sample[name] for sample in samples]) for name in samples[0]
                }
                rows[server] = row

    def table(self) -> str:
        """Return the results for a terminal."""
        width = max([len(name) for names in self._results.values() for name in names] + [24])
        lines = [f"{self._head['what']}"]
        for case, rows in self._results.items():
            more = "".join(f"{column:>18}" for column in self._columns)
            heads = f"{self.unit:>34}{'ours / this':>26}{more}{'client idle':>13}"
            lines += ["", f"{case:{width}}{heads}"]
            lines += [self._line(width, server, row) for server, row in rows.items()]
        lines += [f"missing  {server}: {reason}" for server, reason in self.missing.items()]
        lines += [f"FAILED   {server}: {reason}" for server, reason in self.failed.items()]
        return "\n".join(lines)

    def _line(self, width: int, server: str, row: dict[str, object]) -> str:
        ratio, details = row.get("ours_to_this"), row["details"]
        assert isinstance(details, dict)
        idle = details.get("client_idle")
        cells = f"{server:{width}}{_cell(row):>34}{_cell(ratio) if ratio else '':>26}"
        for column in self._columns:
            cells += f"{_number(details[column]['median']):>18}"
        cells += f"{idle['median']:>13.0%}" if idle else ""
        cells += "   CLIENT BUSY" if idle and idle["median"] < _LEAST_IDLE else ""
        return cells + (f"   {row['errors']} ERRORS" if row["errors"] else "")

    def write(self) -> Path:
        """Write ``benchmarks/results/<name>.json``; its path from the root of the repository."""
        report = {
            **self._head,
            "ours": self.ours,
            "commit": _commit(),
            "machine": machine(),
            "versions": self.versions,
            "results": self._results,
            "missing": self.missing,
            "failed": self.failed,
        }
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        return path.relative_to(ROOT)


def _cell(found: object) -> str:
    assert isinstance(found, dict)
    median, least, most = (_number(found[name]) for name in ("median", "min", "max"))
    return f"{median} ({least}-{most})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _commit() -> str:
    """Return the commit that was measured, with a note when files differed from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results"
    )
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (
        " with changes" if changed else ""
    )
