"""The programs in C, compiled when they are needed and their source has changed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.hub_process import ROOT

__all__ = ["program"]

_SOURCES = Path(__file__).parents[1] / "load"
_BUILD = ROOT / "build" / "benchmarks"
_FILES = {
    "load": ("load", "subscriber", "publisher", "ledger", "histogram", "options", "wire"),
    "limit": ("limit", "wire"),
}
_FLAGS = (
    "-std=gnu11", "-D_GNU_SOURCE", "-O2",
    "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror",
)  # fmt: skip


def program(name: str) -> Path:
    """Return the compiled ``load`` or ``limit``.

    Raises:
        RuntimeError: there is no gcc, or it refused the source.
    """
    sources = [_SOURCES / f"{file}.c" for file in _FILES[name]]
    built = _BUILD / name
    newest = max(path.stat().st_mtime for path in (*sources, *_SOURCES.glob("*.h")))
    if built.exists() and built.stat().st_mtime > newest:
        return built
    if shutil.which("gcc") is None:
        raise RuntimeError(
            "the load client is C and gcc compiles it; on Debian: apt-get install gcc"
        )
    _BUILD.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["gcc", *_FLAGS, *map(str, sources), "-lm", "-o", str(built)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"gcc refused benchmarks/load/{name}.c:\n{done.stderr}")
    return built
