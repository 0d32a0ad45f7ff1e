"""Histograms: every observation in the bucket of the first bound that is not below it."""

from __future__ import annotations

import pytest

from hub.histogram import BOUNDS_S, Histogram


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (-0.001, 0),  # a clock that went back
        (0.0, 0),
        (0.0001, 0),  # bounds are included, as Prometheus has it
        (0.00011, 1),
        (10.0, len(BOUNDS_S) - 1),
        (10.1, len(BOUNDS_S)),
        (float("inf"), len(BOUNDS_S)),
    ],
)
def test_each_observation_is_in_one_bucket(seconds: float, bucket: int) -> None:
    """What is above the last bound counts too."""
    histogram = Histogram()
    histogram.observe(seconds)
    assert [n for n, count in enumerate(histogram.counts) if count] == [bucket]
    assert sum(histogram.counts) == 1


def test_the_sum_is_kept() -> None:
    """It makes an average with the count."""
    histogram = Histogram()
    for seconds in (0.25, 0.5, 2.0):
        histogram.observe(seconds)
    assert (histogram.sum_s, sum(histogram.counts)) == (2.75, 3)
