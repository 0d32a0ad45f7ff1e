"""The tables of a language made ready: every word by its stem, every phrase as one pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .tables import GuardTables

__all__ = ["Lexicon", "lexicon"]

_PLAIN = re.compile(r"[\w'°%+#./-]+")


class Lexicon:
    """What the reader looks up. Stems stand for words, so that inflected forms meet."""

    def __init__(self, tables: GuardTables) -> None:
        self.tables = tables
        self._stems: dict[str, str] = {}
        self.contractions = _alternatives(tables.contractions)
        self.neutral = _alternatives(tables.neutral_phrases)
        self.negations = {self.stem(word) for word in tables.negations} | tables.negations
        self.negatable = {self.stem(word) for word in tables.negatable} | tables.negatable
        self.quantifiers = _by_length(tables.quantifiers)
        self.questions = _by_length(tables.questions)
        self.modalities = _by_length(tables.modalities)
        self.dates = _by_length(tables.dates)
        self.units = self._names(tables.units)
        self.units_attached = self._names(tables.units_attached)
        self.currencies = self._names(tables.currencies)
        self.signs = {sign for sign in self.currencies if not sign.isalnum()}
        self.function_words = {self.stem(word) for word in tables.function_words}
        self.function_words |= tables.function_words
        #: Stem -> the pairs it stands in, each with its side.
        self.antonyms: dict[str, list[tuple[int, int]]] = {}
        for number, pair in enumerate(tables.antonyms):
            for side, words in enumerate(pair):
                for word in words:
                    places = self.antonyms.setdefault(self.stem(word), [])
                    if (number, side) not in places:
                        places.append((number, side))
        #: Stem, or two of them with a blank -> the classes it is in, each with its member.
        self.classes: dict[str, list[tuple[str, str]]] = {}
        for name, members in tables.classes.items():
            for member in members:
                for word in member:
                    stems = " ".join(self.stem(part) for part in word.split())
                    self.classes.setdefault(stems, []).append((name, member[0]))
        self._synonyms: dict[str, set[int]] = {}
        for number, words in enumerate(tables.synonyms):
            for word in words:
                self._synonyms.setdefault(self.stem(word), set()).add(number)

    @staticmethod
    def _names(named: dict[str, tuple[str, ...]]) -> dict[str, str]:
        found = {}
        for unit, names in named.items():
            for name in names:
                found[name] = unit
                if name.isalpha() and len(name) > 1:
                    # Not by stems: "franc" and "France" have the same.
                    found[f"{name}s"] = unit
        return found

    def stem(self, word: str) -> str:
        """Return what ``word`` has in common with its other forms."""
        known = self._stems.get(word)
        if known is None:
            known = self._stem(word)
            if len(self._stems) < 50_000:  # what people type has no end
                self._stems[word] = known
        return known

    def _stem(self, word: str) -> str:
        word = word.removesuffix("'s").removesuffix("'")
        irregular = self.tables.irregular.get(word)
        if irregular is not None:
            return irregular.removesuffix("e") if len(irregular) > 3 else irregular
        if len(word) > 3 and word.isalpha():
            for ending, instead in self.tables.endings:
                if word.endswith(ending) and len(word) - len(ending) >= 2:
                    bare = word[: len(word) - len(ending)]
                    if ending in ("ing", "ed") and not _has_vowel(bare):
                        continue
                    word = bare + instead
                    if ending in ("ing", "ed") and len(word) > 3 and word[-1] == word[-2]:
                        word = word if word[-1] in "lsz" else word[:-1]
                    break
        return word.removesuffix("e") if len(word) > 3 and word.isalpha() else word

    def synonymous(self, one: str, other: str) -> bool:
        """Tell whether two stems mean the same, or one begins with the other."""
        if one == other:
            return True
        if self._synonyms.get(one, set()) & self._synonyms.get(other, set()):
            return True
        shorter, longer = sorted((one, other), key=len)
        return len(shorter) >= 4 and longer.startswith(shorter)


def _has_vowel(text: str) -> bool:
    return any(letter in "aeiouy" for letter in text)


def _alternatives(phrases: Iterable[str]) -> re.Pattern[str] | None:
    ordered = sorted(phrases, key=len, reverse=True)
    if not ordered:
        return None
    return re.compile(rf"(?<![\w'])(?:{'|'.join(map(re.escape, ordered))})(?![\w'])")


def _by_length(named: dict[str, tuple[str, ...]]) -> list[tuple[str, re.Pattern[str]]]:
    """Return name and pattern of every phrase, the longest first."""
    phrases = [(phrase, name) for name, many in named.items() for phrase in many]
    phrases.sort(key=lambda item: -len(item[0]))
    return [(name, re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)")) for phrase, name in phrases]


@lru_cache(maxsize=16)
def _cached(key: int, tables: _Keyed) -> Lexicon:  # noqa: ARG001 - the key is what is cached by
    return Lexicon(tables.tables)


class _Keyed:
    """Tables are not hashable; the same object is the same tables."""

    __slots__ = ("tables",)

    def __init__(self, tables: GuardTables) -> None:
        self.tables = tables

    def __hash__(self) -> int:
        return id(self.tables)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and other.tables is self.tables


def lexicon(tables: GuardTables) -> Lexicon:
    """Return the lexicon of ``tables``; made once for the same object."""
    return _cached(id(tables), _Keyed(tables))
