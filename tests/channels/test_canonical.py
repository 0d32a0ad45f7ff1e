"""Canonical JSON: the examples of RFC 8785, and what has no place in it."""

from __future__ import annotations

import json
import math
import struct
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.canonical import canonical_json, digest
from channels.errors import BadRequest


# Appendix B of the RFC: the bits of a double, and its one text.
@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"), ("8000000000000000", "0"), ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"), ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"), ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),

        ("44b52d02c7e14af6", "1e+23"), ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"), ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"), ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"), ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_javascript_does(bits, text):
    """So that a browser computes the same digest."""
    assert canonical_json(struct.unpack(">d", bytes.fromhex(bits))[0]) == text.encode()


def test_keys_are_sorted_as_javascript_does():
    """By UTF-16 code units: the example of the RFC."""
    value = {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "😀": 5, "\x80": 6, "ö": 7}
    assert list(json.loads(canonical_json(value)).values()) == [2, 4, 6, 7, 1, 5, 3]


def test_the_example_of_the_rfc():
    """Text, escapes and nesting."""
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    assert canonical_json(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, "\ud800", {"\ud800": 1}, {1: 2}, {1, 2}, b"x", 2**53, -(2**53), object()],
)
def test_what_json_cannot_say_is_refused(value):
    """Or what a browser would take for something else."""
    with pytest.raises(BadRequest):
        canonical_json([value])


def test_an_integer_without_a_text_is_refused():
    """Python writes none of more than 4,300 digits."""
    with pytest.raises(BadRequest, match="got 16610 bits"):
        canonical_json(10**5_000)


class _Level(int, Enum):
    HIGH = 3


class _Share(float):
    def __repr__(self):
        return "most"


class _Name(str, Enum):  # noqa: UP042 - what applications have
    ADA = "ada"


def test_what_stands_for_a_value_is_that_value():
    """An enumeration or a subclass, as those of NumPy, says what its value says."""
    value = {_Name.ADA: [_Level.HIGH, _Share(0.75), _Name.ADA]}
    assert canonical_json(value) == b'{"ada":[3,0.75,"ada"]}'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_two_numbers_share_a_text(number):
    """Whatever their size: read back it is this number and no other."""
    assert float(canonical_json(number)) == number


def test_depth_is_bounded():
    """A structure without end is the caller's mistake."""
    value: list = []
    value.append(value)
    with pytest.raises(BadRequest):
        canonical_json(value)


_texts = st.text(st.characters(codec="utf-8"), max_size=5)
_leaves = (
    st.none() | st.booleans() | _texts | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-1e15, 1e15)
)  # fmt: skip
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=10,
)


@given(_values)
def test_it_is_json_and_says_the_same(value):
    """What is read back is equal, and its canonical form is the same text."""
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert digest(json.loads(text)) == digest(value)
