"""Pauses between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clients import Backoff


def test_the_range_doubles_up_to_its_cap() -> None:
    """And begins anew after a success."""
    backoff = Backoff(0.5, 3, uniform=lambda _low, high: high)
    assert [backoff.next_pause_s() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    backoff.reset()
    assert backoff.next_pause_s() == 0.5


@given(st.integers(0, 3_000))
def test_pauses_are_jittered_and_bounded_forever(tries: int) -> None:
    """No number of failures makes it overflow."""
    backoff = Backoff()
    for _ in range(tries):
        backoff.next_pause_s()
    assert 0 <= backoff.next_pause_s() <= 20
