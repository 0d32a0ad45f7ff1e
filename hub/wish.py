"""What somebody who joins a channel wishes to be told of the state behind it."""

from __future__ import annotations

from enum import Enum

__all__ = ["Wish"]


class Wish(Enum):
    """Whether who joins wants a snapshot."""

    NEVER = "never"
    #: Unless it can go on from where it was.
    NEEDED = "needed"
    ALWAYS = "always"
