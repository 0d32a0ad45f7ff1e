"""Names of agents and models: short text that every database and every reader can take."""

from __future__ import annotations

import re

from channels.errors import BadRequest

__all__ = ["MAX_NAME", "check_name"]

MAX_NAME = 128
#: Neither control characters (PostgreSQL takes no NUL) nor lone surrogates.
_is_plain = re.compile(r"\A[^\x00-\x1f\x7f\ud800-\udfff]*+\Z").match


def check_name(name: str, what: str, most: int = MAX_NAME) -> str:
    """Return ``name`` if it is at most ``most`` characters of plain text; it may be empty.

    Raises:
        BadRequest: it is not; ``what`` names it.
    """
    if not isinstance(name, str) or len(name) > most or not _is_plain(name):
        raise BadRequest(
            f"{what} must be text of at most {most} characters without control characters; "
            f"got {name!r:.80}"
        )
    return name
