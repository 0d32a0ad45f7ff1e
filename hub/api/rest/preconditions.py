"""Versions in HTTP: a version is the entity tag ``"7"``, and a change may name one (RFC 9110)."""

from __future__ import annotations

import re

from starlette.requests import Request

from channels.errors import BadRequest

__all__ = ["etag", "expected_version", "is_unchanged"]

_TAGS = re.compile(r'(W/)?"([^"]*)"')
_MAX_DIGITS = 16


def etag(version: int) -> str:
    """Return the entity tag of a version."""
    return f'"{version}"'


def expected_version(request: Request) -> int | None:
    """Return the version that ``If-Match`` names; None for any, or none named.

    Raises:
        BadRequest: it is neither ``*`` nor one strong tag of ours.
    """
    given = request.headers.get("if-match")
    if given is None or given.strip() == "*":
        return None
    found = _TAGS.fullmatch(given.strip())
    if found is None or found[1] or not _is_version(found[2]):
        raise BadRequest(f'expected If-Match: "VERSION", as the ETag was; got {given[:80]!r}')
    return int(found[2])


def is_unchanged(request: Request, version: int) -> bool:
    """Return whether the caller has this version already (``If-None-Match``)."""
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or any(tag == str(version) for _, tag in _TAGS.findall(given))


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
