"""Answers of language models, kept for whoever asks the very same again.

    llm = services.for_workspace("w1").llm_cache
    request = LlmRequest(model="m-1", system=SYSTEM, messages=messages,
                         parameters={"temperature": 0})
    answer = await llm.get_or_call(request, call_the_model)

The key is a digest of everything that makes the answer what it is: workspace, user, model,
parameters, system prompt, tools, messages, schema and the version of the prompt, in canonical
JSON. So nobody gets another tenant's answer, and one that differs in anything is asked anew.
Meaning the same in other words is the semantic cache's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from channels.canonical import digest
from channels.errors import BadRequest
from channels.ids import check_id

from .load import Unfinished
from .settings import CachePolicy, LlmPolicy
from .stats import LlmStats

if TYPE_CHECKING:
    from .cache_manager import CacheManager

__all__ = ["LlmAnswer", "LlmCache", "LlmRequest", "is_tool_call"]

#: Part of every key: keys of another meaning than these must not meet them.
_SCHEMA: Final = 1
_END: Final = object()

#: Anthropic's words for an answer that is not all of it.
_CUT_SHORT: Final = ("max_tokens", "refusal", "pause_turn", "model_context_window_exceeded")
#: What begins a stream, and what ends it.
_ENDS: Final = {
    "chat.completion.chunk": "a choice with a reason to finish",
    "message_start": "message_stop",
    "response.created": "response.completed",
}

#: Micro-USD that a response cost.
CostOf: TypeAlias = Callable[[Any], int]


class LlmRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a model; all of it makes the key.

    A ``personal`` one is answered for its ``user`` only: without a user it is not cached.
    """

    model: str
    messages: list[Any]
    system: Any = ""
    tools: list[Any] = []
    parameters: dict[str, Any] = {}
    response_schema: Any = None
    prompt_version: str = ""
    user: str = ""
    personal: bool = False


class LlmAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A response; ``cached`` says that the model was not asked for it."""

    response: Any
    cached: bool = False
    key: str = ""
    cost_micro_usd: int = 0


class _Kept(msgspec.Struct):
    """What is in the cache."""

    response: Any
    cost_micro_usd: int = 0


class LlmCache:
    """The answers of one workspace."""

    __slots__ = ("_cache", "_policy", "_stats")

    def __init__(self, cache: CacheManager, policy: LlmPolicy, stats: LlmStats) -> None:
        self._cache = cache
        self._policy = policy
        self._stats = stats

    async def get_or_call(
        self,
        request: LlmRequest,
        call: Callable[[], Awaitable[Any]],
        *,
        ttl_s: float | None = None,
        keep_tool_calls: bool | None = None,
        keep: Callable[[Any], bool] | None = None,
        cost: CostOf | None = None,
    ) -> LlmAnswer:
        """Return the answer to ``request``, by ``call()`` where it is not kept.

        Requests that are the same while one is under way share its answer. Not kept are
        errors, responses with tool calls (unless asked for), those that were cut short, those
        that ``keep`` says no to, requests above the policy's temperature, and personal ones
        without a user. ``cost(response)`` is what one cost, in micro-USD: a hit has saved it.

        Raises:
            BadRequest: the request or the response is not what JSON can hold.
            LoadFailed: the same call failed a moment ago, or took too long.
            Exception: whatever ``call`` raises.
        """
        if not self._may_keep(request):
            self._stats.bypassed += 1
            response = await call()
            return LlmAnswer(response=response, cost_micro_usd=_cost(cost, response))
        called = False

        async def load() -> _Kept:
            nonlocal called
            called = True
            response = await call()
            return _Kept(response, _cost(cost, response))

        key = self.key(request)
        kept: _Kept = await self._cache.get_or_set(
            key,
            load,
            type=_Kept,
            tags=self._tags(request),
            policy=self._terms(ttl_s),
            missing=lambda value: not self._is_kept(value.response, keep_tool_calls, keep),
        )
        self._count(kept, called=called)
        return LlmAnswer(
            response=kept.response,
            cached=not called,
            key=key,
            cost_micro_usd=kept.cost_micro_usd,
        )

    async def stream(
        self,
        request: LlmRequest,
        call: Callable[[], AsyncIterator[Any]],
        *,
        ttl_s: float | None = None,
        keep: Callable[[list[Any]], bool] | None = None,
        cost: CostOf | None = None,
    ) -> AsyncIterator[Any]:
        """Yield the chunks of an answer, from ``call()`` as they come where it is not kept.

        It is kept when it is complete, as a list of its chunks: one that fails, or that the
        reader leaves before its end, is not. ``keep`` and ``cost`` are given the list. Close
        the iterator (``contextlib.aclosing``) to leave early. Raises like :meth:`get_or_call`.
        """
        if not self._may_keep(request):
            self._stats.bypassed += 1
            async for chunk in call():
                yield chunk
            return
        collector = _Collector(call, cost)
        answer: asyncio.Task[_Kept] = asyncio.create_task(
            self._cache.get_or_set(
                f"{self.key(request)}:stream",
                collector.load,
                type=_Kept,
                tags=self._tags(request),
                policy=self._terms(ttl_s),
                missing=lambda value: (
                    _breaks_off(value.response) or not self._is_kept(value.response, None, keep)
                ),
            ),
            name="fanwire-cache-stream",
        )
        collector.answer = answer
        answer.add_done_callback(collector.answered)
        try:
            async for chunk in collector.chunks():
                yield chunk
            if answer.done() and not answer.cancelled():
                kept = answer.result()
                self._count(kept, called=collector.called)
                # Another's: all of it at once.
                for chunk in () if collector.called else kept.response:
                    yield chunk
            else:
                self._stats.misses += 1
        finally:
            collector.leave()
            if not answer.done():
                answer.cancel()  # the load goes on by itself, to be kept
            elif not answer.cancelled():
                answer.exception()  # told already, or of no interest any more

    async def invalidate(self, *, model: str = "", prompt_version: str = "") -> int:
        """Forget the answers of a model, of a version of the prompt, or (neither) all.

        Return the version of it; raises like ``CacheManager.invalidate``.
        """
        tags = [tag for tag in (_tag("model", model), _tag("prompt", prompt_version)) if tag]
        return await self._cache.invalidate(tags=tags or ["llm"])

    def key(self, request: LlmRequest) -> str:
        """Return the key of ``request``: ``llm:`` and a SHA-256.

        Raises:
            BadRequest: it holds what JSON has no word for.
        """
        if request.user:
            check_id(request.user, "user")
        try:
            whole = msgspec.to_builtins(request)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadRequest(f"expected a request that JSON can hold; {error}") from None
        return f"llm:{digest([_SCHEMA, self._cache.workspace, whole])}"

    # -- the rules -------------------------------------------------------------------------

    def _may_keep(self, request: LlmRequest) -> bool:
        """Tell whether the answer to ``request`` may be anybody's but the caller's."""
        if request.personal and not request.user:
            return False
        temperature = request.parameters.get("temperature")
        if temperature is None:
            return True
        if isinstance(temperature, bool) or not isinstance(temperature, int | float):
            raise BadRequest(f"expected a number for the temperature; got {temperature!r:.80}")
        return temperature <= self._policy.max_temperature

    def _is_kept(
        self,
        response: Any,  # noqa: ANN401 - whatever models say
        keep_tool_calls: bool | None,  # noqa: FBT001 - private
        keep: Callable[[Any], bool] | None,
    ) -> bool:
        if keep_tool_calls is None:
            keep_tool_calls = self._policy.keep_tool_calls
        if _is_broken(response) or (not keep_tool_calls and is_tool_call(response)):
            return False
        return keep is None or keep(response)

    def _terms(self, ttl_s: float | None) -> CachePolicy:
        return CachePolicy(
            ttl_s=self._policy.ttl_s if ttl_s is None else ttl_s,
            negative_ttl_s=0.0,
            hard_timeout_s=self._policy.timeout_s,
        )

    @staticmethod
    def _tags(request: LlmRequest) -> list[str]:
        tags = ["llm", _tag("model", request.model)]
        if request.prompt_version:
            tags.append(_tag("prompt", request.prompt_version))
        return tags

    def _count(self, kept: _Kept, *, called: bool) -> None:
        if called:
            self._stats.misses += 1
        else:
            self._stats.hits += 1
            self._stats.saved_micro_usd += kept.cost_micro_usd


class _Collector:
    """Collects the chunks of an answer for the cache, and passes them on as they come."""

    __slots__ = ("_call", "_chunks", "_collecting", "_cost", "answer", "called", "left")

    def __init__(self, call: Callable[[], AsyncIterator[Any]], cost: CostOf | None) -> None:
        self._call = call
        self._cost = cost
        self._chunks: asyncio.Queue[Any] = asyncio.Queue()
        self.answer: asyncio.Task[_Kept] | None = None
        #: Whether the model was asked; whether nobody reads any more.
        self.called = False
        self.left = False
        self._collecting: asyncio.Task[list[Any]] | None = None

    async def load(self) -> _Kept:
        """Ask the model, once."""
        if self.called:
            # What was streamed is out of date already. Its reader has it; others ask anew.
            if self.answer is not None:
                self.answer.cancel()
            raise Unfinished
        self.called = True
        # A task of its own: who leaves ends it, though the model says nothing for minutes.
        self._collecting = asyncio.create_task(self._collect(), name="fanwire-cache-collect")
        try:
            collected = await self._collecting
        except asyncio.CancelledError:
            if self.left and self._collecting.cancelled():
                raise Unfinished from None
            raise
        self._chunks.put_nowait(_END)
        return _Kept(collected, _cost(self._cost, collected))

    async def _collect(self) -> list[Any]:
        collected = []
        async for chunk in self._call():
            collected.append(chunk)
            self._chunks.put_nowait(chunk)
        return collected

    def leave(self) -> None:
        """Read no more, and have the model say no more."""
        self.left = True
        if self._collecting is not None:
            self._collecting.cancel()

    def answered(self, _answer: object) -> None:
        """Hear that the cache has answered, whatever it was."""
        self._chunks.put_nowait(_END)

    async def chunks(self) -> AsyncIterator[Any]:
        """Yield what the model says, as far as it comes."""
        while (chunk := await self._chunks.get()) is not _END:
            yield chunk


def is_tool_call(response: object) -> bool:
    """Tell whether a response, or a chunk of one, asks for a tool.

    In the shapes of OpenAI's and Anthropic's APIs.
    """
    if isinstance(response, list):
        return any(map(is_tool_call, response))
    if not isinstance(response, Mapping):
        return False
    if response.get("tool_calls") or response.get("function_call"):
        return True
    if response.get("type") in ("tool_use", "function_call", "tool_call", "custom_tool_call"):
        return True
    if response.get("stop_reason") == "tool_use" or response.get("finish_reason") == "tool_calls":
        return True
    inner = (
        *("choices", "message", "delta", "content", "content_block"),
        *("output", "item", "response"),
    )
    return any(is_tool_call(response[name]) for name in inner if name in response)


def _is_broken(response: object) -> bool:
    """Tell whether a response is an error, or was cut short."""
    if isinstance(response, list):
        return any(map(_is_broken, response))
    if not isinstance(response, Mapping):
        return response is None
    return (
        bool(response.get("error"))
        or response.get("type") == "error"
        or response.get("finish_reason") in ("length", "content_filter", "error")
        or response.get("stop_reason") in _CUT_SHORT
        or response.get("status") in ("failed", "incomplete", "cancelled")
        or any(
            _is_broken(response[name])
            for name in ("choices", "delta", "response")
            if response.get(name) is not None
        )
    )


def _breaks_off(chunks: Sequence[object]) -> bool:
    """Tell whether a stream ended without the chunk that ends one.

    A connection that a proxy closes early looks like an end. Streams of other shapes than those
    of OpenAI's and Anthropic's APIs are taken as they are.
    """
    awaited = ""
    for chunk in chunks:
        if not isinstance(chunk, Mapping):
            continue
        choices = chunk.get("choices")
        if isinstance(choices, list) and any(
            isinstance(choice, Mapping) and choice.get("finish_reason") for choice in choices
        ):
            return False
        kind = str(chunk.get("type") or chunk.get("object"))
        awaited = "" if kind == awaited else _ENDS.get(kind, awaited)
    return bool(awaited)


def _tag(kind: str, name: str) -> str:
    """Return a tag for a name that may be anything; '' for none."""
    return f"llm:{kind}:{digest(name)[:32]}" if name else ""


def _cost(cost: CostOf | None, response: object) -> int:
    return 0 if cost is None else cost(response)
