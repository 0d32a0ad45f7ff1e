"""The fields, read by a parser of structured fields that is not ours."""

from __future__ import annotations

import http_sfv

from services.limits.fields import legacy_fields, limit_fields
from services.limits.refusal import refusal
from services.limits.result import LimitResult
from services.limits.rule import PolicyState

BURST = PolicyState("burst", 100, 42, 34_800, 0, 2_001, 60, "user")
DAILY = PolicyState("daily", 1000, 1000, 0, 0, 0, 86_400, "user")
OVER = PolicyState("slow", 5, 0, 9_100, 1_100, 1_100, 0.5, "user")


def _read(text):
    parsed = http_sfv.List()
    parsed.parse(text.encode())
    return [(item.value, dict(item.params)) for item in parsed]


def test_they_are_what_the_draft_says():
    """Lists of strings with integers; ``t`` is absent where there is nothing to wait for."""
    fields = limit_fields(LimitResult.of([BURST, DAILY], allowed=True, cost=1))
    assert fields == {
        "RateLimit-Policy": '"burst";q=100;w=60, "daily";q=1000;w=86400',
        "RateLimit": '"burst";r=42;t=3, "daily";r=1000',
    }
    assert _read(fields["RateLimit-Policy"]) == [
        ("burst", {"q": 100, "w": 60}),
        ("daily", {"q": 1000, "w": 86400}),
    ]
    assert _read(fields["RateLimit"]) == [("burst", {"r": 42, "t": 3}), ("daily", {"r": 1000})]


def test_a_partition_is_a_byte_sequence():
    """It is what distinguishes callers who share a policy."""
    result = LimitResult.of([BURST], allowed=True, cost=1)
    fields = limit_fields(result, partition=b"ann")
    assert _read(fields["RateLimit"]) == [("burst", {"r": 42, "t": 3, "pk": b"ann"})]


def test_a_denial_is_told_as_a_problem():
    """With the policies that deny it, and when to come back: not before there is any more."""
    error = refusal(LimitResult.of([BURST, OVER], allowed=False, cost=1))
    assert error.details == {"violated-policies": ["slow"], "retry_after_ms": 1100}
    assert error.headers["Retry-After"] == "2"
    assert _read(error.headers["RateLimit"])[1] == ("slow", {"r": 0, "t": 2})
    assert _read(error.headers["RateLimit-Policy"])[1] == ("slow", {"q": 5, "w": 1})
    assert error.problem_type.endswith("#quota-exceeded")


def test_the_old_fields_tell_the_tightest_policy():
    """There is room for one only."""
    result = LimitResult.of([BURST, DAILY], allowed=True, cost=1)
    assert legacy_fields(result) == {
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "42",
        "X-RateLimit-Reset": "35",
    }


def test_without_policies_there_are_no_fields():
    """A plan without limits."""
    assert limit_fields(LimitResult.of([], allowed=True, cost=1), legacy=True) == {}
