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
#: Columns of the shortest bar that says something, and of the shortest label.
_BAR = 8
_LABEL = 10


class Row(NamedTuple):
    """One bar: ``value`` is its length, ``text`` stands behind it."""

    label: str
    value: int
    text: str


def bars(rows: Sequence[Row], *, width: int, plain: bool = False) -> list[str]:
    """Return a line a row, none longer than ``width`` columns where the texts allow.

    The largest value has the longest bar; what is not zero has one, however short. Long labels
    are cut, and where there is no room for bars there are none. ``plain`` uses ASCII, for
    terminals that know nothing else.
    """
    if not rows:
        return []
    names = [_ascii(row.label) if plain else row.label for row in rows]
    texts = max(len(row.text) for row in rows)
    left = width - texts - 2 * _GAP
    labels = min(max(map(len, names)), max(left - _BAR, _LABEL))
    room = left - labels
    largest = max(1, *(row.value for row in rows))
    lines = []
    for name, row in zip(names, rows, strict=True):
        label = name if len(name) <= labels else name[: labels - 2] + ".."
        line = f"{label:<{labels}}  "
        if room >= _BAR:
            line += f"{_bar(max(row.value, 0), largest, room, plain=plain):<{room}}  "
        lines.append(f"{line}{row.text:>{texts}}")
    return lines


def _ascii(label: str) -> str:
    return label.encode("ascii", "backslashreplace").decode()


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
