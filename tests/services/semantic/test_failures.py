"""The semantic cache where something beside it fails, hangs, or comes at the wrong moment."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from channels.errors import BadRequest, LoadFailed, SettingsError, StoreUnavailable
from services.semantic.index import Near
from services.semantic.result import Fresh
from services.semantic.settings import SemanticSettings, SkipRules

from ..session_support import Hand
from ..test_session_commands import counted
from .support import Loader, bag, make_cache, make_context

ASKED = "How do I export the report of my team?"
LIKE = "How do I export a report of the team?"
WIDE = SemanticSettings(hit=0.3, uncertain=0.5)


@pytest.fixture
def context(tcp_store):
    """The ground, by a clock that stands still."""
    return make_context(tcp_store, Hand())


async def _away(*_, **__):
    raise StoreUnavailable("away")


async def _until(check):
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - changed by tasks of the test
            await asyncio.sleep(0)


async def test_an_embedding_that_raises_costs_a_hit_and_no_answer(context):
    """The loader answers; a lookup says why it cannot."""

    async def embed(texts):
        raise ConnectionResetError("the model is away")

    cache, loader = make_cache(context, embed=embed), Loader()
    answer = await cache.get_or_set(ASKED, loader)
    assert (answer.response, answer.why) == ("loaded", "unavailable")
    with pytest.raises(LoadFailed, match="the model is away"):
        await cache.lookup(ASKED)


async def test_an_embedding_that_hangs_is_given_up(context):
    """After its time, whether it is a coroutine or in a thread."""

    async def embed(texts):
        await asyncio.Event().wait()

    quick = SemanticSettings(embed_timeout_s=0.01)
    answer = await make_cache(context, embed=embed, settings=quick).get_or_set(ASKED, Loader())
    assert (answer.response, answer.why) == ("loaded", "unavailable")


async def test_a_prompt_is_embedded_once_for_all_who_ask_it(context):
    """Each call of the model is paid for."""
    gate, calls = asyncio.Event(), []

    async def embed(texts):
        calls.append(texts)
        await gate.wait()
        return bag(texts)

    cache, loader = make_cache(context, embed=embed), Loader()
    asking = [asyncio.create_task(cache.get_or_set(ASKED, loader)) for _ in range(50)]
    await _until(lambda: calls)
    asking[0].cancel()
    gate.set()
    answers = await asyncio.gather(*asking[1:])
    assert {answer.response for answer in answers} == {"loaded"}
    assert (calls, loader.calls) == ([[ASKED]], 1)


async def test_an_embedding_need_not_be_hashable(context):
    """An object that can be called and compared is one."""

    @dataclasses.dataclass
    class Model:
        name: str

        def __call__(self, texts):
            return bag(texts)

    cache = make_cache(context, embed=Model("m"), settings=WIDE)
    await cache.store(ASKED, "So.")
    assert await cache.lookup(LIKE)


async def test_who_asks_after_an_invalidation_does_not_wait_for_an_older_answer(context):
    """What began before may have read what is out of date."""
    gate, cache = asyncio.Event(), make_cache(context)

    async def old():
        await gate.wait()
        return "old"

    before = asyncio.create_task(cache.get_or_set(ASKED, old))
    await _until(lambda: len(context.semantic.flights))
    await cache.invalidate(everything=True)
    assert (await cache.get_or_set(ASKED, Loader("new"))).response == "new"
    gate.set()
    assert (await before).response == "old"
    assert (await cache.lookup(ASKED)).response == "new"


async def test_without_redis_the_same_is_still_asked_once(context, monkeypatch):
    """The model is not given what the cache took from it; nor is anything kept."""
    cache, loader = make_cache(context), Loader()
    with monkeypatch.context() as patch:
        patch.setattr(type(cache._entries), "get", _away)
        answers = await asyncio.gather(*(cache.get_or_set(ASKED, loader) for _ in range(20)))
    assert {answer.why for answer in answers} == {"unavailable"}
    assert loader.calls == 1
    assert not await cache.lookup(ASKED)


async def test_what_shadow_mode_cannot_load_is_the_answer_that_was_found(context):
    """A hit is a hit, though the model is away."""
    cache = make_cache(context, settings=SemanticSettings(hit=0.3, uncertain=0.5, shadow_share=1.0))
    await cache.store(ASKED, "So.")

    async def fail():
        raise RuntimeError("no model")

    assert (await cache.get_or_set(LIKE, fail)).response == "So."


async def test_what_shadow_mode_loaded_before_an_invalidation_is_not_kept(context):
    """As with any other loader."""
    cache = make_cache(context, settings=SemanticSettings(hit=0.3, uncertain=0.5, shadow_share=1.0))
    await cache.store(ASKED, "So.")

    async def load():
        await cache.invalidate(everything=True)
        return "out of date"

    answer = await cache.get_or_set(LIKE, load)
    assert (answer.response, answer.entry) == ("out of date", "")
    assert not await cache.lookup(LIKE)


async def test_one_answer_beyond_the_cap_does_not_drive_out_all_others(context):
    """It would not fit alone."""
    cache = make_cache(context, settings=SemanticSettings(max_bytes=4_000))
    await cache.store("Explain charlie", "c")
    assert (await cache.store("Explain delta", "d" * 5_000)).reason == "large"
    assert await cache.lookup("Explain charlie")


async def test_prompts_and_metadata_count_as_bytes(context):
    """Or a cap on answers leaves the memory to long questions."""
    cache = make_cache(context, settings=SemanticSettings(max_bytes=40_000))
    for number in range(4):
        await cache.store(f"Explain {number} " + "word " * 2_000, "x", metadata={"of": "y" * 5_000})
    many, size = await cache.size()
    assert (many, 30_000 < size <= 40_000) == (2, True)


async def test_a_category_that_is_no_text_is_refused_before_anything_is_made(context):
    """Not after the model was paid."""
    loader = Loader()
    with pytest.raises(BadRequest, match="category"):
        await make_cache(context).get_or_set(ASKED, loader, category="\ud800")
    assert loader.calls == 0


async def test_a_temperature_that_is_no_number_is_not_cached(context):
    """Nobody knows how much the answers differ."""
    assert (await make_cache(context).lookup(ASKED, temperature=float("nan"))).reason == (
        "temperature"
    )


async def test_what_runs_ends_with_the_services(context):
    """No task stays behind."""
    cache = make_cache(context)
    asking = asyncio.create_task(cache.get_or_set(ASKED, asyncio.Event().wait))
    await _until(lambda: len(context.semantic.flights))
    await context.semantic.close()
    assert len(context.semantic.flights) == 0
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_those_who_come_first_together_read_the_vectors_once(context, tcp_store):
    """And none of them misses what is there."""
    await make_cache(context, settings=WIDE).store(ASKED, "So.")
    other = make_context(tcp_store, Hand())
    cache = make_cache(other, settings=WIDE)

    async def ask():
        answers = await asyncio.gather(*(cache.lookup(LIKE) for _ in range(30)))
        assert all(answers)

    found = await counted(tcp_store, ask)
    assert found["zrangebylex"] == 1
    assert other.semantic.stats.resyncs == 1


async def test_partitions_that_grow_make_room_too(context):
    """The cap on vectors holds whenever some are read, not only for new partitions."""
    bound = SemanticSettings(hit=0.3, uncertain=0.5, max_vectors=30, resync_s=0.0)
    cache = make_cache(context, settings=bound)
    for model in ("a", "b", "c"):
        await cache.lookup(LIKE, model=model)
    writer = make_cache(make_context(context.store, Hand()), settings=bound)
    for model in ("a", "b", "c"):
        for number in range(15):
            await writer.store(f"Explain word{number}", "x", model=model)
    for model in ("a", "b", "c"):
        await cache.lookup(LIKE, model=model)
    assert context.semantic.of("w1").size() <= 30


async def test_an_index_that_fails_leaves_what_is_kept(context):
    """Found by its very text until it is stored again."""

    class Away:
        add = remove = synced = staticmethod(_away)

        async def search(self, *_, **__) -> list[Near]:
            return []

    cache = make_cache(context, index=Away())
    assert await cache.store(ASKED, "So.")
    assert (await cache.lookup(ASKED)).source == "exact"


async def test_every_key_has_an_end_whatever_made_it(context, tcp_store):
    """Also those that come later than the first entry, or come back."""
    cache = make_cache(context)

    async def ends():
        keys = context.keys.semantic("w1")
        return {key: await tcp_store.execute("PTTL", key) for key in keys}

    await cache.store(ASKED, "So.", tags=["doc:1"], ttl_s=3_600)
    await cache.invalidate(tags=["doc:1"])
    assert -1 not in (await ends()).values()
    await cache.store(ASKED, "So.", tags=["doc:1"], ttl_s=60)
    later = await ends()
    assert min(later.values()) > 2 * 86_400_000


async def test_workspaces_that_only_store_leave_nothing_in_the_process(context):
    """However many there are."""
    bound = SemanticSettings(max_partitions=3)
    for number in range(8):
        await make_cache(context, f"w{number}", settings=bound).store(ASKED, "So.")
    assert len(context.semantic._replicas) <= 3


async def test_uses_that_wait_are_bounded(context, monkeypatch):
    """Those of the workspaces that were used first are forgotten."""
    monkeypatch.setattr("services.semantic.replicas._NOTED", 3)
    for number in range(8):
        context.semantic.note_used(f"w{number}", "id")
    assert list(context.semantic._used) == ["w5", "w6", "w7"]


async def test_a_pattern_that_is_none_is_told_when_the_cache_is_made(context):
    """Not at the first question."""
    with pytest.raises(SettingsError, match="no regular expression"):
        make_cache(context, settings=SemanticSettings(skip=SkipRules(user_patterns=["("])))


async def test_one_text_in_place_of_a_list_is_refused(context):
    """Letter by letter it would tag, and invalidate, what nobody named."""
    cache = make_cache(context)
    for named in ("doc:1", [3]):
        with pytest.raises(BadRequest, match="a list of texts"):
            await cache.store(ASKED, "So.", tags=named)
        with pytest.raises(BadRequest, match="a list of texts"):
            await cache.invalidate(tags=named)
        with pytest.raises(BadRequest, match="a list of texts"):
            await cache.invalidate(users=named)
        with pytest.raises(BadRequest, match="a list of texts"):
            await cache.get_or_set(ASKED, lambda named=named: Fresh("So.", tags=named))
