"""One page of a list, and where the next one begins."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

__all__ = ["Page"]

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """``next`` is the cursor of the next page, empty on the last; opaque to callers."""

    items: list[T]
    next: str = ""
