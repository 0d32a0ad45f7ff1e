"""Peers in Python: an environment of their own, and uvicorn with its usual settings.

Their environment is not ours: Django Channels is also called ``channels``, and the versions
are the peer's to choose.
"""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from ._preparation import BUILD, HERE, NOT_BUILT, Stamp, run

__all__ = ["PythonPackages"]


@dataclass(frozen=True)
class PythonPackages:
    """The packages of ``<name>/requirements.txt``, in a virtual environment.

    ``shown`` are those of them whose versions a report tells.
    """

    name: str
    shown: tuple[str, ...]

    def missing(self) -> str | None:
        """Return why ``<name>/server.py`` cannot run; None when it can."""
        return None if self._stamp().is_current() else NOT_BUILT

    def prepare(self) -> None:
        """Make the environment anew, unless it is there with these very versions."""
        if self.missing() is None:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        run([sys.executable, "-m", "venv", str(self._folder)], HERE)
        install = ["install", "--quiet", "--disable-pip-version-check", "--no-input"]
        run([self._python, "-m", "pip", *install, "-r", str(self._requirements)], HERE)
        self._stamp().write()

    def versions(self) -> dict[str, str]:
        """Return the pinned versions of ``shown``, and the interpreter's."""
        pins = dict(
            line.split("==")
            for line in self._requirements.read_text(encoding="utf-8").splitlines()
            if "==" in line
        )
        return {"python": platform.python_version()} | {name: pins[name] for name in self.shown}

    def command(self, port: int) -> list[str]:
        """Return how to serve ``app`` of ``<name>/server.py`` on a port.

        uvloop and httptools are what ``uvicorn[standard]`` takes. ``--ws auto`` takes the
        implementation that uvicorn recommends, its sans-I/O one on ``websockets``.
        """
        return [
            # Isolated from the folder it is started in, where ``channels`` is ours.
            *[self._python, "-I", "-m", "uvicorn"],
            *["server:app", "--app-dir", str(HERE / self.name)],
            *["--host", "127.0.0.1", "--port", str(port)],
            *["--loop", "uvloop", "--http", "httptools", "--ws", "auto"],
            *["--log-level", "warning", "--no-access-log"],
            # A stream that nobody ends would otherwise hold up the end of the server.
            *["--timeout-graceful-shutdown", "1"],
        ]

    def script(self, name: str, *arguments: str) -> list[str]:
        """Return how to run a program of the folder, isolated as the server is."""
        return [self._python, "-I", str(HERE / self.name / name), *arguments]

    @property
    def _folder(self) -> Path:
        return BUILD / self.name

    @property
    def _python(self) -> str:
        return str(self._folder / "bin" / "python")

    @property
    def _requirements(self) -> Path:
        return HERE / self.name / "requirements.txt"

    def _stamp(self) -> Stamp:
        return Stamp(self._folder, self._requirements, platform.python_version())
