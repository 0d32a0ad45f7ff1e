"""The guard: pairs that ask for the same, and pairs that only look so."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.semantic.english import ENGLISH
from services.semantic.guard import REASONS, Guard
from services.semantic.settings import SkipRules
from services.semantic.skip import skip_prompt
from services.semantic.tables import GuardTables

GUARD = Guard()

SAME = [
    ("How do I reset my password?", "What is the way to reset my password?"),
    ("It isn't available", "It is unavailable"),
    ("The total is 1,000 dollars", "The total is $1000"),
    ("a meeting on May 1, 2024", "a meeting on 2024-05-01"),
    ("for twenty-five users", "for 25 users"),
    ("for three hundred and five items", "for 305 items"),
    ("What's France's capital?", "what is the capital of france"),
    ("I don't know how to export data", "How do I export data"),
    ("at least 5 items", "no fewer than five items"),
    ("Why can't I log in?", "Why cannot I log in?"),
    ("Explain `git rebase`", "What does `git rebase` do?"),
]
OTHER = [
    ("Is port 22 open?", "Is port 22 closed?", "antonyms"),
    ("enable logging", "disable logging", "antonyms"),
    ("increase the limit", "decrease the limit", "antonyms"),
    ("before lunch", "after lunch", "antonyms"),
    ("Should I buy it", "Should I sell it", "antonyms"),
    ("Is it not unlikely?", "Is it unlikely?", "negation"),
    ("don't restart it", "restart it", "negation"),
    ("Can I pay", "Can't I pay", "negation"),
    ("with sugar", "without sugar", "negation"),
    ("at least 5", "at most 5", "quantifiers"),
    ("more than 5", "less than 5", "quantifiers"),
    ("delete all users", "delete some users", "quantifiers"),
    ("10 kg of it", "10 lb of it", "numbers"),
    ("ten items", "eleven items", "numbers"),
    ("it is 5%", "it is 6%", "numbers"),
    ("costs $5", "costs €5", "currencies"),
    ("Python 3.11", "Python 3.12", "numbers"),
    ("release 1.2.3", "release 1.2.4", "identifiers"),
    ("open config.yaml", "open config.json", "identifiers"),
    ("call do_it()", "call undo_it()", "identifiers"),
    ("on Monday", "on Tuesday", "dates"),
    ("in March 2024", "in April 2024", "dates"),
    ("What does 'foo' do", "What does 'bar' do", "quoted"),
    ("capital of France?", "capital of Germany?", "members"),
    ("capital of france", "capital of germany", "members"),
    ("Who is Ada Lovelace", "Who is Grace Hopper", "names"),
    ("convert miles to km", "convert km to miles", "order"),
    ("When did it start", "Where did it start", "question"),
    ("Can I restart it", "Do I have to restart it", "modality"),
    ("How do I bake a cake", "How do I bake a pie", "substitution"),
]


@pytest.mark.parametrize(("asked", "cached"), SAME)
def test_the_same_in_other_words_passes(asked, cached):
    """Both ways."""
    assert GUARD.refuse(asked, cached) is None
    assert GUARD.refuse(cached, asked) is None


@pytest.mark.parametrize(("asked", "cached", "reason"), OTHER)
def test_something_else_is_refused_with_the_reason(asked, cached, reason):
    """Both ways, and the reason is one of those that are counted."""
    for one, two in ((asked, cached), (cached, asked)):
        refusal = GUARD.refuse(one, two)
        assert refusal is not None
        assert refusal.reason == reason
        assert refusal.reason in REASONS
        assert str(refusal).startswith(reason)


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_asks_for_the_same_as_itself(text):
    """Whatever it is; and reading never fails."""
    assert GUARD.refuse(text, text) is None


@given(st.text(max_size=100), st.text(max_size=100))
@settings(max_examples=200, deadline=None)
def test_a_refusal_goes_both_ways(one, two):
    """Which of both was cached does not matter."""
    assert (GUARD.refuse(one, two) is None) == (GUARD.refuse(two, one) is None)


@pytest.mark.parametrize("part", ["a", "a.", "a-", "-", "1.", "x_", "a@", "/a"])
def test_a_long_word_takes_no_time(part):
    """No pattern goes through it once for each of its letters: nothing else runs meanwhile."""
    text = part * (32_000 // len(part))
    started = time.process_time()
    skip_prompt(text, SkipRules(), user="", temperature=0.0)
    assert GUARD.refuse(text[:8_000], text[:7_998] + "zz").reason == "identifiers"
    assert time.process_time() - started < 0.5


def test_thousands_of_words_are_not_matched_with_each_other():
    """Nobody asks for the same in so many other words."""
    text = "Aa Bb " * 1_300
    started = time.process_time()
    assert GUARD.refuse("paint " + text, "clean " + text).reason == "length"
    assert GUARD.refuse(text, text) is None
    assert time.process_time() - started < 0.4


def test_numbers_beyond_all_measure_are_read():
    """As words and as digits; the digits are compared as they are."""
    assert GUARD.refuse("hundred million " * 90, "a hundred") is not None
    assert GUARD.refuse("add " + "9" * 400, "add " + "9" * 401) is not None


def test_both_directions_in_one_text_are_no_difference():
    """A text asks for the same as itself."""
    both = "From Rome to Oslo or from Oslo to Rome?"
    assert GUARD.refuse(both, both) is None
    assert GUARD.refuse("From Rome to Oslo?", "From Oslo to Rome?").reason == "order"


def test_the_same_words_with_their_parts_exchanged_are_refused():
    """Who does what to whom; a clause that only moved is no difference."""
    asked = "May a tenant evict the landlord?"
    assert GUARD.refuse(asked, "May the landlord evict a tenant?").reason == "order"
    moved = "When the disk is full, how do I rotate the log?"
    assert GUARD.refuse(moved, "How do I rotate the log when the disk is full?") is None


def test_an_end_that_is_not_read_must_be_the_same():
    """Long prompts that differ at the end are not the same."""
    long = "word " * 3_000
    assert GUARD.refuse(long + "a", long + "a") is None
    assert GUARD.refuse(long + "a", long + "b").reason == "length"


def test_one_word_for_another_passes_without_substitutions():
    """The setting that trades wrong answers for hits."""
    loose = Guard(ENGLISH, substitutions=False)
    assert loose.refuse("How do I bake a cake", "How do I bake a pie") is None


def test_another_language_is_another_set_of_tables():
    """What it does not have is not guarded."""
    german = GuardTables(
        language="de", negations=frozenset({"nicht"}), antonyms=((("hell",), ("dunkel",)),)
    )
    guard = Guard(german)
    assert guard.refuse("Bleibt es hell?", "Bleibt es dunkel?").reason == "antonyms"
    assert guard.refuse("Geht das nicht?", "Geht das?").reason == "negation"
