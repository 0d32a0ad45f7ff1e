"""Which version of Fanwire this is."""

from __future__ import annotations

import importlib.metadata

__all__ = ["version"]


def version() -> str:
    """Return the version that is installed; ``0+checkout`` where none is (a bare checkout)."""
    try:
        return importlib.metadata.version("fanwire")
    except importlib.metadata.PackageNotFoundError:
        return "0+checkout"
