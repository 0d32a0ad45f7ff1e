"""The guard: whether two prompts that look alike ask for the same. No I/O.

Vectors of "Is the port open?" and "Is the port closed?" are nearer than those of most
paraphrases, so no distance tells them apart. The guard reads both and refuses a candidate that
says something else about a number, a name, a negation. It errs on the side of asking again: a
refusal costs one call of the model, a wrong answer costs trust.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final, TypeVar, cast

import msgspec

from .english import ENGLISH
from .lexicon import Lexicon, lexicon
from .reading import MAX_READ, Reading, read
from .tables import GuardTables

__all__ = ["REASONS", "Guard", "Refusal"]

_K = TypeVar("_K")
_V = TypeVar("_V")

#: Content words that are matched with each other, which takes up to the square of their number.
_MATCHED: Final = 400
#: Why a candidate can be refused.
REASONS: Final = (
    "quoted", "identifiers", "numbers", "units", "currencies", "dates", "negation", "antonyms",
    "quantifiers", "question", "modality", "names", "members", "order", "substitution", "length",
)  # fmt: skip


class Refusal(msgspec.Struct, frozen=True):
    """Why a cached prompt is not asked for: one of ``REASONS``, and what each of both says."""

    reason: str
    asked: str
    cached: str

    def __str__(self) -> str:
        return f"{self.reason}: asked {self.asked or 'none'}, cached {self.cached or 'none'}"


class Guard:
    """Compares prompts in one language. The same for any number of callers."""

    __slots__ = ("_substitutions", "tables", "words")

    def __init__(self, tables: GuardTables = ENGLISH, *, substitutions: bool = True) -> None:
        """Make one; without ``substitutions`` one word for another one passes.

        A word that stands in the place of another, and is not known to mean the same, is how
        "bake a cake" differs from "bake a pie". It is also how some paraphrases differ, so
        turning this off finds more of them, and more wrong ones.
        """
        self.tables = tables
        self.words: Lexicon = lexicon(tables)
        self._substitutions = substitutions

    def refuse(self, asked: str, cached: str) -> Refusal | None:
        """Return why the answer to ``cached`` is none to ``asked``; None if it may be one."""
        if max(len(asked), len(cached)) > MAX_READ and asked[MAX_READ:] != cached[MAX_READ:]:
            return Refusal("length", f"{len(asked)} characters", f"{len(cached)} characters")
        one, other = read(asked, self.tables), read(cached, self.tables)
        return _literal(one, other) or self._meaning(one, other)

    def _meaning(self, one: Reading, other: Reading) -> Refusal | None:
        if one.negations % 2 != other.negations % 2:
            return _refusal("negation", one.negated or {"yes"}, other.negated or {"yes"}) or (
                Refusal("negation", str(one.negations), str(other.negations))
            )
        if (
            one.negations
            and other.negations
            and one.negated
            and other.negated
            and not any(self.words.synonymous(a, b) for a in one.negated for b in other.negated)
        ):
            return _refusal("negation", one.negated, other.negated)
        return (
            self._sides(one, other)
            or self._quantifiers(one, other)
            or _different("question", one.questions, other.questions)
            or _different("modality", one.modality, other.modality)
            or self._members(one, other)
            or _names(one, other)
            or _order(one, other)
            or (self._substituted(one, other) if self._substitutions else None)
        )

    def _sides(self, one: Reading, other: Reading) -> Refusal | None:
        mine, theirs = _by_first(one.sides), _by_first(other.sides)
        for number in sorted(mine.keys() & theirs.keys()):
            if mine[number] != theirs[number]:
                pair = self.tables.antonyms[number]
                said = [
                    "/".join(pair[side][0] for side in sorted(sides))
                    for sides in (mine[number], theirs[number])
                ]
                return Refusal("antonyms", *said)
        return None

    def _quantifiers(self, one: Reading, other: Reading) -> Refusal | None:
        loose = self.tables.loose_quantifiers
        strict = _refusal("quantifiers", one.quantifiers - loose, other.quantifiers - loose)
        return strict or _different(
            "quantifiers", one.quantifiers & loose, other.quantifiers & loose
        )

    def _members(self, one: Reading, other: Reading) -> Refusal | None:
        mine, theirs = _by_first(one.members), _by_first(other.members)
        for name in sorted(mine.keys() | theirs.keys()):
            said, cached = mine.get(name, set()), theirs.get(name, set())
            if said != cached and ((said and cached) or name not in self.tables.loose_classes):
                return _refusal("members", said, cached)
        return None

    def _substituted(self, one: Reading, other: Reading) -> Refusal | None:
        """Refuse where one content word stands in the place of another one."""
        if one.content == other.content:
            return None
        if max(len(one.content), len(other.content)) > _MATCHED:
            return Refusal("length", f"{len(one.content)} words", f"{len(other.content)} words")
        matcher = SequenceMatcher(None, one.content, other.content, autojunk=False)
        for kind, a, b, c, d in matcher.get_opcodes():
            if kind != "replace" or b - a != d - c or b - a > 2:
                continue
            for asked, cached in zip(one.content[a:b], other.content[c:d], strict=True):
                if asked in other.content or cached in one.content:
                    continue  # only moved
                if not self.words.synonymous(asked, cached):
                    return Refusal("substitution", asked, cached)
        return None


def _literal(one: Reading, other: Reading) -> Refusal | None:
    return (
        _refusal("quoted", one.quoted, other.quoted)
        or _refusal("identifiers", one.identifiers, other.identifiers)
        or _refusal("numbers", one.numbers, other.numbers)
        or _refusal("units", one.units, other.units)
        or _refusal("currencies", one.currencies, other.currencies)
        or _refusal("dates", one.dates, other.dates)
    )


def _names(one: Reading, other: Reading) -> Refusal | None:
    """Refuse a name that the other text does not have, however it spells it."""
    missing = frozenset(name for name in one.names if not _has(other, name))
    extra = frozenset(name for name in other.names if not _has(one, name))
    return Refusal("names", _shown(missing), _shown(extra)) if missing or extra else None


def _has(reading: Reading, name: str) -> bool:
    return name in reading.words or name in reading.names or name in reading.content


def _order(one: Reading, other: Reading) -> Refusal | None:
    """Refuse "from B to A" for "from A to B", and "may users remove admins?" the other way round.

    Vectors hardly tell the order of words. Where more than two that are exchanged moved, it is a
    clause, and so it is with two words in all: "server restart" and "restart the server".
    """
    asked, cached = one.content, other.content
    if len(asked) == len(cached) > 2:
        moved = [pair for pair in zip(asked, cached, strict=True) if pair[0] != pair[1]]
        if len(moved) == 2 and moved[0] == moved[1][::-1]:
            return Refusal("order", _shown(asked), _shown(cached))
    for before, after in one.directed:
        back = (after, before)
        both = back in one.directed and (before, after) in other.directed
        if before != after and back in other.directed and not both:
            return Refusal("order", f"{before} to {after}", f"{after} to {before}")
    return None


def _by_first(pairs: Iterable[tuple[_K, _V]]) -> dict[_K, set[_V]]:
    found: dict[_K, set[_V]] = {}
    for first, second in pairs:
        found.setdefault(first, set()).add(second)
    return found


def _refusal(reason: str, asked: object, cached: object) -> Refusal | None:
    if asked == cached:
        return None
    return Refusal(reason, _shown(asked), _shown(cached))


def _different(reason: str, asked: object, cached: object) -> Refusal | None:
    """Refuse only where both say something."""
    return _refusal(reason, asked, cached) if asked and cached else None


def _shown(value: object) -> str:
    """Return a short text of what was read."""
    if isinstance(value, str):
        return value[:80]
    items = cast("Iterable[object]", value)
    if isinstance(value, frozenset | set):
        items = sorted(items, key=str)
    return ", ".join(
        f"{item[0]:g}{item[1]}" if isinstance(item, tuple) else str(item) for item in items
    )[:80]
