"""The JSON schema of an answer: what a person may put in place of the arguments.

What applies it is imported when a gate first has a schema: it is 6 MB and 50 ms for a process,
and most processes never need it.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from channels.canonical import canonical_json
from channels.errors import BadRequest

__all__ = ["check_answer", "check_schema"]


def check_schema(schema: Mapping[str, object] | None) -> dict[str, Any] | None:
    """Return ``schema`` if it is a JSON schema (draft 2020-12) or None.

    Raises:
        BadRequest: it is none, or has a pattern that could take for ever.
        LimitExceeded: it is too large.
    """
    if schema is None:
        return None
    from .bounded_validator import schema_error

    plain: dict[str, Any] = msgspec.json.decode(canonical_json(schema))
    error = schema_error(plain)
    if error is not None:
        raise BadRequest(
            f"response_schema is no JSON schema at {error.json_path}: {error.message[:500]}"
        )
    return plain


def check_answer(schema: Mapping[str, Any] | None, answer: object, *, edit: bool) -> None:
    """Check a payload. Without a schema an edit is an object, as arguments are.

    Raises:
        BadRequest: it is not what was asked for, or the schema cannot be applied.
        LimitExceeded: that would take too long to find out.
    """
    if schema is None:
        if edit and not isinstance(answer, Mapping):
            raise BadRequest(f"expected edited arguments, an object; got {str(answer)[:80]!r}")
        return
    from .bounded_validator import answer_error

    # Tuples and other mappings become what they are in JSON.
    plain = msgspec.json.decode(canonical_json(answer))
    error = answer_error(schema, plain)
    if error is not None:
        raise BadRequest(
            f"the payload does not fit the gate's schema at {error.json_path}: "
            f"{error.message[:500]}"
        )
