"""The load client as Python sees it: what it is told, and what it found."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.peers import Publish, Subscribe

from .cores import pin
from .processes import cpu_seconds
from .programs import program

__all__ = ["Group", "Latency", "Load", "LoadResult", "held", "run_load"]

#: A run ends by itself long before; this is for a client that hangs.
_PATIENCE_S = 300


class Latency(msgspec.Struct, frozen=True):
    """From when a message was due until a connection got it, over all deliveries."""

    count: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found; see ``benchmarks/load/load.c``.

    ``client_idle`` is the part of the measured time in which the load client waited for work.
    """

    connections: int
    channels: int
    #: From the first SYN to the last reply to a subscription.
    connect_s: float
    seconds: float = 0
    client_cpu_s: float = 0
    #: Processor time of the server after all had joined, warm-up and the rest of it included.
    server_cpu_s: float = 0
    client_idle: float = 0
    deliveries_per_s: float = 0
    messages_per_s: float = 0
    latency: Latency | None = None
    #: After a storm: from the first SYN until all were subscribed again.
    rejoin_s: float = 0
    published: int = 0
    received: int = 0
    #: Messages that were skipped, came again, were never published, or did not come.
    holes: int = 0
    repeats: int = 0
    strangers: int = 0
    missing: int = 0

    @property
    def errors(self) -> int:
        """Deliveries that were not as promised."""
        return self.holes + self.repeats + self.strangers + self.missing


@dataclass(frozen=True)
class Group:
    """Connections that are made alike."""

    subscribe: Subscribe
    connections: int
    sse: bool = False


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the load client does; the comments in ``load --help`` are the long version."""

    groups: Sequence[Group]
    publish: Publish | None = None
    channels: int = 1
    concurrency: int = 100
    window: int = 1
    #: Messages a second, whatever is on its way; 0 goes by the window.
    rate_per_s: float = 0
    seconds: float = 1
    warm_up_s: float = 0.5
    #: Messages published while everybody is away; 0: no storm.
    storm: int = 0
    #: How long nothing may come, and how long what was published may take to come.
    patience_s: float = 20
    drain_s: float = 60

    def arguments(self, port: int, template: Path) -> list[str]:
        """Return the command line, for a server on ``port``; writes the request's template."""
        arguments = ["--port", str(port), "--channels", str(self.channels)]
        for group in self.groups:
            told = group.subscribe
            arguments += ["--sse" if group.sse else "--ws", str(group.connections)]
            arguments += ["--path", told.path, "--ready", told.ready]
            arguments += ["--ping", told.ping, "--pong", told.pong]
            for text in told.hello:
                arguments += ["--hello", text]
            for text in told.recover:
                arguments += ["--recover", text]
        for name in ("concurrency", "window", "seconds", "patience_s", "drain_s", "warm_up_s"):
            option = name.removesuffix("_s").replace("_", "-")
            arguments += [f"--{option}", str(getattr(self, name))]
        if self.rate_per_s:
            arguments += ["--rate", str(self.rate_per_s)]
        if self.storm:
            arguments += ["--storm", str(self.storm)]
        if self.publish is not None:
            template.write_bytes(self.publish.template)
            arguments += ["--publish", str(template), "--publish-port", str(self.publish.port)]
            arguments += ["--resp"] if self.publish.protocol == "resp" else []
        return arguments


def run_load(
    load: Load, port: int, core: int | None = None, *, server: tuple[int, ...] = ()
) -> LoadResult:
    """Run the load client once, on ``core``; ``server`` are the processes it loads.

    Raises:
        RuntimeError: it could not do what it was told, in its own words: the server refused,
            closed, or said nothing for ``patience_s``.
    """
    with tempfile.TemporaryDirectory(prefix="fw-") as directory:
        arguments = load.arguments(port, Path(directory) / "template")
        with _running(arguments, core) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()  # all have joined, or it failed
            before_s = cpu_seconds(server)
            # Not communicate(): it would not know of what came together with the first line.
            out, err = process.stdout.read(), process.stderr.read()
            process.wait(_PATIENCE_S)
    if process.returncode:
        raise RuntimeError(f"load client: {err.strip()}")
    result = msgspec.json.decode(out, type=LoadResult)
    return msgspec.structs.replace(result, server_cpu_s=cpu_seconds(server) - before_s)


@contextlib.contextmanager
def held(load: Load, port: int, core: int | None = None) -> Iterator[None]:
    """Hold the connections of ``load`` for the time of the context; publishes nothing.

    Raises:
        RuntimeError: a connection was refused, or did not last until the end.
    """
    with _running([*load.arguments(port, Path()), "--hold"], core) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"load client: {process.communicate()[1].strip()}")
        yield
        _, err = process.communicate(timeout=_PATIENCE_S)
        if process.returncode:
            raise RuntimeError(f"load client: {err.strip()}")


@contextlib.contextmanager
def _running(arguments: list[str], core: int | None) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [str(program("load")), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            pin(process.pid, core)
            yield process
        finally:
            process.kill()
