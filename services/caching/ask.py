"""What a caller asks of a cache, and the rules for names."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import msgspec

from channels.errors import BadRequest

from .settings import CachePolicy

__all__ = ["Ask", "Loader", "check_key", "check_names", "check_tag"]

#: Brings a value from its source: awaitable, or not.
Loader: TypeAlias = "Callable[[], Awaitable[Any] | Any]"

_is_name = re.compile(r"\A[^\x00-\x20\x7f\ud800-\udfff]{1,256}\Z").match


class Ask(msgspec.Struct, gc=False):
    """One call of ``get_or_set``."""

    key: str
    loader: Loader
    #: The type that the value is read as.
    shape: Any
    tags: tuple[str, ...]
    policy: CachePolicy
    #: Whether a value means that there is none; None: that it is None.
    missing: Callable[[Any], bool] | None = None

    def is_missing(self, value: object) -> bool:
        """Tell whether what was loaded means that there is nothing."""
        return value is None if self.missing is None else self.missing(value)


def check_key(key: str) -> str:
    """Return ``key`` if it is one.

    Raises:
        BadRequest: it is not 1-256 characters without white space and control characters.
    """
    return _check(key, "a cache key")


def check_tag(tag: str) -> str:
    """Return ``tag`` if it is one; raises like :func:`check_key`."""
    return _check(tag, "a cache tag")


def check_names(names: Iterable[str] | str, check: Callable[[str], str]) -> list[str]:
    """Return checked names, each once, in order; one may stand for a list of one."""
    return list(dict.fromkeys(map(check, (names,) if isinstance(names, str) else names)))


def _check(name: str, what: str) -> str:
    if not isinstance(name, str) or not _is_name(name):
        raise BadRequest(
            f"{what} must be 1-256 characters without white space and control characters; "
            f"got {name!r:.80}"
        )
    return name
