"""Where a publication stands in its channel's event log."""

from __future__ import annotations

import msgspec

__all__ = ["MAX_OFFSET", "Position"]

#: JSON numbers are exact up to 2^53; an offset never exceeds it.
MAX_OFFSET = 2**53 - 1


class Position(msgspec.Struct, frozen=True):
    """The place of one publication, or of a reader that has seen everything up to it.

    Offsets start at 1 and are contiguous within an epoch; offset 0 is "before the first".
    A new ``epoch`` means that history was lost: offsets of different epochs do not compare.
    """

    epoch: str
    offset: int
