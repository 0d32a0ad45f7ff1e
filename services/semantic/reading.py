"""What a prompt says that must not differ: numbers, names, negations. No I/O.

The text is read once, the most literal things first: what was read as a quotation is not read
again as a number.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

import msgspec

from .lexicon import Lexicon, lexicon
from .tables import GuardTables

__all__ = ["MAX_READ", "Reading", "read"]

#: Characters of a prompt that are read; whoever compares longer ones does so by what follows too.
MAX_READ: Final = 8_192

_QUOTED = re.compile(
    r"```(.+?)```|`([^`]+)`|\"([^\"]+)\"|\u201c([^\u201d]+)\u201d|\xab([^\xbb]+)\xbb|(?<!\w)'([^']{2,})'(?!\w)",
    re.DOTALL,
)
#: What no sentence holds: compared as it is, for other patterns take the square of its length.
_BLOB = re.compile(r"\S{200,}")
_ADDRESS = re.compile(
    r"\b(?:https?|ftp|wss?|rediss?|s3)://\S+|\bwww\.\S+|(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.]+"
)
_ISO_DATE = re.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b")
_DATE = re.compile(r"\b\d{1,2}([/.])\d{1,2}\1\d{2,4}\b")
_CLOCK = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)(?::[0-5]\d)?(?:\s?([ap])\.?m\b\.?)?")
_QUARTER = re.compile(r"\b[qQ]([1-4])\b")
_VERSION = re.compile(r"\b[vV]?\d+\.\d+(?:\.\d+)+\b|\b[vV]\d+(?:\.\d+)*\b")
_IDENTIFIER = re.compile(
    r"(?<![\w.])(?:"
    r"--?[a-zA-Z][\w-]+(?=\s|$|[,;?!)])"  # --flag
    r"|(?:\.{0,2}/)?[\w.-]+(?:/[\w.-]+)+/?|/[\w.-]+"  # a/path
    r"|\w+(?:\.\w+)*\(\)|\w+::\w+"  # call()
    r"|[A-Za-z_]\w*_\w+"  # snake_case
    r"|[a-z]+[a-z0-9]*[A-Z]\w*"  # camelCase
    r"|[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]*)+"  # PascalCase
    r"|[A-Za-z][\w-]*\.[A-Za-z]{1,5}(?![\w.])"  # file.ext
    r"|\.[a-z]{2,5}\b"  # .ext
    r"|[A-Za-z]+-?\d+[\w-]*|\d+[A-Za-z]+\d[\w]*"  # gpt-4, s3, 3d5
    r"|#\d+"
    r")"
)
_NUMBER = re.compile(
    r"(?P<sign>[$€£¥₹₩₽₿₺])?\s?(?P<minus>(?<!\w)-)?"
    r"(?P<value>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?P<ordinal>st|nd|rd|th)?(?P<scale>[kKMB](?![\w]))?"
    r"(?P<after>\s?[$€£¥₹₩₽₿₺¢])?(?P<unit>\s?(?:°[cfCF]?|%|[A-Za-zµ]+(?:/h)?))?"
)
#: Joins hundreds and what is below them, in English; elsewhere nobody writes it there.
_AND: Final = "and"
#: Beyond it a number that is written as words ("million million ...") is no float any more.
_LARGEST: Final = 10**300
_SCALES: Final = {"k": 1_000, "K": 1_000, "M": 10**6, "B": 10**9}
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*[+#]*")
_NAME = re.compile(r"(?<![\w'])[A-Z][\w'\u2019&-]*")
#: Words that are small in a title too.
_SMALL: Final = frozenset(
    ["a", "an", "and", "at", "by", "for", "in", "of", "on", "or", "the", "to", "vs", "with"]
)
#: Characters before a word that tell whether it begins a sentence.
_BEFORE: Final = 32
_SENTENCE = re.compile(r"(?:^|[.!?:;]\s+|\n\s*|[-*•]\s+)$")


class Reading(msgspec.Struct, frozen=True):
    """What one prompt says, in a form that can be compared."""

    quoted: tuple[str, ...]
    identifiers: frozenset[str]
    numbers: tuple[tuple[float, str], ...]
    units: frozenset[str]
    currencies: frozenset[str]
    dates: frozenset[str]
    names: frozenset[str]
    negations: int
    negated: frozenset[str]
    quantifiers: frozenset[str]
    questions: frozenset[str]
    modality: str
    #: Pairs of opposites, each with the side that is meant.
    sides: frozenset[tuple[int, int]]
    #: Classes, each with the member that is meant.
    members: frozenset[tuple[str, str]]
    #: Content words in their order, by their stems, and the words themselves.
    content: tuple[str, ...]
    words: frozenset[str]
    #: Pairs of content words with a direction between them.
    directed: frozenset[tuple[str, str]]


@lru_cache(maxsize=4_096)
def _read(text: str, key: int) -> Reading:
    return _Reader(text, _LEXICONS[key]).read()


#: Lexicons that are in use, by identity; there are as many as there are languages.
_LEXICONS: Final[dict[int, Lexicon]] = {}


def read(text: str, tables: GuardTables) -> Reading:
    """Return what ``text`` says in the language of ``tables``."""
    found = lexicon(tables)
    _LEXICONS[id(found)] = found
    if len(text) > MAX_READ:
        return _Reader(text[:MAX_READ], found).read()
    return _read(text, id(found))


class _Reader:
    """Reads one text: each step takes out what it understood."""

    def __init__(self, text: str, words: Lexicon) -> None:
        self.words = words
        self.text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
        self.identifiers: set[str] = set()
        self.numbers: list[tuple[float, str]] = []
        self.currencies: set[str] = set()
        self.units: set[str] = set()
        self.dates: set[str] = set()
        self.quantifiers: set[str] = set()
        self.negations = 0
        self.negated: set[str] = set()

    def read(self) -> Reading:
        quoted = self._quoted()
        self._literals()
        names = self._names()
        text = self.text.lower()
        if self.words.contractions is not None:
            text = self.words.contractions.sub(
                lambda found: self.words.tables.contractions[found[0]], text
            )
        if self.words.neutral is not None:
            text = self.words.neutral.sub(" ", text)
        text = " ".join(text.split())
        modality = self._modality(text)
        questions = self._phrases(text, self.words.questions)[1]
        text, self.quantifiers = self._phrases(text, self.words.quantifiers)
        text, dates = self._phrases(text, self.words.dates)
        self.dates |= dates
        text = self._digits(text)
        tokens = self._written_numbers(_WORD.findall(text))
        content, sides, members = self._content(tokens)
        return Reading(
            quoted,
            frozenset(self.identifiers),
            tuple(sorted(self.numbers)),
            frozenset(self.units),
            frozenset(self.currencies),
            frozenset(self.dates),
            frozenset(names),
            self.negations,
            frozenset(self.negated),
            frozenset(self.quantifiers),
            frozenset(questions),
            modality,
            frozenset(sides),
            frozenset(members),
            tuple(content),
            frozenset(word.removesuffix("'s") for word in _WORD.findall(self.text.lower())),
            frozenset(self._directed(tokens)),
        )

    # -- what is meant literally -----------------------------------------------------------

    def _quoted(self) -> tuple[str, ...]:
        found: list[str] = []

        def take(match: re.Match[str]) -> str:
            found.append(" ".join(next(part for part in match.groups() if part).split()))
            return " \0 "

        self.text = _QUOTED.sub(take, self.text)
        return tuple(sorted(found))

    def _literals(self) -> None:
        self._take(_BLOB, lambda match: self.identifiers.add(match[0]))
        self._take(_ADDRESS, lambda match: self.identifiers.add(match[0].rstrip(".,;?!)").lower()))
        self._take(_ISO_DATE, self._iso_date)
        self._take(_DATE, lambda match: self.dates.add(match[0]))
        self._take(_CLOCK, self._clock)
        self._take(_QUARTER, lambda match: self.dates.add(f"q{match[1]}"))
        self._take(_VERSION, lambda match: self.identifiers.add(match[0].lower().lstrip("v")))
        self._take(_IDENTIFIER, self._identifier, keep=self._is_no_identifier)

    def _take(self, pattern, note, keep=None) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        def replace(match: re.Match[str]) -> str:
            if keep is not None and keep(match[0]):
                return match[0]
            note(match)
            return " \0 "

        self.text = pattern.sub(replace, self.text)

    def _identifier(self, match: re.Match[str]) -> None:
        self.identifiers.add(match[0].rstrip("/").lower())

    def _is_no_identifier(self, found: str) -> bool:
        """Tell whether it is an ordinary word that looks like an identifier."""
        lower = found.lower()
        stem = self.words.stem(lower)
        if stem in self.words.classes or lower in self.words.classes:
            return True
        if "/" in found and not found.startswith((".", "/")):
            # "and/or", "km/h", "his/her": words of a sentence, not a path.
            parts = found.strip("/").split("/")
            return len(parts) == 2 and all(part.isalpha() and part.islower() for part in parts)
        return lower in ("e.g", "i.e", "a.m", "p.m", "etc.")

    def _iso_date(self, match: re.Match[str]) -> None:
        self.numbers += [(float(match[1]), ""), (float(match[3]), "")]
        self.dates.add(f"m{int(match[2])}")

    def _clock(self, match: re.Match[str]) -> None:
        hour = int(match[1]) % 12 + 12 * (match[3] == "p") if match[3] else int(match[1])
        self.numbers.append((hour + int(match[2]) / 60, "clock"))

    def _names(self) -> set[str]:
        """Return the words with a capital, but for those that begin a sentence."""
        words = _WORD.findall(self.text)
        large = [word for word in words if word.lower() not in _SMALL]
        if len(large) > 2 and all(word[:1].isupper() or word[:1].isdigit() for word in large):
            return set()  # a title, or somebody who shouts
        names = set()
        for match in _NAME.finditer(self.text):
            word = match[0].removesuffix("'s").removesuffix("'")
            lower = word.lower()
            before = self.text[max(0, match.start() - _BEFORE) : match.start()]
            begins = _SENTENCE.search(before) is not None
            shouted = len(word) > 1 and word.isupper()
            if (begins and not shouted) or lower == "i" or lower.startswith("i'"):
                continue
            if lower not in self.words.function_words or shouted:
                names.add(lower)
        return names

    # -- phrases ---------------------------------------------------------------------------

    def _phrases(self, text: str, named: list[tuple[str, re.Pattern[str]]]) -> tuple[str, set[str]]:
        found: set[str] = set()
        for name, pattern in named:
            text, many = pattern.subn(" ", text)
            if many:
                found.add(name)
        return text, found

    def _modality(self, text: str) -> str:
        for name, pattern in self.words.modalities:
            if (found := pattern.search(text)) is not None and found.start() < 40:
                before = text[: found.start()].split()
                if not before or before[-1] in ("please", "hi", "hello", ".", ","):
                    return name
        return ""

    # -- numbers ---------------------------------------------------------------------------

    def _digits(self, text: str) -> str:
        def take(match: re.Match[str]) -> str:
            value = float(match["value"].replace(",", ""))
            if match["scale"]:
                value *= _SCALES.get(match["scale"], 1)
            rest = match["unit"] or ""
            unit = self._unit(rest.strip())
            for sign in (match["sign"], match["after"]):
                if sign:
                    currency = self.words.currencies[sign.strip()]
                    self.currencies.add(currency)
            if not match["scale"] and rest[:1] in "kmb" and len(rest) == 1 and unit is None:
                value *= {"k": 1e3, "m": 1e6, "b": 1e9}[rest]
                rest = ""
            scale = self.words.tables.scales.get(rest.strip())
            if scale:
                value, rest = value * scale, ""
            self.numbers.append((-value if match["minus"] else value, unit or ""))
            return f" \0 {'' if unit is not None else rest} "

        return _NUMBER.sub(take, text)

    def _unit(self, word: str) -> str | None:
        """Return the unit that ``word`` is after a number."""
        words = self.words
        found = words.units_attached.get(word)
        if found is None and word not in ("in", "a"):
            found = words.units.get(word)
        return found

    def _written_numbers(self, tokens: list[str]) -> list[str]:
        """Take out numbers that are written as words, with their units."""
        tables, rest, at = self.words.tables, [], 0
        tokens = [part for token in tokens for part in self._compound(token)]
        while at < len(tokens):
            value, end = self._written(tokens, at)
            if value is None:
                token = tokens[at]
                if token in tables.ordinals and not self._is_a_second(tokens, at):
                    self.numbers.append((float(tables.ordinals[token]), ""))
                    # "first" has an opposite as well, so it stays.
                elif token in tables.factors:
                    self.numbers.append((float(tables.factors[token]), "x"))
                    at += 1
                    continue
                rest.append(token)
                at += 1
                continue
            unit = self._unit(tokens[end]) if end < len(tokens) else None
            self.numbers.append((float(min(value, _LARGEST)), unit or ""))
            at = end + (unit is not None)
        return rest

    def _compound(self, token: str) -> list[str]:
        parts = token.split("-")
        numbers = (self.words.tables.numbers, self.words.tables.scales, self.words.tables.ordinals)
        if len(parts) > 1 and any(parts[0] in known for known in numbers):
            return parts
        return [token]

    def _is_a_second(self, tokens: list[str], at: int) -> bool:
        return tokens[at] == "second" and at > 0 and tokens[at - 1] in ("a", "per", "every", "each")

    def _written(self, tokens: list[str], at: int) -> tuple[int | None, int]:
        tables, total, group, end, last = self.words.tables, 0, 0, at, 10**18
        while end < len(tokens):
            token = tokens[end]
            if token in tables.numbers and not self._is_pronoun(tokens, end):
                value = tables.numbers[token]
                if end > at and not (last >= 20 > value or last >= 100 > value):
                    break  # "two three" are two numbers
                group, last = group + value, value
            elif token in tables.scales and (end > at or tokens[end - 1 : end] == ["a"]):
                scale = tables.scales[token]
                if scale == 100:
                    group = max(group, 1) * 100
                else:
                    total, group = total + max(group, 1) * scale, 0
                last = scale
            elif (
                token == _AND
                and end > at
                and last >= 100
                and end + 1 < len(tokens)
                and (tokens[end + 1] in tables.numbers)
            ):
                pass
            else:
                break
            end += 1
        return (None, at) if end == at else (total + group, end)

    def _is_pronoun(self, tokens: list[str], at: int) -> bool:
        if tokens[at] != "one":
            return False
        tables = self.words.tables
        before = tokens[at - 1] if at else ""
        after = tokens[at + 1] if at + 1 < len(tokens) else ""
        return before in tables.one_before or after in tables.one_after or not after

    # -- words -----------------------------------------------------------------------------

    def _content(
        self, tokens: list[str]
    ) -> tuple[list[str], set[tuple[int, int]], set[tuple[str, str]]]:
        words = self.words
        content: list[str] = []
        sides: set[tuple[int, int]] = set()
        members: set[tuple[str, str]] = set()
        pending = 0
        stems = [words.stem(token) for token in tokens]
        for at, token in enumerate(tokens):
            stem = stems[at]
            pair = f"{stem} {stems[at + 1]}" if at + 1 < len(stems) else ""
            members.update(words.classes.get(pair, ()))
            members.update(words.classes.get(stem, ()) or words.classes.get(token, ()))
            self._note_unit(token)
            self._note_month(token)
            sides.update(words.antonyms.get(stem, ()))
            if token in words.negations or stem in words.negations:
                self.negations += 1
                pending = 4
                continue
            base = self._turned_around(token)
            if base is not None:
                self.negations += 1
                self.negated.add(base)
                stem = base
            elif pending and stem not in words.function_words and token not in words.function_words:
                self.negated.add(stem)
                pending = 0
            pending = max(0, pending - 1)
            if token not in words.function_words and stem not in words.function_words:
                content.append(stem)
        return content, sides, members

    def _note_unit(self, token: str) -> None:
        words = self.words
        if (unit := words.units.get(token)) is not None:
            self.units.add(unit)
        if (currency := words.currencies.get(token)) is not None:
            self.currencies.add(currency)

    def _note_month(self, token: str) -> None:
        tables = self.words.tables
        month = tables.months.get(token)
        if month is None:
            return
        if token in tables.shy_months:
            beside = self.text.lower()
            if not re.search(
                rf"(?:\d(?:st|nd|rd|th)?\s+(?:of\s+)?|\b(?:in|on|since|until|by)\s+)"
                rf"{token}\b|\b{token}\.?\s+\d",
                beside,
            ):
                return
        self.dates.add(f"m{month}")

    def _turned_around(self, token: str) -> str | None:
        """Return the stem of what a prefix turns around, None if none does."""
        for prefix in self.words.tables.negative_prefixes:
            if token.startswith(prefix) and len(token) > len(prefix) + 2:
                bare = token[len(prefix) :].lstrip("-")
                stem = self.words.stem(bare)
                if bare in self.words.negatable or stem in self.words.negatable:
                    return stem
                if bare.endswith("ly") and bare[:-2] in self.words.negatable:
                    return self.words.stem(bare[:-2])
        return None

    def _directed(self, tokens: list[str]) -> set[tuple[str, str]]:
        words, found = self.words, set()
        for at, token in enumerate(tokens):
            if token in words.tables.directions:
                before = self._next_content(tokens[:at][::-1])
                after = self._next_content(tokens[at + 1 :])
                if before and after:
                    found.add((before, after))
        return found

    def _next_content(self, tokens: list[str]) -> str | None:
        for token in tokens[:4]:
            stem = self.words.stem(token)
            if token not in self.words.function_words and stem not in self.words.function_words:
                return stem
        return None
