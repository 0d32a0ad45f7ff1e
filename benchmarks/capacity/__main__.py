"""Fits, simulates, checks, prints; renews docs/capacity.md and benchmarks/results/capacity.json.

    python -m benchmarks.capacity

It reads what the benchmarks wrote to benchmarks/results and measures nothing itself.
"""

from __future__ import annotations

import json
import sys

from benchmarks.hub_process import RESULTS, ROOT

from .costs import fit_costs
from .limits import limits_of
from .plan import WORKLOADS, plan
from .report import as_json, sections
from .results import Results, ResultsError
from .sections import replace_sections
from .validation import validate

CONNECTIONS = (10_000, 100_000, 1_000_000, 10_000_000)
TARGET = ROOT / "docs" / "capacity.md"


def main() -> None:
    """Do it all, or say what is missing."""
    results = Results()
    try:
        fitted = fit_costs(results)
        checks = validate(results, fitted.costs)
        report = results.report("costs")
    except ResultsError as error:
        sys.exit(str(error))
    plans = [
        plan(workload, connections, fitted.costs)
        for workload in WORKLOADS
        for connections in CONNECTIONS
    ]
    limits = [limits_of(workload, fitted.costs) for workload in WORKLOADS]
    told = sections(fitted, checks, limits, plans, report)
    for name, text in told.items():
        print(f"\n== {name}\n\n{text}")
    text = replace_sections(TARGET.read_text(encoding="utf-8"), told)
    TARGET.write_text(text, encoding="utf-8")
    path = RESULTS / "capacity.json"
    found = as_json(fitted, checks, limits, plans, report)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"written: {TARGET.relative_to(ROOT)}, {path.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
