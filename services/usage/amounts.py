"""Amounts: money in whole micro-USD and counts, checked at the door. No floats inside."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TypeAlias

from channels.errors import BadRequest

__all__ = ["MAX_AMOUNT", "Usd", "check_amount", "micro_usd", "usd"]

#: The largest number that is one to every reader of JSON, and to Lua.
MAX_AMOUNT = 2**53 - 1
_MICRO = Decimal(1_000_000)
_MAX_USD = Decimal(MAX_AMOUNT) / _MICRO

#: An amount in US dollars.
Usd: TypeAlias = Decimal | int | str | float


def check_amount(value: int, what: str, *, signed: bool = False) -> int:
    """Return ``value`` if it is a whole number from 0 (``signed``: -2^53 + 1) to 2^53 - 1.

    Raises:
        BadRequest: it is not.
    """
    if type(value) is int and -MAX_AMOUNT <= value <= MAX_AMOUNT and (signed or value >= 0):
        return value
    least = f"-{MAX_AMOUNT}" if signed else "0"
    raise BadRequest(f"{what} must be a whole number from {least} to {MAX_AMOUNT}; got {value!r}")


def micro_usd(value: Usd, what: str = "cost_usd", *, signed: bool = False) -> int:
    """Return an amount in US dollars as whole micro-USD, rounded half up (away from zero).

    A ``float`` stands for the shortest decimal that reads as it, as ``repr`` shows it. What is
    lost by rounding is at most half a micro-USD a call: who charges less than that a call gives
    ``cost_micro_usd`` for many calls at once.

    Raises:
        BadRequest: it is no finite number, negative (unless ``signed``), or too large.
    """
    if type(value) is float and 0.0 <= value < 1e6:
        # A product is wrong by less than a thousandth, so only what is close to a half needs
        # the long way.
        amount_float = value * 1e6
        below = int(amount_float)
        if abs(amount_float - below - 0.5) > 1e-3:
            return below + (amount_float - below > 0.5)
    expected = f"{what} must be an amount in US dollars of up to {_MAX_USD}"
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str | float):
        raise BadRequest(f"{expected}; got {type(value).__name__}")
    try:
        amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation:
        raise BadRequest(f"{expected}; got {str(value)[:80]!r}") from None
    if not amount.is_finite():
        raise BadRequest(f"{expected}; got {str(value)[:80]!r}")
    if amount < 0 and not signed:
        raise BadRequest(f"{what} must not be negative; got {str(value)[:80]!r}")
    if abs(amount) > _MAX_USD:
        raise BadRequest(f"{expected}; got {str(value)[:80]!r}")
    return int((amount * _MICRO).to_integral_value(ROUND_HALF_UP))


def usd(amount_micro_usd: int) -> Decimal:
    """Return whole micro-USD as US dollars, exactly."""
    return Decimal(amount_micro_usd) / _MICRO
