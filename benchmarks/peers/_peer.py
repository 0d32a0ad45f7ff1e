"""The peer that most modules here define: something built, and a command that serves it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from . import Endpoint, Subscribe, http_publish, payload
from ._server import running_server

__all__ = ["Program", "ServedPeer"]

_PUBLISH_PATH = "/publish"


class Program(Protocol):
    """A server that is built first and then serves on the port it is told.

    Its adapters are in ``_python.py``, ``_node.py`` and ``_go.py``.
    """

    def missing(self) -> str | None:
        """Return what is not there and how to get it; None when all is."""

    def prepare(self) -> None:
        """Build what is missing and can be built; PreparationError where that fails.

        Does nothing where all is there already.
        """

    def versions(self) -> dict[str, str]:
        """Return the versions of what is there, by name."""

    def command(self, port: int) -> list[str]:
        """Return how to serve on ``127.0.0.1:port``."""


@dataclass(frozen=True)
class ServedPeer:
    """A :class:`~benchmarks.peers.Peer` that sends what is posted to ``/publish`` to everybody.

    ``environment`` is added to the variables of its process.
    """

    name: str
    program: Program
    ws: Subscribe | None = None
    sse: Subscribe | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Return why it cannot run here and how to get it; None when it can."""
        return self.program.missing()

    def prepare(self) -> None:
        """Build what is missing and can be built; PreparationError where that fails."""
        self.program.prepare()

    def versions(self) -> dict[str, str]:
        """Return the versions of what it is made of, by name."""
        return self.program.versions()

    @contextlib.contextmanager
    def running(self, port: int, core: int | None) -> Iterator[Endpoint]:
        """Run the server for the time of the context, as the contract says."""
        if (reason := self.missing()) is not None:
            raise RuntimeError(f"{self.name} cannot run: {reason}")
        command = self.program.command(port)
        with running_server(command, port, core, self.environment) as pids:
            yield Endpoint(self.ws, self.sse, http_publish(port, _PUBLISH_PATH, payload()), pids)
