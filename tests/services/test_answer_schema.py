"""Schemas that tenants write: they mean what they say, and cannot stop or break the hub."""

from __future__ import annotations

from typing import Any

import pytest

from channels.errors import BadRequest, FanwireError, LimitExceeded
from services.answer_schema import check_answer, check_schema


def check(schema: dict[str, Any], answer: object) -> None:
    """Check an answer as a gate does."""
    check_answer(check_schema(schema), answer, edit=True)


@pytest.mark.parametrize(
    ("schema", "good", "wrong"),
    [
        ({"pattern": r"^\d{3}$"}, "123", "12"),
        (
            {"uniqueItems": True},
            [1, True, "1", [1], {"a": 1}],
            [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
        ),
        ({"uniqueItems": True}, [1, 2], [1, 1.0]),
        ({"enum": [{"a": 1}]}, {"a": 1}, {"a": 2}),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "x", 1),
        (
            {"properties": {"next": {"$ref": "#"}}, "required": ["id"]},
            {"id": 1, "next": {"id": 2}},
            {"id": 1, "next": {}},
        ),
        ({"properties": {"pattern": {"type": "string"}}}, {"pattern": "("}, {"pattern": 1}),
    ],
    ids=repr,
)
def test_a_schema_means_what_it_says(schema: dict[str, Any], good: object, wrong: object) -> None:
    """What fits passes; of what does not fit, the place is told."""
    check(schema, good)
    with pytest.raises(BadRequest, match=r"does not fit the gate's schema at \$"):
        check(schema, wrong)


def test_a_large_answer_passes() -> None:
    """The largest list of objects that an event can carry is looked at whole."""
    item = {
        "type": "object",
        "properties": {"id": {"type": "integer", "minimum": 0}, "ok": {"type": "boolean"}},
        "required": ["id"],
    }
    answer = [{"id": 100_000 + n, "ok": True} for n in range(2_400)]
    check({"type": "array", "items": item, "uniqueItems": True}, answer)


_POWERS = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 8} for n in range(40)}
_2020 = "https://json-schema.org/draft/2020-12/schema"
_DRAFT_7 = "http://json-schema.org/draft-07/schema#"
_REPEATS = {"anyOf": [{"type": "string"}] * 5_000}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 60_000 + "!"),
        ({"properties": {"x": {"pattern": "^(a|a)*$"}}}, {"x": "a" * 60_000 + "!"}),
        ({"patternProperties": {"^(a+)+$": {}}}, {"a" * 50 + "!": 1}),
        ({"const": {"patternProperties": {"^(a+)+$": {}}}, "$ref": "#/const"}, {"a" * 50 + "!": 1}),
        ({"const": {"pattern": "("}, "$ref": "#/const"}, "a"),
        ({"pattern": "x{99999999999}"}, "a"),
        ({"pattern": "(?=a)"}, "a"),
        ({"pattern": "a" * 1_001}, "a"),
        ({"format": "regex", "pattern": "((a{100}){100}){100}"}, "a"),
        ({"$defs": {**_POWERS, "a40": {}}, "$ref": "#/$defs/a0"}, {}),
        ({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, {}),
        ({"uniqueItems": True, "items": {"uniqueItems": True}, "minItems": 99_999}, [[]] * 20_000),
        ({"allOf": [{}] * 60_000}, {}),
        (_REPEATS, ["x" * 60_000]),
        ({"$schema": _2020, "allOf": [{"$schema": _2020, "pattern": "^(a+)+$"}]}, "a" * 50 + "!"),
        ({"$schema": _2020, "$defs": {**_POWERS, "a40": {}}, "$ref": "#/$defs/a0"}, {}),
        (
            {"$schema": "http://json-schema.org/draft-07/schema", "pattern": "(a+)+$"},
            "a" * 50 + "!",
        ),
        ({"$id": "http://[", "$ref": "x"}, {}),
        ({"default": 5, "$ref": "#/default"}, {}),
        ({"const": [1], "$ref": "#/const"}, {}),
        ({"const": {"required": 5}, "$ref": "#/const"}, {}),
        ({"const": {"properties": 5}, "$ref": "#/const"}, {}),
        ({"const": {"multipleOf": 0}, "$ref": "#/const"}, 3),
        ({"const": {"minimum": "x"}, "$ref": "#/const"}, 3),
        ({"const": {"$ref": 5}, "$ref": "#/const"}, 3),
        ({"const": {"type": "odd"}, "$ref": "#/const"}, 3),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_hostile_schema_is_refused(schema: dict[str, Any], answer: object) -> None:
    """At once, as an error of whoever wrote it: no other exception, no time that grows."""
    with pytest.raises(FanwireError) as refused:
        check(schema, answer)
    assert isinstance(refused.value, BadRequest | LimitExceeded)
