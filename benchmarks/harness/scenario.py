"""A scenario: what is measured, on which servers, in rounds that alternate between them.

The speed of a machine drifts, ratios within a round hardly do. So each round measures every
server once, each freshly started, and ratios are taken within a round. What cannot run, and
what fails, is told in the report with the reason and never left out in silence.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.peers import Endpoint, Peer, all_peers

from .cores import Cores, choose_cores, pin
from .fanwire_hub import FanwireHub
from .limit import Limit
from .load_client import Load, LoadResult, run_load
from .ports import free_port
from .report import Report

__all__ = ["Case", "NotOffered", "Running", "Sample", "Scenario", "run_scenario"]


class NotOffered(Exception):
    """A server has no such thing as is measured (event streams, for example)."""


@dataclass(frozen=True)
class Sample:
    """What one measurement found: the figure that is compared, and others worth keeping."""

    value: float
    details: dict[str, float] = field(default_factory=dict)
    errors: int = 0

    @classmethod
    def of_load(cls, value: float, result: LoadResult, **details: float) -> Sample:
        """Return a sample with what every run of the load client tells."""
        return cls(
            value,
            {
                "received": result.received,
                "client_idle": result.client_idle,
                "client_cpu_s": result.client_cpu_s,
                "server_cpu_us_a_delivery": _each(result.server_cpu_s * 1e6, result.received),
                **details,
            },
            result.errors,
        )


def _each(total: float, count: int) -> float:
    return round(total / count, 3) if count else 0.0


class Running(NamedTuple):
    """A server while it is measured."""

    endpoint: Endpoint
    port: int
    cores: Cores
    #: How long each measurement takes, as the command line said.
    seconds: float

    def load(self, load: Load) -> LoadResult:
        """Run the load client on its core."""
        return run_load(load, self.port, self.cores.client, server=self.endpoint.pids)


@dataclass(frozen=True)
class Case:
    """One thing that is measured; each server is asked for it once a round."""

    name: str
    measure: Callable[[Running], Sample]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a benchmark measures.

    Attributes:
        name: of the file in ``benchmarks/results``.
        what, unit: for people; ``unit`` is that of the figure that is compared.
        hubs: makes the hubs to measure, with the core of their Redis; the first is the one
            that others are compared to.
        with_limit, with_peers: whether the limit and other people's servers take part.
        seconds: how long a measurement takes unless the command line says otherwise.
        spread: servers may use both cores.
        settings: whatever else describes the measurement, for the report.
        columns: details whose medians are worth a column of the table.
    """

    name: str
    what: str
    unit: str
    cases: Sequence[Case]
    hubs: Callable[[int | None], Sequence[Peer]] = lambda core: [FanwireHub(redis_core=core)]
    with_limit: bool = True
    with_peers: bool = True
    seconds: float = 3
    spread: bool = False
    settings: dict[str, object] = field(default_factory=dict)
    columns: Sequence[str] = ()


def run_scenario(scenario: Scenario) -> None:
    """Measure as the command line says, print a table, write the report."""
    options = _options(scenario)
    _raise_file_limit()
    cores = choose_cores()
    report = Report(
        name=scenario.name,
        what=scenario.what,
        unit=scenario.unit,
        rounds=options.rounds,
        seconds=options.seconds,
        pinned=cores.server is not None and not scenario.spread,
        settings=scenario.settings,
        columns=scenario.columns,
    )
    servers = _servers(scenario, cores, options.peers, report)
    if not scenario.spread:  # what is started inherits it
        pin(0, cores.client)
    for round_number in range(1, options.rounds + 1):
        for server in list(servers):
            _say(f"{scenario.name}: round {round_number} of {options.rounds}: {server.name}")
            reason = _measure(scenario, server, cores, options.seconds, report)
            if reason is not None:
                _say(f"{server.name}: {reason}")
                servers.remove(server)
    report.finish()
    print(report.table())
    _say(f"written: {report.write()}")
    if report.ours in report.failed:
        sys.exit(f"{report.ours} was not measured to the end: {report.failed[report.ours]}")


def _measure(
    scenario: Scenario, server: Peer, cores: Cores, seconds: float, report: Report
) -> str | None:
    """Measure each case on one server; return why it is not to be measured again, if so."""
    port = free_port()
    absent: dict[str, str] = {}
    try:
        with server.running(port, None if scenario.spread else cores.server) as endpoint:
            running = Running(endpoint, port, cores, seconds)
            for case in scenario.cases:
                try:
                    sample = case.measure(running)
                except NotOffered as absence:
                    absent[case.name] = str(absence)
                else:
                    report.add(case.name, server.name, sample.value, sample.details, sample.errors)
    except (RuntimeError, OSError) as error:
        report.failed[server.name] = str(error)
        return f"failed: {error}"
    if len(absent) == len(scenario.cases):
        reason = "; ".join(dict.fromkeys(absent.values()))
        report.missing[server.name] = reason
        return f"missing: {reason}"
    report.missing |= {f"{server.name}, {case}": reason for case, reason in absent.items()}
    return None


def _servers(scenario: Scenario, cores: Cores, wanted: str | None, report: Report) -> list[Peer]:
    """Return what can run here, ours first; the report learns of the rest."""
    servers: list[Peer] = [*scenario.hubs(cores.client)]
    report.ours = servers[0].name
    if scenario.with_limit:
        servers.append(Limit())
    if scenario.with_peers:
        servers += _chosen(all_peers(), wanted)
    found = []
    for server in servers:
        if (reason := server.missing()) is None:
            found.append(server)
            report.versions[server.name] = server.versions()
        else:
            report.missing[server.name] = reason
            _say(f"missing: {server.name}: {reason}")
    return found


def _chosen(peers: list[Peer], wanted: str | None) -> list[Peer]:
    """Return the peers that were named, by module or by name.

    Raises:
        SystemExit: one of the names is not that of a peer.
    """
    if wanted is None:
        return peers
    names = [name for name in wanted.split(",") if name and name != "none"]
    known = {peer.name: peer for peer in peers}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"--peers: expected some of {', '.join(known) or 'none'}; got {unknown[0]!r}")
    return [known[name] for name in names]


def _options(scenario: Scenario) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=scenario.what)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (5)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=scenario.seconds,
        help=f"of each measurement ({scenario.seconds:g})",
    )
    parser.add_argument("--peers", help="names of other servers, with commas; 'none' for none")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("expected at least one round and more than 0 seconds")
    return options


def _raise_file_limit() -> None:
    """Allow as many sockets as the system does, for us and what we start."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ.setdefault("PYTHONUNBUFFERED", "1")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
