"""Answers of language models: the same request, and nothing else, gets the same answer."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from channels.catalogue import Catalogue
from channels.errors import BadRequest
from services.caching.llm_cache import LlmRequest
from services.context import Context

from .cache_support import until

HELLO = {"role": "user", "content": "hello"}
ANSWER = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}


def request(**changes: object) -> LlmRequest:
    """Return a request, with changes."""
    fields = {"model": "m-1", "messages": [HELLO], "parameters": {"temperature": 0}}
    return LlmRequest(**(fields | changes))


class Model:
    """Counts what it is asked."""

    def __init__(self, response: object = ANSWER) -> None:
        self.response = response
        self.calls = 0

    async def __call__(self) -> object:
        """Answer."""
        self.calls += 1
        await asyncio.sleep(0)
        if isinstance(self.response, Exception):
            raise self.response
        return self.response


@pytest.fixture
async def caches(any_store, keys):
    """The caches of a process."""
    context = Context(any_store, keys, Catalogue())
    yield context.caches
    await context.caches.close()


@pytest.fixture
def llm(caches):
    """The cache of one workspace."""
    return caches.llm("w1")


async def test_the_same_request_is_asked_once(llm, caches):
    """What it would have cost is saved."""
    model = Model()
    first = await llm.get_or_call(request(), model, cost=lambda _: 250)
    again = await llm.get_or_call(
        request(parameters={"temperature": 0.0}), model, cost=lambda _: 250
    )
    assert (first.cached, again.cached) == (False, True)
    assert first.response == again.response == ANSWER
    assert model.calls == 1
    answers = await asyncio.gather(
        *(llm.get_or_call(request(model="m-2"), model, cost=lambda _: 100) for _ in range(10))
    )
    assert [answer.cached for answer in answers].count(False) == 1
    assert model.calls == 2
    stats = caches.llm_stats
    assert (stats.hits, stats.misses, stats.saved_micro_usd) == (10, 2, 250 + 9 * 100)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "m-2"},
        {"messages": [HELLO, HELLO]},
        {"system": "be kind"},
        {"tools": [{"name": "search"}]},
        {"parameters": {"temperature": 0.1}},
        {"parameters": {"temperature": 0, "max_tokens": 5}},
        {"response_schema": {"type": "object"}},
        {"prompt_version": "2"},
        {"user": "ada"},
        {"user": "ada", "personal": True},
    ],
    ids=str,
)
async def test_any_difference_is_another_request(llm, change):
    """Whatever makes an answer what it is, is in its key."""
    model = Model()
    await llm.get_or_call(request(), model)
    await llm.get_or_call(request(**change), model)
    assert model.calls == 2


async def test_other_tenants_ask_for_themselves(llm, caches):
    """The workspace is in the key, and the key is under the workspace."""
    model, other = Model(), caches.llm("w2")
    await llm.get_or_call(request(), model)
    assert not (await other.get_or_call(request(), model)).cached
    assert llm.key(request()) != other.key(request())


@pytest.mark.parametrize(
    "response",
    [
        None,
        {"error": {"message": "overloaded"}},
        {"choices": [{"message": {"tool_calls": [{"id": "1"}]}}]},
        {"stop_reason": "tool_use", "content": [{"type": "tool_use", "name": "search"}]},
        {"output": [{"type": "function_call", "name": "search"}]},
        {"choices": [{"finish_reason": "length"}]},
        {"stop_reason": "max_tokens"},
        {"status": "incomplete"},
    ],
    ids=str,
)
async def test_what_is_no_answer_is_not_kept(llm, response):
    """Errors, calls of tools, and what was cut short."""
    model = Model(response)
    for _ in range(2):
        assert (await llm.get_or_call(request(), model)).response == response
    assert model.calls == 2


async def test_calls_of_tools_are_kept_if_asked(llm):
    """And what the caller does not want is not."""
    model = Model({"choices": [{"message": {"tool_calls": [{"id": "1"}]}}]})
    for _ in range(2):
        await llm.get_or_call(request(), model, keep_tool_calls=True)
    assert model.calls == 1
    model = Model({"text": "hm"})
    for _ in range(2):
        await llm.get_or_call(request(model="m-2"), model, keep=lambda found: found["text"] != "hm")
    assert model.calls == 2


@pytest.mark.parametrize(
    "change", [{"parameters": {"temperature": 0.9}}, {"personal": True}], ids=str
)
async def test_what_is_meant_to_differ_is_not_cached(llm, caches, change):
    """High temperatures, and what is a person's without saying whose."""
    model = Model()
    for _ in range(2):
        assert not (await llm.get_or_call(request(**change), model)).cached
    assert (model.calls, caches.llm_stats.bypassed) == (2, 2)
    with pytest.raises(BadRequest, match="temperature"):
        await llm.get_or_call(request(parameters={"temperature": "hot"}), model)


async def test_an_error_of_the_model_is_the_callers(llm):
    """And is not an answer."""
    with pytest.raises(ConnectionError, match="overloaded"):
        await llm.get_or_call(request(), Model(ConnectionError("overloaded")))


async def test_answers_are_forgotten_by_model_and_prompt(llm):
    """Or all at once."""
    model = Model()
    one, two = request(prompt_version="1"), request(model="m 2/x", prompt_version="2")
    for step, calls in (
        ({"model": "m-1"}, 3),
        ({"prompt_version": "2"}, 4),
        ({}, 6),
    ):
        for asked in (one, two):
            await llm.get_or_call(asked, model)
        await llm.invalidate(**step)
        for asked in (one, two):
            await llm.get_or_call(asked, model)
        assert model.calls == calls


class Stream:
    """A model that answers in chunks; waits for ``gate`` before the last one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.error = error
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self):
        """Yield chunks."""
        self.calls += 1
        yield "a"
        yield "b"
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        yield "c"


async def read(llm, call) -> list[str]:
    """Return all chunks."""
    return [chunk async for chunk in llm.stream(request(), call)]


async def test_a_complete_stream_is_kept(llm, caches):
    """Chunks come as the model makes them; the next one gets all of them."""
    model = Stream()
    model.gate.clear()
    chunks = llm.stream(request(), model)
    assert [await anext(chunks), await anext(chunks)] == ["a", "b"]
    model.gate.set()
    assert [chunk async for chunk in chunks] == ["c"]
    await until(lambda: caches.stats.fills == 1)
    assert await read(llm, model) == ["a", "b", "c"]
    assert model.calls == 1
    assert (caches.llm_stats.misses, caches.llm_stats.hits) == (1, 1)


async def test_a_stream_that_is_left_is_not_kept(llm, caches):
    """Nor is it a failure: who comes next asks the model."""
    model = Stream()
    model.gate.clear()
    async with aclosing(llm.stream(request(), model)) as chunks:
        assert await anext(chunks) == "a"
    second = asyncio.create_task(read(llm, model))
    await asyncio.sleep(0)
    model.gate.set()
    assert await second == ["a", "b", "c"]
    assert model.calls == 2
    assert caches.stats.failures == 0


async def test_a_stream_that_fails_is_not_kept(llm):
    """The reader has what came, and the error."""
    got = []

    async def collect() -> None:
        async for chunk in llm.stream(request(), Stream(ConnectionError("cut"))):
            got.append(chunk)  # noqa: PERF401 - as far as it comes

    with pytest.raises(ConnectionError, match="cut"):
        await collect()
    assert got == ["a", "b"]


async def test_a_stream_that_is_out_of_date_at_its_end_is_not_kept(llm, caches):
    """Its reader had it; nobody else gets it."""
    model = Stream()
    model.gate.clear()
    chunks = llm.stream(request(), model)
    await anext(chunks)
    await llm.invalidate()
    model.gate.set()
    assert [chunk async for chunk in chunks] == ["b", "c"]
    await until(lambda: caches.stats.refused == 1)
    assert await read(llm, model) == ["a", "b", "c"]
    assert model.calls == 2


async def test_what_json_has_no_word_for_is_a_bad_request(llm):
    """Whatever it is: the caller's mistake has one name."""
    endless = []
    endless.append(endless)
    for messages in ([object()], endless, [{1: 2}], ["\ud800"], [2**70]):
        with pytest.raises(BadRequest):
            await llm.get_or_call(request(messages=messages), Model())


_CHUNK = {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "h"}}]}
_LAST = {"object": "chat.completion.chunk", "choices": [{"delta": {}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("chunks", "calls"),
    [
        ([_CHUNK, _LAST, {"object": "chat.completion.chunk", "choices": []}], 1),
        ([_CHUNK, _CHUNK], 2),
        ([{"type": "message_start"}, {"type": "message_stop"}], 1),
        ([{"type": "message_start"}, {"type": "content_block_delta"}], 2),
        (
            [
                {"type": "message_start"},
                {"type": "message_delta", "delta": {"stop_reason": "pause_turn"}},
                {"type": "message_stop"},
            ],
            2,
        ),
        ([{"type": "response.created"}, {"type": "response.completed"}], 1),
        ([{"type": "response.created"}], 2),
        ([{"type": "response.incomplete", "response": {"status": "incomplete"}}], 2),
        ([{"type": "response.output_item.done", "item": {"type": "function_call"}}], 2),
        (["h", "i"], 1),
    ],
)
async def test_a_stream_without_its_end_is_not_kept(llm, chunks, calls):
    """A connection that was closed early looks like an end, but says nothing of one."""
    called = 0

    async def call():
        nonlocal called
        called += 1
        for chunk in chunks:
            yield chunk

    for _ in range(2):
        assert [chunk async for chunk in llm.stream(request(), call)] == chunks
    assert called == calls


async def test_a_reader_who_leaves_ends_a_model_that_says_nothing(llm):
    """Not only with its next chunk: the call is paid for as long as it runs."""
    ended = asyncio.Event()

    async def call():
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with aclosing(llm.stream(request(), call)) as chunks:
        assert await anext(chunks) == "a"
    async with asyncio.timeout(10):
        await ended.wait()
    answer = await llm.get_or_call(request(), Model())
    assert not answer.cached
