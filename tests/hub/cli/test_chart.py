"""Bars, amounts and counts, as a terminal shows them."""

from __future__ import annotations

import pytest

from hub.cli.chart import Row, bars, count, usd


def test_bars_are_as_long_as_their_values() -> None:
    """The largest fills the room, half of it half, and what is not zero is seen."""
    rows = [Row("mon", 80, "a"), Row("tue", 40, "bb"), Row("wed", 1, "c"), Row("thursday", 0, "")]
    lines = bars(rows, width=32)
    assert all(len(line) <= 32 for line in lines)
    full = [line.count("█") for line in lines]
    assert full[0] == 2 * full[1]
    assert full[2] == full[3] == 0
    assert set(lines[2]) & set("▏▎▍▌")
    assert set(lines[3].removeprefix("thursday")) == {" "}


def test_plain_bars_are_ascii() -> None:
    """For terminals and files that know nothing else."""
    assert bars([Row("a", 4, "4"), Row("b", 1, "1")], width=16, plain=True) == [
        "a  ##########  4",
        "b  ###         1",
    ]


def test_long_labels_and_narrow_terminals() -> None:
    """A label is cut, so that the bars are seen; where there is no room there are no bars."""
    rows = [Row("agent-" * 20, 4, "$0.01 1.5k tokens"), Row("b", 1, "$0.01")]
    lines = bars(rows, width=60)
    assert {len(line) for line in lines} == {60}
    assert lines[0].startswith("agent-")
    assert ".." in lines[0]
    assert lines[0].count("█") == 8
    narrow = bars(rows, width=30)
    assert {len(line) for line in narrow} <= set(range(31))
    assert "█" not in "".join(narrow)


def test_plain_labels_are_ascii_too() -> None:
    """A name that the terminal's encoding lacks must not end the command."""
    assert bars([Row("ä", 1, "1")], width=40, plain=True)[0].isascii()


def test_nothing_and_zeros_are_no_error() -> None:
    """No row, no line; only zeros, no bar; a credit is none either."""
    assert bars([], width=80) == []
    assert bars([Row("a", 0, "0"), Row("b", -5, "-5")], width=20)[0].startswith("a  ")


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (9_999, "$0.009999"),
        (10_000, "$0.01"),
        (1_234_567, "$1.23"),
        (1_235_000, "$1.24"),
        (-2_500_000, "-$2.50"),
        (1_234_567_890_000, "$1,234,567.89"),
    ],
)
def test_amounts(micro: int, text: str) -> None:
    """Cents, but what is less than one is not nothing."""
    assert usd(micro) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999, "999"),
        (1_000, "1.0k"),
        (12_345, "12.3k"),
        (99_960, "100k"),
        (999_600, "1.0M"),
        (4_500_000, "4.5M"),
        (-12_345, "-12.3k"),
        (2_000_000_000, "2.0G"),
    ],
)
def test_counts(number: int, text: str) -> None:
    """Three digits and a unit."""
    assert count(number) == text
