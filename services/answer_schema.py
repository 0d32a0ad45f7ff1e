"""The JSON schema of an answer: what a person may put in place of the arguments.

``jsonschema`` is imported when a gate first has a schema: it is 6 MB and 50 ms for a process, and
most processes never need it.
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
        BadRequest: it is none.
    """
    if schema is None:
        return None
    from jsonschema import Draft202012Validator, SchemaError

    plain: dict[str, Any] = msgspec.json.decode(canonical_json(schema))
    try:
        Draft202012Validator.check_schema(plain)
    except SchemaError as error:
        raise BadRequest(f"response_schema is no JSON schema: {error.message[:500]}") from None
    return plain


def check_answer(schema: Mapping[str, Any] | None, answer: object, *, edit: bool) -> None:
    """Check a payload. Without a schema an edit is an object, as arguments are.

    Raises:
        BadRequest: it is not what was asked for.
    """
    if schema is None:
        if edit and not isinstance(answer, Mapping):
            raise BadRequest(f"expected edited arguments, an object; got {str(answer)[:80]!r}")
        return
    from jsonschema import Draft202012Validator, ValidationError
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # Tuples and other mappings become what they are in JSON.
    plain = msgspec.json.decode(canonical_json(answer))
    # An empty registry fetches nothing: a ``$ref`` to elsewhere is an error.
    nothing: Registry[Any] = Registry()
    validator = Draft202012Validator(schema, registry=nothing)
    try:
        validator.validate(plain)
    except ValidationError as error:
        raise BadRequest(
            f"the payload does not fit the gate's schema at {error.json_path}: "
            f"{error.message[:500]}"
        ) from None
    except (Unresolvable, RecursionError) as error:
        raise BadRequest(f"the gate's schema cannot be applied: {str(error)[:200]}") from None
