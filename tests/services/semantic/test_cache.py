"""The semantic cache through its door, on stores of both kinds."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from channels.catalogue import WORKSPACE
from channels.errors import BadRequest, SettingsError, StoreUnavailable
from services.semantic.result import Fresh
from services.semantic.settings import Band, SemanticSettings

from ..session_support import Hand
from .support import Loader, bag, make_cache, make_context

ASKED = "How do I export the report of my team?"
LIKE = "How do I export a report of the team?"


@pytest.fixture
def hand():
    """The hand of the clock."""
    return Hand()


@pytest.fixture
def context(any_store, hand):
    """The ground, by a clock that stands still."""
    return make_context(any_store, hand)


@pytest.fixture
def cache(context):
    """A cache that takes bags of words of the same content for near."""
    return make_cache(context, settings=SemanticSettings(hit=0.3, uncertain=0.5))


async def told(context, workspace="w1"):
    """Return the events of a workspace."""
    channel = context.catalogue.find(WORKSPACE.name(workspace=workspace))
    page = await context.log.read(channel)
    return [publication.data for publication in page.publications]


async def test_the_same_prompt_is_answered_whatever_its_blanks(cache, hand):
    """An exact match tells its source, age and distance."""
    stored = await cache.store(ASKED, {"text": "So."}, metadata={"tokens": 3})
    assert stored
    hand.move(5)
    answer = await cache.lookup(f"  {ASKED.replace(' ', '   ')} ")
    assert answer
    assert (answer.source, answer.response, answer.distance) == ("exact", {"text": "So."}, 0.0)
    assert answer.age_s == 5.0
    assert answer.metadata == {"tokens": 3}
    assert answer.entry == stored.entry


async def test_a_prompt_in_other_words_is_answered(cache):
    """A near match tells what it matched and how far it is."""
    await cache.store(ASKED, "So.")
    answer = await cache.lookup(LIKE)
    assert answer
    assert answer.source == "semantic"
    assert answer.prompt == ASKED
    assert 0 < answer.distance <= 0.3
    assert answer.confidence == pytest.approx(1 - answer.distance)
    assert cache.stats.semantic == 1


async def test_a_prompt_that_is_far_is_a_miss(cache):
    """The miss says how far the nearest was."""
    await cache.store(ASKED, "So.")
    miss = await cache.lookup("Which planet is the largest?")
    assert not miss
    assert miss.reason == "far"
    assert miss.distance > 0.5


@pytest.mark.parametrize(
    ("cached", "asked", "reason"),
    [
        ("Is port 22 open on the server?", "Is port 22 closed on the server?", "antonyms"),
        ("Is port 22 open on the server?", "Is port 23 open on the server?", "numbers"),
        ("Do I have to pay for it?", "Don't I have to pay for it?", "negation"),
        ("Convert miles to km please", "Convert km to miles please", "order"),
    ],
)
async def test_the_guard_refuses_what_is_near_and_means_something_else(
    cache, cached, asked, reason
):
    """However near the vectors are; the refusal says why."""
    await cache.store(cached, "yes")
    wide = SemanticSettings(hit=0.9, uncertain=0.9)
    miss = await make_cache(cache._context, settings=wide).lookup(asked)
    assert not miss
    assert [refusal.reason for refusal in miss.refusals] == [reason]
    assert cache.stats.refusals == {reason: 1}


@pytest.mark.parametrize(
    "other",
    [
        {"model": "other"},
        {"prompt_version": "2"},
        {"locale": "en-GB"},
        {"user": "ada"},
        {"context": "be brief"},
    ],
)
async def test_what_an_answer_depends_on_is_never_compared(cache, other):
    """Model, version, language, user and context are hard filters, for both ways."""
    await cache.store(ASKED, "So.")
    for prompt in (ASKED, LIKE):
        assert not await cache.lookup(prompt, **other)
    await cache.store(ASKED, "Other.", **other)
    assert (await cache.lookup(LIKE, **other)).response == "Other."
    assert (await cache.lookup(LIKE)).response == "So."


async def test_workspaces_do_not_see_each_other(context, cache):
    """The same prompt in two workspaces has two answers."""
    other = make_cache(context, "w2", settings=cache.settings)
    await cache.store(ASKED, "mine")
    assert not await other.lookup(ASKED)
    assert not await other.lookup(LIKE)
    await other.store(ASKED, "theirs")
    assert (await cache.lookup(LIKE)).response == "mine"
    await other.invalidate(everything=True)
    assert (await cache.lookup(ASKED)).response == "mine"


async def test_the_judge_decides_what_is_uncertain(context):
    """Yes is an answer; no, nothing, an error and silence are none."""
    said = []

    async def judge(asked, cached, response):
        said.append((asked, cached, response))
        return True

    async def hang(*_):
        await asyncio.Event().wait()

    bands = SemanticSettings(hit=0.01, uncertain=0.5, judge_timeout_s=0.01)
    await make_cache(context, settings=bands).store(ASKED, "So.")
    yes = await make_cache(context, settings=bands, judge=judge).lookup(LIKE)
    assert yes.source == "judged"
    assert said == [(LIKE, ASKED, "So.")]
    for other in (None, lambda *_: False, lambda *_: 1 / 0, hang):
        miss = await make_cache(context, settings=bands, judge=other).lookup(LIKE)
        assert not miss
        assert miss.reason == "uncertain"
    assert context.semantic.stats.judge_failures == 2


async def test_a_category_has_its_own_distances(context):
    """The same two prompts are near for one category and far for another."""
    settings = SemanticSettings(
        hit=0.3, uncertain=0.5, categories={"legal": Band(hit=0.0, uncertain=0.0)}
    )
    cache = make_cache(context, settings=settings)
    await cache.store(ASKED, "So.")
    assert await cache.lookup(LIKE, category="chat")
    assert (await cache.lookup(LIKE, category="legal")).reason == "far"


async def test_entries_end_and_are_never_given_after_their_time(cache, context, hand):
    """At its time an entry is gone; the sweeper tells of it."""
    await cache.store(ASKED, "So.", ttl_s=60)
    await cache.store("What is a webhook good for?", "x", ttl_s=600)
    assert await cache.lookup(LIKE)
    hand.move(60)
    for prompt in (ASKED, LIKE):
        assert not await cache.lookup(prompt)
    assert (await cache.size())[0] == 2
    await context.sweeper.sweep()
    assert (await cache.size())[0] == 1
    assert context.semantic.stats.expired == 1
    events = await told(context)
    assert b'"semantic.removed"' in events[-1]
    assert b'"reason":"expired"' in events[-1]
    hand.move(600)
    await context.sweeper.sweep()
    assert await cache.size() == (0, 0)
    due = await context.store.execute("ZCARD", context.keys.due("w1"))
    assert due == 0


async def test_what_was_not_used_longest_makes_room(context, hand):
    """A cap of entries; used ones stay."""
    settings = SemanticSettings(max_entries=3)
    cache = make_cache(context, settings=settings)
    words = ["alpha", "bravo", "charlie", "delta"]
    for word in words[:3]:
        await cache.store(f"Explain {word}", word)
        hand.move(1)
    assert await cache.lookup("Explain alpha")
    used = context.semantic._used.pop("w1")
    await cache._entries.touch(used)
    stored = await cache.store("Explain delta", "delta")
    assert len(stored.removed) == 1
    assert not await cache.lookup("Explain bravo")
    for word in ("alpha", "charlie", "delta"):
        assert await cache.lookup(f"Explain {word}")
    assert (await cache.size())[0] == 3
    assert context.semantic.stats.evictions == 1


async def test_a_cap_of_bytes_holds(context):
    """Large answers push out more than one."""
    cache = make_cache(context, settings=SemanticSettings(max_bytes=20_000))
    for number in range(8):
        await cache.store(f"Explain thing number {number}", "x" * 3_000)
    many, size = await cache.size()
    assert size <= 20_000
    assert 2 <= many < 8


async def test_an_invalidated_answer_is_never_given_again(context, cache):
    """By tag, model, version, user or all of them; others stay."""
    await cache.store("Explain alpha", "a", tags=["doc:1"])
    await cache.store("Explain bravo", "b", tags=["doc:2", "doc:1"])
    await cache.store("Explain charlie", "c", tags=["doc:2"])
    await cache.store("Explain delta", "d", prompt_version="2")
    assert await cache.invalidate(tags=["doc:1"]) == 2
    assert not await cache.lookup("Explain alpha")
    assert not await cache.lookup("Explain bravo")
    assert await cache.lookup("Explain charlie")
    assert await cache.invalidate(prompt_versions=["2"]) == 1
    assert not await cache.lookup("Explain delta", prompt_version="2")
    assert await cache.invalidate(everything=True) == 1
    assert await cache.size() == (0, 0)
    with pytest.raises(BadRequest):
        await cache.invalidate()


@pytest.mark.parametrize(
    "invalidate",
    [
        lambda cache: cache.invalidate(tags=["doc:1"]),
        lambda cache: cache.invalidate(models=["m"]),
        lambda cache: cache.invalidate(everything=True),
        lambda cache: cache.remove(ASKED),
    ],
)
async def test_an_answer_from_before_an_invalidation_is_not_kept(cache, invalidate):
    """The loader read what is out of date; what others invalidate does not matter."""
    miss = await cache.lookup(ASKED)
    await invalidate(cache)
    stored = await cache.store(ASKED, "old", tags=["doc:1"], mark=miss.mark)
    assert not stored
    assert stored.reason == "outdated"
    again = await cache.lookup(ASKED)
    assert not again
    await cache.invalidate(tags=["doc:9"])
    assert await cache.store(ASKED, "new", tags=["doc:1"], mark=again.mark)


async def test_a_loader_is_asked_once_by_all_who_ask_the_same(cache):
    """In one process; what it gives is kept and given to others in other words."""
    gate = asyncio.Event()
    loader = Loader()

    async def load():
        await gate.wait()
        return await loader()

    asking = [asyncio.create_task(cache.get_or_set(ASKED, load)) for _ in range(5)]
    while not cache._context.semantic.flights:  # noqa: ASYNC110 - set by the tasks above
        await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.gather(*asking)
    assert {answer.response for answer in answers} == {"loaded"}
    assert loader.calls == 1
    assert (await cache.get_or_set(LIKE, loader)).source == "semantic"
    assert loader.calls == 1


async def test_a_loader_that_fails_keeps_nothing(cache):
    """Its error is the caller's; the next one asks again."""

    async def fail():
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError, match="no model"):
        await cache.get_or_set(ASKED, fail)
    assert (await cache.get_or_set(ASKED, Loader("ok"))).response == "ok"


async def test_a_loader_can_say_more(cache):
    """Tags, and that this is for now only."""
    answer = await cache.get_or_set(ASKED, lambda: Fresh("once", keep=False))
    assert answer.why == "not wanted"
    assert not await cache.lookup(ASKED)
    await cache.get_or_set(ASKED, lambda: Fresh("tagged", tags=["doc:1"]))
    assert await cache.invalidate(tags=["doc:1"]) == 1


async def test_without_redis_or_embedding_the_loader_answers(context, cache, monkeypatch):
    """A cache that is away is slower, not wrong."""
    bad = make_cache(context, embed=lambda texts: np.zeros((len(texts), 4)))
    answer = await bad.get_or_set(ASKED, Loader("fresh"))
    assert (answer.response, answer.why) == ("fresh", "unavailable")

    async def away(*_, **__):
        raise StoreUnavailable("away")

    monkeypatch.setattr(type(cache._entries), "get", away)
    answer = await cache.get_or_set(ASKED, Loader("fresh"))
    assert (answer.response, answer.why) == ("fresh", "unavailable")


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (np.zeros((1, 4)), "zeros"),
        (np.array([[1.0, np.nan]]), "NaN"),
        (np.array([[1.0, np.inf]]), "infinity"),
        (np.ones((2, 4)), "shape"),
        ("words", "numbers"),
    ],
)
async def test_a_vector_that_is_none_is_refused(context, made, what):
    """Before anything is compared with it."""
    cache = make_cache(context, embed=lambda _: made)
    with pytest.raises(BadRequest, match=what):
        await cache.store(ASKED, "So.")
    with pytest.raises(BadRequest, match=what):
        await cache.lookup(ASKED)


async def test_another_dimension_is_refused_where_one_is_named(context):
    """And without a name it is never compared."""
    with pytest.raises(BadRequest, match="dimension 8"):
        await make_cache(context, dimension=8).lookup(ASKED)
    await make_cache(context).store(ASKED, "So.")
    assert not await make_cache(context, embed=lambda texts: np.ones((len(texts), 3))).lookup(LIKE)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\0\0", "empty"),
        ("x" * 1_000_000, "long"),
        ("a lone \ud800 surrogate", "text"),
        ("What is the weather today?", "volatile"),
        ("Where is my order?", "user"),
        ("Write to ada@example.com", "user"),
    ],
)
async def test_what_is_no_question_for_all_is_left_alone(cache, prompt, reason):
    """Neither looked up nor kept, and answered by the loader."""
    assert (await cache.lookup(prompt)).reason == reason
    stored = await cache.store(prompt, "x")
    assert not stored
    assert stored.reason == reason
    answer = await cache.get_or_set(prompt, Loader("fresh"))
    assert (answer.response, answer.why) == ("fresh", reason)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "empty"),
        (None, "empty"),
        ({"error": "rate limited"}, "error"),
        ({"choices": [{"finish_reason": "length", "message": {"content": "x"}}]}, "error"),
        ({"choices": [{"message": {"tool_calls": [{"id": "1"}]}}]}, "tools"),
        ({"content": [{"type": "tool_use", "name": "f"}]}, "tools"),
        ("x" * 300_000, "large"),
    ],
)
async def test_what_is_no_answer_is_not_kept(cache, response, reason):
    """Errors, tool calls, answers that broke off."""
    assert (await cache.store(ASKED, response)).reason == reason
    assert not await cache.lookup(ASKED)


async def test_hot_answers_and_those_of_one_user_are_left_alone(cache):
    """What callers say counts."""
    assert (await cache.lookup(ASKED, temperature=0.9)).reason == "temperature"
    assert (await cache.lookup(ASKED, user_specific=True)).reason == "user"
    assert (await cache.lookup(ASKED, tools=True)).reason == "tools"
    assert await cache.store("Where is my order?", "There.", user="ada")
    assert await cache.lookup("Where is my order?", user="ada")
    assert not await cache.lookup("Where is my order?", user="bob")


@pytest.mark.parametrize("text", ["a\0b?", "{w2}:semantic", "fw:{w2}:semantic \n#v", "#v", "!x"])
async def test_hostile_text_is_only_text(cache, text):
    """Prompts, models and tags never become a key or a field."""
    await cache.store(text, "x", model=text, tags=[text], context=text)
    assert (await cache.lookup(text, model=text, context=text)).response == "x"
    assert (await cache.size())[0] == 1
    assert await cache.invalidate(tags=[text]) == 1


async def test_a_language_without_tables_is_only_matched_exactly(context):
    """Nothing would tell a negation there."""
    loose = SemanticSettings(hit=0.3, uncertain=0.5, unguarded_languages=True)
    cache = make_cache(context, locale="xx", settings=SemanticSettings(hit=0.3, uncertain=0.5))
    await cache.store(ASKED, "So.")
    assert await cache.lookup(ASKED)
    assert not await cache.lookup(LIKE)
    assert await make_cache(context, locale="xx", settings=loose).lookup(LIKE)


async def test_shadow_mode_finds_false_hits_and_tightens(context):
    """A hit that was wrong is told, must be nearer, and goes after some of them."""
    settings = SemanticSettings(hit=0.3, uncertain=0.5, shadow_share=1.0, max_false_hits=2)
    cache = make_cache(context, settings=settings, chance=lambda: 0.0)
    await cache.store(ASKED, "So.")
    right = await cache.get_or_set(LIKE, Loader("so. "))
    assert right.source == "semantic"
    assert (cache.stats.shadow_samples, cache.stats.false_hits) == (1, 0)
    wrong = await cache.get_or_set(LIKE, Loader("No."), category="chat")
    assert (wrong.response, wrong.why) == ("No.", "false hit")
    assert cache.stats.shadow["hit"].rate == 0.5
    assert cache.stats.shadow["category:chat"].rate == 1.0
    assert b'"semantic.tightened"' in (await told(context))[1]
    await cache.remove(LIKE)
    assert not await cache.lookup(LIKE)
    assert await cache.lookup(ASKED)


async def test_an_entry_goes_after_too_many_false_hits(context, cache):
    """The same report twice in a row counts twice; an unknown outcome does not."""
    await cache.store(ASKED, "So.")
    answer = await cache.lookup(LIKE)
    assert [await cache.report_false_hit(answer) for _ in range(3)] == [1, 2, 3]
    assert not await cache.lookup(ASKED)
    assert await cache.report_false_hit(answer) == 0
    assert await cache.size() == (0, 0)
    with pytest.raises(BadRequest):
        await cache.report_false_hit(await cache.get_or_set(ASKED, Loader()))


async def test_the_calls_of_the_first_version(cache):
    """A hash of the application's own, no likeness."""
    assert await cache.get_semantic_cached("abc") is None
    assert await cache.set_semantic_cache("abc", {"text": "So."}, tags=["t"])
    assert await cache.get_semantic_cached("abc") == {"text": "So."}
    assert await cache.invalidate(tags=["t"]) == 1
    assert await cache.get_semantic_cached("abc") is None


async def test_events_carry_ids_and_never_what_was_asked(context, cache):
    """Each change is told once, with a version that rises by one."""
    await cache.store(ASKED, "secret answer", tags=["t"])
    await cache.invalidate(tags=["t"])
    events = await told(context)
    assert len(events) == 2
    for number, text in enumerate(events, 1):
        assert b'"version":%d' % number in text
        assert b"export" not in text
        assert b"secret" not in text


async def test_settings_that_make_no_sense(context):
    """They are refused when the cache is made."""
    for settings in (
        SemanticSettings(hit=0.3, uncertain=0.1),
        SemanticSettings(candidates=0),
        SemanticSettings(shadow_share=2.0),
    ):
        with pytest.raises(SettingsError):
            make_cache(context, settings=settings)


async def test_an_embedding_may_be_a_coroutine_or_run_in_a_thread(context):
    """And is asked once for a lookup and the store that follows."""
    calls = []

    async def embed(texts):
        calls.append(texts)
        return bag(texts)

    cache = make_cache(context, embed=embed)
    miss = await cache.lookup(ASKED)
    await cache.store(ASKED, "So.", mark=miss.mark)
    assert calls == [[ASKED]]
