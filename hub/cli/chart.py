"""Small charts for a terminal: one horizontal bar a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Row", "bars", "count", "usd"]

_EIGHTHS = " ▏▎▍▌▋▊▉"
_FULL = "█"
_PLAIN = "#"
#: Columns between label, bar and text.
_GAP = 2


class Row(NamedTuple):
    """One bar: ``value`` is its length, ``text`` stands behind it."""

    label: str
    value: int
    text: str


def bars(rows: Sequence[Row], *, width: int, plain: bool = False) -> list[str]:
    """Return a line a row, none longer than ``width`` columns where labels and texts allow.

    The largest value has the longest bar; what is not zero has one, however short. ``plain``
    uses ASCII, for terminals that know nothing else.
    """
    if not rows:
        return []
    labels = max(len(row.label) for row in rows)
    texts = max(len(row.text) for row in rows)
    room = max(width - labels - texts - 2 * _GAP, 8)
    largest = max(1, *(row.value for row in rows))
    lines = []
    for row in rows:
        bar = _bar(max(row.value, 0), largest, room, plain=plain)
        lines.append(f"{row.label:<{labels}}  {bar:<{room}}  {row.text:>{texts}}")
    return lines


def _bar(value: int, largest: int, room: int, *, plain: bool) -> str:
    if plain:
        return _PLAIN * (-(-value * room // largest))
    eighths = -(-value * room * 8 // largest)
    full, rest = divmod(eighths, 8)
    return _FULL * full + (_EIGHTHS[rest] if rest else "")


def usd(micro_usd: int) -> str:
    """Return an amount as people write it: ``$12.30``; more places where it is small."""
    sign, amount = ("-" if micro_usd < 0 else ""), abs(micro_usd)
    if amount and amount < 10_000:
        return f"{sign}${amount // 1_000_000}.{amount % 1_000_000:06}"
    cents = (amount + 5_000) // 10_000
    return f"{sign}${cents // 100:,}.{cents % 100:02}"


def count(number: int) -> str:
    """Return a number of four characters or so: ``950``, ``12.3k``, ``4.5M``."""
    size, value = abs(number), float(number)
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # What would be rounded to 1000 of a unit is 1 of the next.
        if size >= limit * 0.9995:
            return (
                f"{value / limit:.1f}{unit}"
                if size < limit * 99.95
                else f"{value / limit:.0f}{unit}"
            )
    return str(number)
