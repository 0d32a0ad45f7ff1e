"""A validator of JSON schemas (draft 2020-12) that tenants may write: its work is bounded.

A schema is a program. References unfold without end or by powers, a pattern may backtrack for
years, and an error repeats the value it is about. Here each step counts, patterns are matched in
time linear in the text (RE2), and whatever else a schema makes of the validator is an error of
the schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs
import re2
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from referencing import Registry

from channels.canonical import canonical_json
from channels.errors import BadRequest, FanwireError, LimitExceeded

__all__ = ["MAX_STEPS", "answer_error", "schema_error"]

#: Steps one validation may take: about a fifth of a second at the very worst, and enough for
#: the largest payload with a schema that looks at each of its values a few times.
MAX_STEPS: Final = 50_000
#: Bytes of the value that count as a step where the whole of it may be looked at or repeated.
_BYTES_A_STEP: Final = 100
#: Keywords that take as long as a few others.
_COSTS: Final = {"$ref": 5, "$dynamicRef": 5}
#: Steps of a match besides those for its text: the pattern is compiled for it.
_PATTERN_STEPS: Final = 100
_MAX_PATTERN_CHARACTERS: Final = 1_000
#: Holds no schema but the draft's own, and fetches none: a ``$ref`` to elsewhere is an error.
_NOTHING: Final[Registry[Any]] = Registry()
#: These look at the whole value.
_WHOLE: Final = frozenset({"const", "enum", "uniqueItems"})

#: A keyword of the library: its validator, the keyword's value, what is checked, and the schema.
_Keyword = Callable[[Any, Any, Any, Any], "Iterator[ValidationError] | None"]


def schema_error(schema: object) -> ValidationError | None:
    """Return why ``schema``, plain JSON, is no schema; None if it is one.

    Raises:
        LimitExceeded: it is too large.
        BadRequest: it has a pattern that could take for ever.
    """
    _check_patterns(schema)
    return _first_error(Draft202012Validator.META_SCHEMA, schema)


def answer_error(schema: Mapping[str, Any], answer: object) -> ValidationError | None:
    """Return what of ``answer``, plain JSON, does not fit; None if all does.

    Raises:
        LimitExceeded: finding out takes too long.
        BadRequest: the schema cannot be applied.
    """
    return _first_error(schema, answer, registry=_NOTHING)


def _first_error(
    schema: Any,  # noqa: ANN401
    value: object,
    **options: Any,  # noqa: ANN401
) -> ValidationError | None:
    kind = _bounded(len(json.dumps(value)))
    try:
        return next(kind(schema, **options).iter_errors(value), None)
    except FanwireError:
        raise
    except Exception as error:  # noqa: BLE001 - hostile schemas make the library raise anything
        raise BadRequest(f"the schema cannot be applied: {str(error)[:200]}") from None


def _check_patterns(schema: object) -> None:
    """Look at every pattern that may stand in ``schema``, also where only a reference leads."""
    rest = [schema]
    while rest:
        match rest.pop():
            case dict() as found:
                # Others of the library's keywords would match these by backtracking.
                if isinstance(found.get("patternProperties"), dict):
                    _refused()
                if isinstance(found.get("pattern"), str):
                    _compiled(found["pattern"])
                rest.extend(found.values())
            case list() as found:
                rest.extend(found)


def _bounded(size: int) -> Any:  # noqa: ANN401 - the library makes the class
    """Return a class of validators that have ``MAX_STEPS`` together, for a value of ``size``."""
    whole, left = size // _BYTES_A_STEP, MAX_STEPS

    def spend(steps: int) -> None:
        nonlocal left
        left -= steps
        if left < 0:
            raise LimitExceeded(
                f"applying the schema takes more than {MAX_STEPS} steps; expected a simpler "
                "schema or a smaller value"
            )

    def bound(name: str, keyword: _Keyword) -> _Keyword:
        def check(
            validator: Any,  # noqa: ANN401
            told: Any,  # noqa: ANN401
            value: Any,  # noqa: ANN401
            schema: Any,  # noqa: ANN401
        ) -> Iterator[ValidationError]:
            spend(_COSTS.get(name, 1) + _length(told) + _length(value))
            if name in _WHOLE:
                spend(whole)
            for error in keyword(validator, told, value, schema) or ():
                # It repeats the value.
                spend(1 + whole)
                yield error

        return check

    def pattern(
        validator: Any,  # noqa: ANN401
        told: Any,  # noqa: ANN401
        value: Any,  # noqa: ANN401
        _schema: Any,  # noqa: ANN401
    ) -> Iterator[ValidationError]:
        if validator.is_type(value, "string"):
            spend(_PATTERN_STEPS + len(value) // _BYTES_A_STEP)
            if not _compiled(told).search(value):
                yield ValidationError(f"{value!r} does not match {told!r}")

    keywords = {**Draft202012Validator.VALIDATORS, "pattern": pattern, "uniqueItems": _unique_items}
    bounded = {name: bound(name, keyword) for name, keyword in keywords.items()}
    bounded["patternProperties"] = _refused
    kind: Any = validators.extend(Draft202012Validator, bounded)  # type: ignore[no-untyped-call]
    # The library's own goes over to another class, without bounds, where a schema has "$schema".
    kind.evolve = attrs.evolve
    return kind


def _length(value: object) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _compiled(pattern: str) -> Any:  # noqa: ANN401 - it comes without types
    if len(pattern) > _MAX_PATTERN_CHARACTERS:
        raise BadRequest(
            f"a pattern has at most {_MAX_PATTERN_CHARACTERS} characters; got {len(pattern)}"
        )
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0] if error.args else b""
        told = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise BadRequest(
            f"expected a pattern as RE2 has them, without look-around: {told[:200]}"
        ) from None


def _unique_items(
    validator: Any,  # noqa: ANN401
    told: Any,  # noqa: ANN401
    value: Any,  # noqa: ANN401
    _schema: Any,  # noqa: ANN401
) -> Iterator[ValidationError]:
    """The library compares each item with each."""
    if not told or not validator.is_type(value, "array"):
        return
    if len({canonical_json(item) for item in value}) < len(value):
        yield ValidationError(f"{value!r} has non-unique elements")


def _refused(*_: object) -> Iterator[ValidationError]:
    raise BadRequest("patternProperties is not supported in a schema")
