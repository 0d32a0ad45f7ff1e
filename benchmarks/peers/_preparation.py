"""How what a peer is made of comes under ``build/peers``: by running tools, once.

Nothing here starts a server, and nothing installs packages of the operating system: that is
the user's to do, so the reason of a peer that cannot run names the command.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["BUILD", "HERE", "NOT_BUILT", "PreparationError", "Stamp", "run"]

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "peers"
#: The reason of a peer whose build is absent or stale.
NOT_BUILT = "not built yet: python -m benchmarks.peers"
#: Downloads and compilers; a hung one must not hang the benchmark for ever.
_PATIENCE_S = 600
_LINES_SHOWN = 5


class PreparationError(Exception):
    """Something could not be built; the message ends with what the failing program said."""


class Stamp:
    """Says in a file that a folder was built, and from which inputs.

    A changed input makes it stale, so no peer runs on yesterday's build.
    """

    __slots__ = ("_inputs", "_path")

    def __init__(self, folder: Path, *inputs: Path | str) -> None:
        self._path = folder / ".ready"
        self._inputs = inputs

    def is_current(self) -> bool:
        """Return whether the folder was built from these inputs, to the end."""
        try:
            return self._path.read_text(encoding="ascii") == self._digest()
        except OSError:
            return False

    def write(self) -> None:
        """State that the folder has been built."""
        self._path.write_text(self._digest(), encoding="ascii")

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for entry in self._inputs:
            digest.update(entry.encode() if isinstance(entry, str) else entry.read_bytes())
            digest.update(b"\0")
        return digest.hexdigest()


def run(command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed; PreparationError if it fails.

    ``environment`` replaces the environment of this process; None hands it down.
    """
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreparationError(f"{shown}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-_LINES_SHOWN:]
        raise PreparationError(f"{shown} ended with status {done.returncode}: {' | '.join(said)}")
    return done.stdout
