"""What a guard has to know of a language, as data: another language is another set of tables."""

from __future__ import annotations

import msgspec

__all__ = ["GuardTables"]


class GuardTables(msgspec.Struct, frozen=True, kw_only=True):
    """The words of one language that turn a question into another one.

    Words are lower case and as in a dictionary; inflected forms are found by ``endings`` and
    ``irregular``. Phrases are words with single blanks between them.
    """

    language: str
    #: Words that turn a statement around, and phrases that look so and do not.
    negations: frozenset[str] = frozenset()
    neutral_phrases: tuple[str, ...] = ()
    #: Short forms by what they are written out, before anything else is read.
    contractions: dict[str, str] = {}
    #: Prefixes that turn a word around, and the words they do it to.
    negative_prefixes: tuple[str, ...] = ()
    negatable: frozenset[str] = frozenset()
    #: Pairs of which a text means one or the other; each side may have several words.
    antonyms: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    #: Sets of which a text means one: colours, countries. By name, for the reason.
    classes: dict[str, tuple[tuple[str, ...], ...]] = {}
    #: Classes whose members a text may leave out without meaning something else.
    loose_classes: frozenset[str] = frozenset()
    #: Phrases by what they say of a number or of a set (``>=``, ``all``), and those among these
    #: that must be said in both texts.
    quantifiers: dict[str, tuple[str, ...]] = {}
    loose_quantifiers: frozenset[str] = frozenset()
    #: Phrases by what is asked for.
    questions: dict[str, tuple[str, ...]] = {}
    #: Beginnings of a text by what they ask to be done or allowed.
    modalities: dict[str, tuple[str, ...]] = {}
    #: Written numbers: values that add up, and those that multiply.
    numbers: dict[str, int] = {}
    scales: dict[str, int] = {}
    ordinals: dict[str, int] = {}
    factors: dict[str, float] = {}
    #: Words before or after which "one" is no number.
    one_before: frozenset[str] = frozenset()
    one_after: frozenset[str] = frozenset()
    #: Units and currencies by their names; those of ``units_attached`` only after a number.
    units: dict[str, tuple[str, ...]] = {}
    units_attached: dict[str, tuple[str, ...]] = {}
    currencies: dict[str, tuple[str, ...]] = {}
    months: dict[str, int] = {}
    #: Words that are a month only beside a number.
    shy_months: frozenset[str] = frozenset()
    dates: dict[str, tuple[str, ...]] = {}
    #: Between two things of which the first is not the second: "from A to B".
    directions: frozenset[str] = frozenset()
    #: Words that carry no meaning of their own, and sets of words that mean the same.
    function_words: frozenset[str] = frozenset()
    synonyms: tuple[tuple[str, ...], ...] = ()
    irregular: dict[str, str] = {}
    #: Endings to take off, in this order, with what takes their place.
    endings: tuple[tuple[str, str], ...] = ()
