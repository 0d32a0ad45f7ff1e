"""A server process of a peer: started on its core, awaited, ended by its id.

Refuses to run beside a stranger on the same port: its answers would be measured instead.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["running_server"]

_START_S = 30.0
_END_S = 10.0
#: Between two looks whether the server accepts connections.
_LOOK_S = 0.02
_SAID_BYTES = 2000


@contextlib.contextmanager
def running_server(
    command: Sequence[str],
    port: int,
    core: int | None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[int, ...]]:
    """Run a server for the time of the context, and yield the ids of its processes.

    Enters when it accepts connections on ``127.0.0.1:port``. It runs on ``core`` alone unless
    that is None, and may open as many files as the system allows. ``environment`` is added to
    the one of this process. ``RuntimeError`` says why it did not start.
    """
    _require_free(port)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*_limits(core), *command],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own, so that nothing it starts can outlive it.
            start_new_session=True,
        )
        try:
            if (fault := _await_connections(process, port)) is not None:
                said = _end_of(output.fileno())
                raise RuntimeError(f"{Path(command[0]).name} {fault}; it said: {said or 'nothing'}")
            yield (process.pid, *_children(process.pid))
        finally:
            _end(process)


def _limits(core: int | None) -> list[str]:
    """Return the programs that set limits and then become the server, under the same id.

    The affinity stands before the server's first thread does.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = ["prlimit", f"--nofile={most}:{most}"]
    return files if core is None else [*files, "taskset", "--cpu-list", str(core)]


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise RuntimeError(f"port {port} must be free, and is not: {error}") from error


def _await_connections(process: subprocess.Popen[bytes], port: int) -> str | None:
    """Return None once the server accepts connections, or what it did instead."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if (status := process.poll()) is not None:
            return f"ended with status {status} before it accepted connections"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=_LOOK_S).close()
        except OSError:
            time.sleep(_LOOK_S)
        else:
            return None
    return f"did not accept connections on port {port} within {_START_S:.0f} s"


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text(encoding="ascii").split()]


def _end_of(output: int) -> str:
    length = os.fstat(output).st_size
    said = os.pread(output, _SAID_BYTES, max(0, length - _SAID_BYTES))
    return said.decode(errors="replace").strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
