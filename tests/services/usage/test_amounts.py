"""Money becomes whole micro-dollars, and nothing else does."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import BadRequest
from services.usage.amounts import MAX_AMOUNT, check_amount, micro_usd, usd


@pytest.mark.parametrize(
    ("amount", "micro"),
    [
        (1, 1_000_000),
        (0.1, 100_000),
        (0.29, 290_000),
        (1e-05, 10),
        (4.35, 4_350_000),
        (0.0000005, 1),
        (0.00000049, 0),
        ("0.000001", 1),
        (Decimal("0.0000015"), 2),
        ("1e3", 1_000_000_000),
        (Decimal(MAX_AMOUNT) / 1_000_000, MAX_AMOUNT),
    ],
)
def test_amounts_are_rounded_half_up(amount: Decimal | str | float, micro: int) -> None:
    """A float counts as the decimal that it shows."""
    assert micro_usd(amount) == micro
    assert (
        micro_usd(-amount if not isinstance(amount, str) else f"-{amount}", signed=True) == -micro
    )


@given(st.decimals(min_value=0, max_value=10**9, places=9))
def test_rounding_is_wrong_by_half_a_micro_dollar_at_most(amount: Decimal) -> None:
    """As it is documented."""
    assert abs(usd(micro_usd(amount)) - amount) <= Decimal("0.0000005")


@pytest.mark.parametrize(
    "wrong", [float("nan"), float("inf"), "nan", "ten", "", None, True, -1, 10**10, b"1", 2**60]
)
def test_what_is_no_amount_is_refused(wrong: object) -> None:
    """With its type or its value."""
    with pytest.raises(BadRequest, match="cost_usd must"):
        micro_usd(wrong)  # type: ignore[arg-type] - wrong on purpose


@pytest.mark.parametrize("wrong", [-1, 2**53, 1.0, True, "1", None])
def test_counts_are_whole_numbers_that_json_can_tell(wrong: object) -> None:
    """From zero to 2^53 - 1."""
    with pytest.raises(BadRequest, match="tokens must"):
        check_amount(wrong, "tokens")  # type: ignore[arg-type] - wrong on purpose
