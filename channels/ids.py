"""Identifiers: what one may look like, and how a new one is made."""

from __future__ import annotations

import base64
import os
import re
from typing import Annotated, TypeAlias

from msgspec import Meta

from .errors import BadRequest

__all__ = ["ID_PATTERN", "Id", "check_id", "new_id"]

#: Linear, and anchored with \A and \Z because ``$`` would let a trailing newline pass. No
#: separator of ours (``:``, ``{``, ``}``), no glob character and no comma can occur in an
#: id, so ids can be joined into channel names and Redis keys without escaping.
ID_PATTERN = r"\A[A-Za-z0-9_.@-]{1,64}\Z"

_is_id = re.compile(ID_PATTERN).match
#: In the path of an address these mean another one, so nothing may be called so. What is stored
#: is read nevertheless: one name must not make a list unreadable.
_STEPS = frozenset({".", ".."})

#: An id in a message: its characters are checked when the message is decoded.
Id: TypeAlias = Annotated[str, Meta(pattern=ID_PATTERN)]


def check_id(value: str, what: str) -> str:
    """Return ``value`` if it is an id; ``what`` names it in the error.

    Raises:
        BadRequest: it is not 1-64 characters out of ``A-Z a-z 0-9 _ . @ -``, or is "." or "..".
    """
    if not _is_id(value) or value in _STEPS:
        raise BadRequest(
            f"{what} must be 1-64 characters out of A-Z a-z 0-9 _ . @ - , not . or .. ; "
            f"got {value[:80]!r}"
        )
    return value


def new_id() -> str:
    """Return a fresh id: 16 characters holding 96 random bits."""
    return base64.urlsafe_b64encode(os.urandom(12)).decode("ascii")
