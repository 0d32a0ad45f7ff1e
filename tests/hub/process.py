"""A hub as a process of its own, as ``fanwire serve`` starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from hub.settings import Settings

__all__ = ["HubProcess"]

_PATIENCE_S = 30.0
_MAIN = """
import sys
import msgspec
from channels.errors import SettingsError
from hub.server import serve
from hub.settings import Settings
if __name__ == "__main__":
    try:
        serve(msgspec.json.decode(sys.argv[1], type=Settings))
    except SettingsError as error:
        sys.exit(str(error))
"""


class HubProcess:
    """A running hub: started when entered, killed in the end if it is still there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # A file, because spawned workers import the main module; errors go to a file, because
        # nobody reads a pipe while the test does something else.
        self._dir = tempfile.TemporaryDirectory(prefix="fw-")
        self.ready_line = ""
        self.url = ""

    def __enter__(self) -> Self:
        main = Path(self._dir.name, "main.py")
        main.write_text(_MAIN)
        with Path(self._dir.name, "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(main), msgspec.json.encode(self._settings).decode()],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            )
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline().decode()
        found = re.search(r"http://\S+", self.ready_line)
        self.url = found[0] if found else ""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._dir.cleanup()

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return Path(self._dir.name, "log").read_text()

    def end(self, sig: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit status."""
        self.process.send_signal(sig)
        return self.wait()

    def wait(self) -> int:
        """Return the exit status, when it has ended."""
        return self.process.wait(_PATIENCE_S)

    def api(self, method: str, **body: Any) -> Any:
        """Call the server API of an insecure hub; return the result."""
        return httpx.post(f"{self.url}/api/{method}", json=body, timeout=10).json()["result"]

    def children(self) -> list[int]:
        """Return the process ids of its children."""
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in text.split()]
