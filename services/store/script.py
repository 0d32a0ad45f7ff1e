"""Lua scripts as files: one script a mutation, loaded once, run by SHA.

A line ``-- include NAME`` stands for ``lua/lib/NAME.lua``: what several scripts do alike.

Bodies carry no shebang: the flag that Upstash needs is an error on Redis and Valkey, so an
adapter that needs it adds it (and computes the SHA of what it sends).
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files

__all__ = ["Script", "load_script"]


class Script:
    """The text of one Lua script and the SHA1 by which a server caches it."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        # Redis names scripts by SHA1; it is a cache key, not a defence.
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"Script({self.name!r}, sha={self.sha[:8]})"


@cache
def load_script(name: str) -> Script:
    """Return the script in ``lua/<name>.lua``; the same object for every caller."""
    text = _INCLUDE.sub(lambda found: _read("lib", f"{found[1]}.lua"), _read(f"{name}.lua"))
    return Script(name, text)


_INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)


def _read(*path: str) -> str:
    return files(__package__).joinpath("lua", *path).read_text(encoding="utf-8")
