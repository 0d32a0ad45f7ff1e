"""Delays between attempts."""

from __future__ import annotations

import pytest

from services.store.backoff import Backoff


def test_grows_to_the_cap_and_starts_again() -> None:
    """The ceiling doubles up to the cap; a success starts it again."""
    backoff = Backoff(0.05, 1.0, rng=lambda: 1.0)
    assert [backoff.next_s() for _ in range(7)] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1, 1])
    backoff.reset()
    assert backoff.next_s() == pytest.approx(0.05)


def test_jitter_takes_at_most_half() -> None:
    """A delay is never less than half of its ceiling, so it is never nothing."""
    backoff = Backoff(0.05, 1.0, rng=lambda: 0.0)
    assert [backoff.next_s() for _ in range(3)] == pytest.approx([0.025, 0.05, 0.1])


def test_an_eternity_of_attempts() -> None:
    """A server that never comes back does not overflow anything."""
    backoff = Backoff(0.05, 1.0)
    assert all(0 < backoff.next_s() <= 1.0 for _ in range(5000))


@pytest.mark.parametrize(("base_s", "cap_s"), [(0, 1), (-1, 1), (2, 1)])
def test_wrong_bounds(base_s: float, cap_s: float) -> None:
    """Bounds that would spin or shrink are refused."""
    with pytest.raises(ValueError, match="base_s"):
        Backoff(base_s, cap_s)
