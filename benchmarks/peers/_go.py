"""Peers in Go, built offline from the sources that Debian packages."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ._debian import DebianPackages
from ._preparation import BUILD, HERE, NOT_BUILT, Stamp, run

__all__ = ["GoProgram"]

#: Where Debian's ``golang-*-dev`` packages put their sources.
_GOPATH = "/usr/share/gocode"


@dataclass(frozen=True)
class GoProgram:
    """The program of ``<name>/main.go``, with the Debian packages that it is built from.

    ``shown`` are those of them whose versions a report tells.
    """

    name: str
    sources: DebianPackages
    shown: tuple[str, ...]

    def missing(self) -> str | None:
        """Return why the program cannot be built or run; None when it can run."""
        if (reason := self.sources.missing()) is not None:
            return reason
        return None if self._stamp().is_current() else NOT_BUILT

    def prepare(self) -> None:
        """Build the program, unless it is there or what it is built from is not."""
        if self.missing() is None or self.sources.missing() is not None:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        environment = {key: value for key, value in os.environ.items() if key != "GOFLAGS"}
        # The path is searched and no module fetched: the build needs no network.
        environment |= {"GO111MODULE": "off", "GOPATH": _GOPATH, "GOTOOLCHAIN": "local"}
        environment |= {"GOCACHE": str(BUILD / "go-cache"), "CGO_ENABLED": "0"}
        build = ["go", "build", "-trimpath", "-o", str(self._program), "main.go"]
        run(build, HERE / self.name, environment)
        self._stamp().write()

    def versions(self) -> dict[str, str]:
        """Return the versions of those of ``shown`` that are installed."""
        installed = self.sources.versions()
        return {name: installed[name] for name in self.shown if name in installed}

    def command(self, port: int) -> list[str]:
        """Return how to serve on a port."""
        return [str(self._program), str(port)]

    @property
    def _folder(self) -> Path:
        return BUILD / self.name

    @property
    def _program(self) -> Path:
        return self._folder / "server"

    def _stamp(self) -> Stamp:
        versions = sorted(self.sources.versions().items())
        return Stamp(self._folder, HERE / self.name / "main.go", repr(versions))
