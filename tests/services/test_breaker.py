"""The breaker: failures in a row open it, one call at a time tries again."""

from __future__ import annotations

from services.breaker import Breaker


def test_it_opens_after_failures_in_a_row_and_lets_one_try():
    """A success in between begins the count anew."""
    now = 100.0
    breaker = Breaker(3, (1.0, 1.0), now=lambda: now)
    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    assert breaker.is_calm
    for _ in range(3):
        assert breaker.may_ask()
        breaker.failed()
    assert breaker.rests
    assert not breaker.may_ask()
    now += 1.0
    assert not breaker.rests
    assert breaker.may_ask()
    assert not breaker.may_ask()  # one at a time
    breaker.failed()
    assert not breaker.may_ask()
    now += 1.0
    assert breaker.may_ask()
    breaker.succeeded()
    assert breaker.is_calm
    assert breaker.may_ask()


def test_a_lost_connection_opens_it_at_once_and_pauses_grow() -> None:
    """Up to the longest; an answer makes them short again."""
    now = 0.0
    breaker = Breaker(3, (0.1, 0.3), now=lambda: now)
    breaker.failed(surely=True)
    assert breaker.is_open
    pauses = []
    for _ in range(3):
        pauses.append(round(breaker.left_s(), 3))
        now += breaker.left_s()
        assert breaker.may_ask()
        breaker.failed()
    assert pauses == [0.1, 0.2, 0.3]
    assert breaker.opened == 1
    breaker.succeeded()
    assert (breaker.is_open, breaker.left_s()) == (False, 0.0)
    breaker.failed(surely=True)
    assert round(breaker.left_s(), 3) == 0.1
