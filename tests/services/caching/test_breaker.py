"""The breaker: failures in a row open it, one call at a time tries again."""

from __future__ import annotations

from services.caching.breaker import Breaker


def test_it_opens_after_failures_in_a_row_and_lets_one_try():
    """A success in between begins the count anew."""
    now = 100.0
    breaker = Breaker(3, 1.0, now=lambda: now)
    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    assert breaker.is_closed
    for _ in range(3):
        assert breaker.lets_pass()
        breaker.failed()
    assert breaker.is_open
    assert not breaker.lets_pass()
    now += 1.0
    assert not breaker.is_open
    assert breaker.lets_pass()
    assert not breaker.lets_pass()  # one at a time
    breaker.failed()
    assert not breaker.lets_pass()
    now += 1.0
    assert breaker.lets_pass()
    breaker.succeeded()
    assert breaker.is_closed
    assert breaker.lets_pass()
