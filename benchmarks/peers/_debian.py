"""Packages of Debian that peers need. They are looked for, never installed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

__all__ = ["DebianPackages"]


@dataclass(frozen=True)
class DebianPackages:
    """Packages that the user installs; ``names`` are what ``apt-get`` calls them."""

    names: tuple[str, ...]

    def missing(self) -> str | None:
        """Return which are not installed, and the command that installs them; None if none."""
        versions = self.versions()
        absent = [name for name in self.names if name not in versions]
        if not absent:
            return None
        are = "is" if len(absent) == 1 else "are"
        return (
            f"{' and '.join(absent)} {are} not installed: "
            f"apt-get install --no-install-recommends {' '.join(self.names)}"
        )

    def versions(self) -> dict[str, str]:
        """Return the versions of those that are installed."""
        if shutil.which("dpkg-query") is None:
            return {}
        shown = "${db:Status-Status} ${Package} ${Version}\n"
        # It fails where one package is unknown, and still tells the others.
        said = subprocess.run(
            ["dpkg-query", "--show", f"--showformat={shown}", *self.names],
            capture_output=True,
            text=True,
            check=False,
        )
        rows = (line.split(" ") for line in said.stdout.splitlines())
        return {name: version for status, name, version in rows if status == "installed"}
