"""The JSON schema of an answer: what a person may put in place of the arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator
from referencing import Registry

from channels.canonical import canonical_json
from channels.errors import BadRequest
from services.bounded_validator import check_patterns, first_error

__all__ = ["check_answer", "check_schema"]

#: Holds no schema but the draft's own, and fetches none: a ``$ref`` to elsewhere is an error.
_NOTHING: Final[Registry[Any]] = Registry()


def check_schema(schema: Mapping[str, object] | None) -> dict[str, Any] | None:
    """Return ``schema`` if it is a JSON schema (draft 2020-12) or None.

    Raises:
        BadRequest: it is none, or has a pattern that could take for ever.
        LimitExceeded: it is too large.
    """
    if schema is None:
        return None
    plain: dict[str, Any] = msgspec.json.decode(canonical_json(schema))
    check_patterns(plain)
    error = first_error(Draft202012Validator.META_SCHEMA, plain)
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
    # Tuples and other mappings become what they are in JSON.
    plain = msgspec.json.decode(canonical_json(answer))
    error = first_error(schema, plain, registry=_NOTHING)
    if error is not None:
        raise BadRequest(
            f"the payload does not fit the gate's schema at {error.json_path}: "
            f"{error.message[:500]}"
        )
