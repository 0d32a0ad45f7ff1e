"""A Valkey for a benchmark: on loopback, nothing on disk, empty."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator

from services.store.binary import find_server_binary

from .cores import pin
from .ports import free_port, wait_for_port

__all__ = ["running_valkey"]


@contextlib.contextmanager
def running_valkey(core: int | None = None) -> Iterator[int]:
    """Run a server on ``core`` for the time of the context; its port.

    Nothing is written to disk: what a disk costs is not what is compared here.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="fw-") as directory:
        process = subprocess.Popen(
            [str(find_server_binary().path), "--port", str(port), "--bind", "127.0.0.1",
             "--save", "", "--appendonly", "no"],
            cwd=directory, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        pin(process.pid, core)
        try:
            wait_for_port(port, process)
            yield port
        finally:
            process.kill()
            process.wait()
