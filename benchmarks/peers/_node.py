"""Peers in JavaScript: packages from npm beside a copy of the server, under ``build/peers``."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ._preparation import BUILD, HERE, NOT_BUILT, Stamp, run

__all__ = ["NodePackages"]


@dataclass(frozen=True)
class NodePackages:
    """The packages of ``<name>/package.json``, for ``<name>/server.mjs``."""

    name: str

    def missing(self) -> str | None:
        """Return why ``<name>/server.mjs`` cannot run; None when it can."""
        for tool in ("node", "npm"):
            if shutil.which(tool) is None:
                return f"{tool} is not on PATH: apt-get install nodejs npm"
        return None if self._stamp().is_current() else NOT_BUILT

    def prepare(self) -> None:
        """Install the packages anew, unless they are there in these very versions.

        No install script runs: the native add-ons that peers use come prebuilt.
        """
        if self.missing() is None:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        for source in self._sources:
            # Modules are looked up beside the file that imports them.
            shutil.copy(source, self._folder)
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        run(["npm", "install", *options, "--loglevel=error"], self._folder)
        self._stamp().write()

    def versions(self) -> dict[str, str]:
        """Return the versions of ``package.json``, and Node's where it is there."""
        package = json.loads((HERE / self.name / "package.json").read_text(encoding="utf-8"))
        versions: dict[str, str] = dict(package["dependencies"])
        if shutil.which("node") is not None:
            said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
            versions["node"] = said.stdout.strip().removeprefix("v")
        return versions

    def command(self, port: int) -> list[str]:
        """Return how to serve ``<name>/server.mjs`` on a port."""
        return ["node", str(self._folder / "server.mjs"), str(port)]

    @property
    def _folder(self) -> Path:
        return BUILD / self.name

    @property
    def _sources(self) -> tuple[Path, Path]:
        return HERE / self.name / "package.json", HERE / self.name / "server.mjs"

    def _stamp(self) -> Stamp:
        return Stamp(self._folder, *self._sources)
