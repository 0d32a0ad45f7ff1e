"""Merge patches: RFC 7396, and what a document may hold."""

from __future__ import annotations

import pytest

from channels.errors import BadRequest, LimitExceeded
from services.documents import Document, check_patch, merge, patch_terms


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_rfc(target, patch, expected):
    """Appendix A of RFC 7396, all of it."""
    assert merge(target, patch) == expected


def test_a_merge_changes_neither_side():
    """What was read stays what was read."""
    target, patch = {"a": {"b": 1}}, {"a": {"c": 2}}
    merge(target, patch)
    assert (target, patch) == ({"a": {"b": 1}}, {"a": {"c": 2}})


@pytest.mark.parametrize(
    ("patch", "error"),
    [
        ({"a": object()}, BadRequest),
        ({"a": "\ud800"}, BadRequest),
        ({"a": 2**53}, BadRequest),
        ({"a": [{"b": -(2**53)}]}, BadRequest),
        ({"": 1}, LimitExceeded),
        ({"x" * 129: 1}, LimitExceeded),
        ({f"f{n}": 1 for n in range(129)}, LimitExceeded),
        ({"a": "x" * 70_000}, LimitExceeded),
    ],
    ids=lambda value: str(value)[:6],
)
def test_a_patch_is_an_object_of_limited_size(patch, error):
    """Refused before anything is sent."""
    with pytest.raises(error):
        check_patch(patch)


def test_a_value_is_of_limited_size():
    """Also one that grows by merging."""
    held = Document({"a": b'{"x":"' + b"x" * 16_000 + b'"}'}, {})
    patch_terms({"a": {"y": 1}}, held)
    with pytest.raises(LimitExceeded):
        patch_terms({"a": {"y": "y" * 1_000}}, held)


def test_a_document_is_read_from_both_protocols():
    """HGETALL is flat in RESP2 and a map in RESP3."""
    flat = [b"v", b"3", b".a", b"1"]
    assert Document.read(flat) == Document.read({b"v": b"3", b".a": b"1"})
    assert Document.read(flat).values == {"a": 1}
    assert Document.read(flat).version == 3
