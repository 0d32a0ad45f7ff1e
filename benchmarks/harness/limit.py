"""The limit: a server that does nothing but one ``send()`` a connection."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from benchmarks.peers import Endpoint, Subscribe, http_publish, payload

from .cores import pin
from .ports import wait_for_port
from .programs import program

__all__ = ["Limit"]


class Limit:
    """``benchmarks/load/limit.c`` as a peer."""

    name = "limit: C, bare send()"

    def missing(self) -> str | None:
        """Return why it cannot be compiled."""
        try:
            program("limit")
        except RuntimeError as error:
            return str(error)
        return None

    def versions(self) -> dict[str, str]:
        """Return the compiler."""
        line = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True)
        return {"gcc": line.stdout.partition("\n")[0]}

    @contextlib.contextmanager
    def running(self, port: int, core: int | None) -> Iterator[Endpoint]:
        """Run it."""
        process = subprocess.Popen([str(program("limit")), str(port)])
        pin(process.pid, core)
        try:
            wait_for_port(port, process)
            publish = http_publish(port, "/publish", payload())
            yield Endpoint(Subscribe("/"), Subscribe("/"), publish, (process.pid,))
        finally:
            process.kill()
            process.wait()
