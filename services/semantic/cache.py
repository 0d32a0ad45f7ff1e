"""The semantic cache: one answer for all who ask the same in other words.

    cache = services.for_workspace("w1").semantic_cache(
        model="gpt-5", prompt_version="7", embed=embed
    )
    answer = await cache.get_or_set(prompt, lambda: ask_the_model(prompt))

The very same prompt is found first. Else the nearest ones by their vectors, which ``embed`` makes;
a guard refuses those that say something else (``guard.py``), and a judge of the application is
asked where the distance alone does not tell. Tenant, model, version of the prompt, language, user
and context are no matter of likeness: what differs in one of them is never compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from channels.errors import BadRequest, FanwireError, LimitExceeded, StoreError
from channels.ids import check_id, new_id
from services.context import Context

from .embeddings import Embed
from .english import ENGLISH
from .entries import Entries, Found, Seen
from .entry import Entry, Scope, hashed_id, index_record, normal, prompt_id, tag
from .guard import Guard, Refusal
from .index import VectorIndex
from .lookup import Question, Verdict
from .result import Answer, Fresh, Miss, Source, Stored
from .settings import MAX_TTL_S, SemanticSettings
from .skip import skip_prompt, skip_response
from .stats import SemanticStats
from .tables import GuardTables
from .vectors import Vector, encode_vector

__all__ = ["Compare", "Embed", "Judge", "Loader", "SemanticCache"]

#: Tells whether the answer to the second prompt, the third argument, answers the first one.
Judge: TypeAlias = Callable[[str, str, Any], bool | Awaitable[bool]]
#: Tells whether two answers to the prompt say the same: ``compare(prompt, cached, fresh)``.
Compare: TypeAlias = Callable[[str, Any, Any], bool | Awaitable[bool]]
Loader: TypeAlias = Callable[[], Any]

_MAX_TAGS = 32
_MAX_METADATA = 16 * 1024
#: Searches a lookup makes when what it found is gone.
_ATTEMPTS = 3
#: By how much nearer than a false hit the next hit must be.
_STRICTER = 0.95
_NO_TAG = 200


class SemanticCache:
    """The semantic cache of one workspace, for one model and one version of the prompt."""

    __slots__ = (
        "_chance",
        "_compare",
        "_context",
        "_dimension",
        "_embed",
        "_entries",
        "_guards",
        "_index",
        "_judge",
        "_scope",
        "settings",
        "workspace",
    )

    def __init__(
        self,
        context: Context,
        workspace: str,
        *,
        embed: Embed,
        model: str = "",
        prompt_version: str = "",
        locale: str = "en",
        embedding: str = "default",
        dimension: int | None = None,
        judge: Judge | None = None,
        compare: Compare | None = None,
        settings: SemanticSettings | None = None,
        tables: Mapping[str, GuardTables] | None = None,
        index: VectorIndex | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Make a view; costs nothing.

        ``embedding`` names the model behind ``embed``: vectors of different ones are never
        compared. ``tables`` are guard tables by language ("de"), beside English.

        Raises:
            BadRequest: ``workspace`` is not an id.
            SettingsError: the settings make no sense.
        """
        self.workspace = check_id(workspace, "workspace")
        self.settings = (settings or SemanticSettings()).check()
        self._context = context
        self._embed = embed
        self._dimension = dimension
        self._judge = judge
        self._compare = compare
        self._index = index
        self._chance = chance
        self._scope = Scope(model, prompt_version, locale, embedding)
        self._entries = Entries(context, workspace)
        self._guards = {
            language: Guard(one, substitutions=self.settings.substitutions)
            for language, one in {"en": ENGLISH, **(tables or {})}.items()
        }
        if settings is not None:
            context.semantic.configure(self.settings)

    @property
    def stats(self) -> SemanticStats:
        """What all semantic caches of this process did."""
        return self._context.semantic.stats

    # -- looking up ------------------------------------------------------------------------

    async def lookup(
        self,
        prompt: str,
        *,
        model: str | None = None,
        prompt_version: str | None = None,
        locale: str | None = None,
        user: str = "",
        context: str = "",
        category: str = "",
        temperature: float = 0.0,
        tools: bool = False,
        user_specific: bool = False,
    ) -> Answer | Miss:
        """Return the answer to this prompt, or to one that asks the same; else a false `Miss`.

        ``user`` is whose answers these are: nobody else gets them, and they get no others.
        ``context`` is whatever else the answer depends on: a system prompt, earlier turns.
        ``category`` chooses distances. Costs one command when the very same prompt is there,
        one when nothing is near, else two.

        Raises:
            BadRequest: an argument is wrong, or the embedding made no proper vector.
            LoadFailed: the embedding raised, or took longer than ``embed_timeout_s``.
            StoreError: Redis could not be asked.
        """
        question = self._question(
            prompt,
            model=model,
            prompt_version=prompt_version,
            locale=locale,
            user=user,
            context=context,
            category=category,
            temperature=temperature,
            tools=tools,
            user_specific=user_specific,
        )
        return await self._lookup(question)

    async def _lookup(self, question: Question) -> Answer | Miss:
        stats = self.stats
        stats.lookups += 1
        if question.skip:
            stats.skipped += 1
            return Miss(reason=question.skip)
        found, seen = await self._entries.get(question.id)
        if found is not None:
            stats.exact += 1
            await self._note_used(question.id)
            return self._answer(question, question.id, found, "exact", 0.0)
        result = await self._nearest(question, seen)
        if isinstance(result, Miss):
            stats.misses += 1
        return result

    async def _nearest(self, question: Question, seen: Seen) -> Answer | Miss:
        guard = self._guard(question)
        if guard is None and not self.settings.unguarded_languages:
            return Miss(reason="none", mark=seen.mark)
        vector = await self._vector(question.prompt)
        index, k = self._vectors(), self.settings.candidates
        band = self.settings.band(question.category)
        for _ in range(_ATTEMPTS):
            near = await index.search(question.partition, vector, k, version=seen.version)
            verdict = Verdict(question.prompt, band, guard)
            verdict.note(near)
            close = [one for one in near if one.distance <= band.uncertain]
            if not close:
                break
            found = await self._entries.get_many([one.id for one in close])
            gone = [one.id for one in close if one.id not in found]
            verdict.decide(close, found)
            if gone:
                await index.remove(question.partition, gone)
            if verdict.chosen is not None or not gone:
                break
        for refusal in verdict.refusals:
            self.stats.refused(refusal.reason)
        if verdict.chosen is None:
            return verdict.miss(seen.mark)
        chosen, uncertain = verdict.chosen, verdict.uncertain
        one = found[chosen.id]
        if uncertain:
            self.stats.uncertain += 1
            if not await self._judged(question, one):
                return verdict.miss(seen.mark)
            self.stats.judged += 1
        else:
            self.stats.semantic += 1
        await self._note_used(chosen.id)
        source: Source = "judged" if uncertain else "semantic"
        return self._answer(
            question, chosen.id, one, source, chosen.distance, refusals=verdict.refusals
        )

    async def _judged(self, question: Question, found: Found) -> bool:
        """Ask the judge; whatever goes wrong there is a no."""
        if self._judge is None:
            return False
        try:
            async with asyncio.timeout(self.settings.judge_timeout_s):
                response = msgspec.json.decode(found.entry.response)
                said = self._judge(question.prompt, found.entry.prompt, response)
                return bool(await said if inspect.isawaitable(said) else said)
        except Exception:  # noqa: BLE001 - the application's own; without it there is no hit
            self.stats.judge_failures += 1
            return False

    def _answer(
        self,
        question: Question,
        id: str,
        found: Found,
        source: Source,
        distance: float,
        *,
        refusals: Sequence[Refusal] = (),
    ) -> Answer:
        entry = found.entry
        seen = self.stats.shadow.get("uncertain" if source == "judged" else "hit")
        wrong = seen.rate if seen is not None and distance else 0.0
        return Answer(
            response=msgspec.json.decode(entry.response),
            source=source,
            entry=id,
            prompt=entry.prompt,
            distance=distance,
            age_s=max(0.0, (self._context.clock.now_ms() - entry.created) / 1000),
            confidence=max(0.0, (1 - distance) * (1 - wrong)),
            category=question.category,
            metadata=entry.metadata,
            refusals=list(refusals),
        )

    # -- storing ---------------------------------------------------------------------------

    async def store(
        self,
        prompt: str,
        response: Any,  # noqa: ANN401 - whatever is JSON
        *,
        model: str | None = None,
        prompt_version: str | None = None,
        locale: str | None = None,
        user: str = "",
        context: str = "",
        category: str = "",
        temperature: float = 0.0,
        tools: bool = False,
        user_specific: bool = False,
        ttl_s: int | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        mark: int | None = None,
    ) -> Stored:
        """Keep an answer; return whether it is kept, false with the reason if not.

        ``tags`` are what it was made from, to invalidate it by. Give the ``mark`` of the `Miss`
        before it was made: then an answer from before an invalidation is not kept. Safe to
        repeat: the same prompt has one entry, and the last answer holds.

        Raises:
            BadRequest: an argument is wrong, the response is no JSON, or the embedding made no
                proper vector.
            LoadFailed: the embedding raised, or took longer than ``embed_timeout_s``.
            StoreUnavailable, StoreRefused: it is not kept.
            OutcomeUnknown: it may be kept.
        """
        question = self._question(
            prompt,
            model=model,
            prompt_version=prompt_version,
            locale=locale,
            user=user,
            context=context,
            category=category,
            temperature=temperature,
            tools=tools,
            user_specific=user_specific,
        )
        fresh = Fresh(response, tags=list(tags), ttl_s=ttl_s, metadata=dict(metadata or {}))
        return await self._store(question, fresh, mark)

    async def _store(self, question: Question, fresh: Fresh, mark: int | None) -> Stored:
        text, why = self._check(fresh)
        why = question.skip or why or ("" if fresh.keep else "not wanted")
        if why:
            return Stored(reason=why)
        if mark is None:
            # So that a repetition of ours cannot bring back what is invalidated in between.
            _, seen = await self._entries.get(question.id)
            mark = seen.mark
        vector = None
        if not question.hashed:
            vector = await self._vector(question.prompt)
        now_ms = self._context.clock.now_ms()
        ttl_s = self._ttl(fresh.ttl_s)
        entry = Entry(
            prompt=question.prompt,
            response=msgspec.Raw(text),
            created=now_ms,
            expires=now_ms + ttl_s * 1000,
            category=question.category,
            metadata=fresh.metadata,
        )
        tags = [*question.tags(), *(tag("t", one) for one in fresh.tags)]
        stored = b""
        if vector is not None:
            tags.append(f"p{question.partition}")
            stored = encode_vector(vector, text=self._context.store.traits.billed)
        size = len(msgspec.json.encode(entry)) + len(stored)
        if size > self.settings.max_bytes:
            return Stored(reason="large")  # all others would go for it, in vain
        record = index_record(size, entry.expires, tags, stored)
        await self._context.semantic.register(self.workspace, entry.expires)
        kept, version, removed = await self._entries.store(
            question.id,
            entry,
            record,
            partition=question.partition if vector is not None else "",
            tags=tags,
            mark=mark,
            max_entries=self.settings.max_entries,
            max_bytes=self.settings.max_bytes,
        )
        if not kept:
            self.stats.outdated += 1
            return Stored(reason="outdated")
        self.stats.stored += 1
        self.stats.evictions += len(removed)
        await self._index_it(question, entry.expires, version, vector, removed)
        return Stored(entry=question.id, version=version, removed=removed)

    async def _index_it(
        self,
        question: Question,
        expires_ms: int,
        version: int,
        vector: Vector | None,
        removed: Sequence[str],
    ) -> None:
        index, partition = self._vectors(), question.partition
        # The entry is kept, whatever an index beside it says: then only its very text finds it.
        try:
            if removed:
                await index.remove(partition, removed)
            if vector is not None:
                await index.add(
                    partition, question.id, vector, expires_ms=expires_ms, version=version
                )
        except StoreError:
            self.stats.failures += 1

    def _check(self, fresh: Fresh) -> tuple[bytes, str]:
        """Return the response as JSON, and why it is not to be kept."""
        if len(fresh.tags) > _MAX_TAGS:
            raise LimitExceeded(f"an answer has {_MAX_TAGS} tags at most; got {len(fresh.tags)}")
        for one in fresh.tags:
            _check_text(one, "a tag", _NO_TAG)
        try:
            text = msgspec.json.encode(fresh.response)
            metadata = msgspec.json.encode(fresh.metadata)
            plain = msgspec.json.decode(text)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise BadRequest(f"a response and its metadata are JSON: {error}") from None
        if len(metadata) > _MAX_METADATA:
            raise LimitExceeded(f"metadata has {_MAX_METADATA} bytes at most")
        if len(text) > self.settings.max_response_bytes:
            return text, "large"
        return text, skip_response(plain)

    def _ttl(self, ttl_s: int | None) -> int:
        if ttl_s is None:
            return self.settings.ttl_s
        if not 0 < ttl_s <= MAX_TTL_S:
            raise BadRequest(f"expected a ttl_s of 1 to {MAX_TTL_S}; got {ttl_s}")
        return ttl_s

    # -- both ------------------------------------------------------------------------------

    async def get_or_set(
        self,
        prompt: str,
        loader: Loader,
        *,
        model: str | None = None,
        prompt_version: str | None = None,
        locale: str | None = None,
        user: str = "",
        context: str = "",
        category: str = "",
        temperature: float = 0.0,
        tools: bool = False,
        user_specific: bool = False,
        ttl_s: int | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Return a cached answer, or what ``loader()`` gives, which is kept.

        Who asks the same in this process meanwhile waits for that one call. When Redis or the
        embedding fails, the loader answers; what the loader raises is raised. It may return a
        `Fresh` to say more of its answer. In shadow mode some hits are loaded all the same: an
        answer that was wrong is reported, and the fresh one returned; where that fails, the hit.
        """
        question = self._question(
            prompt,
            model=model,
            prompt_version=prompt_version,
            locale=locale,
            user=user,
            context=context,
            category=category,
            temperature=temperature,
            tools=tools,
            user_specific=user_specific,
        )
        defaults = Fresh(None, tags=list(tags), ttl_s=ttl_s, metadata=dict(metadata or {}))
        self._ttl(ttl_s)
        self._check(defaults)
        try:
            found = await self._lookup(question)
        except FanwireError:
            self.stats.failures += 1
            found = Miss(reason="unavailable")
        if isinstance(found, Miss):
            return await self._loaded(question, loader, defaults, found)
        shadowed = found.source != "exact" and self._chance() < self.settings.shadow_share
        return await self._shadowed(question, loader, defaults, found) if shadowed else found

    async def _loaded(
        self, question: Question, loader: Loader, defaults: Fresh, miss: Miss
    ) -> Answer:
        if question.skip:
            fresh = await _load(loader, defaults)
            return Answer(response=fresh.response, source="loader", why=miss.reason)
        (fresh, stored), mine = await self._context.semantic.flights.join(
            (self.workspace, question.id, miss.mark),
            lambda: self._fly(question, loader, defaults, miss),
        )
        response = fresh.response if mine else _copy(fresh.response)
        return Answer(
            response=response,
            source="loader",
            entry=stored.entry,
            prompt=question.prompt,
            category=question.category,
            metadata=fresh.metadata,
            refusals=miss.refusals,
            why=stored.reason or miss.reason,
        )

    async def _fly(
        self, question: Question, loader: Loader, defaults: Fresh, miss: Miss
    ) -> tuple[Fresh, Stored]:
        fresh = await _load(loader, defaults)
        if miss.mark is None:  # nobody knows what was invalidated since
            return fresh, Stored(reason=miss.reason)
        return fresh, await self._kept(question, fresh, miss.mark)

    async def _kept(self, question: Question, fresh: Fresh, mark: int | None) -> Stored:
        """Store; what cannot be kept is an answer nevertheless."""
        try:
            return await self._store(question, fresh, mark)
        except FanwireError as error:
            self.stats.failures += 1
            return Stored(reason="unavailable" if isinstance(error, StoreError) else "refused")

    async def _shadowed(
        self, question: Question, loader: Loader, defaults: Fresh, found: Answer
    ) -> Answer:
        # What cannot be compared leaves the answer that was found; so does a model that fails.
        try:
            _, seen = await self._entries.get(question.id)
            fresh = await _load(loader, defaults)
            same = await self._same(question.prompt, found.response, fresh.response)
        except Exception:  # noqa: BLE001 - the application's own
            return found
        band = "uncertain" if found.source == "judged" else "hit"
        names = [band, f"category:{question.category}"] if question.category else [band]
        self.stats.sampled(names, false=not same)
        if same:
            return found
        with contextlib.suppress(StoreError):
            await self.report_false_hit(found, counted=True)
        stored = await self._kept(question, fresh, seen.mark)
        return Answer(
            response=fresh.response,
            source="loader",
            entry=stored.entry,
            prompt=question.prompt,
            category=question.category,
            metadata=fresh.metadata,
            why="false hit",
        )

    async def _same(self, prompt: str, cached: object, fresh: object) -> bool:
        if self._compare is None:
            return _plain(cached) == _plain(fresh)
        said = self._compare(prompt, cached, fresh)
        return bool(await said if inspect.isawaitable(said) else said)

    # -- what goes -------------------------------------------------------------------------

    async def report_false_hit(self, answer: Answer, *, counted: bool = False) -> int:
        """Say that an answer was wrong; return how often its entry was by now, 0 if it is gone.

        From now on the entry must be nearer than this was, and after some false hits it goes.

        Raises:
            BadRequest: the answer came from no entry, or is to the very same prompt: remove it.
            StoreUnavailable, StoreRefused: nothing changed.
            OutcomeUnknown: it may count.
        """
        if not answer.entry or answer.source not in ("semantic", "judged"):
            raise BadRequest("only what came from another prompt's entry can be a false hit")
        if not counted:
            self.stats.false_hits += 1
        code, times = await self._entries.false_hit(
            answer.entry,
            answer.distance,
            answer.distance * _STRICTER,
            at_most=self.settings.max_false_hits,
            op=new_id(),
        )
        if code == 2:
            await self._vectors().remove("", [answer.entry])
        return times

    async def remove(
        self,
        prompt: str,
        *,
        model: str | None = None,
        prompt_version: str | None = None,
        locale: str | None = None,
        user: str = "",
        context: str = "",
    ) -> bool:
        """Remove the answer to this very prompt; return whether there was one.

        An answer that is being made now is not kept. Raises like :meth:`invalidate`.
        """
        scope = self._in_scope(model, prompt_version, locale, user, context)
        id_ = prompt_id(scope.partition, normal(prompt))
        _, many = await self._entries.remove(ids=[id_])
        await self._vectors().remove(scope.partition, [id_])
        self.stats.invalidated += many
        return many > 0

    async def invalidate(
        self,
        *,
        tags: Sequence[str] = (),
        models: Sequence[str] = (),
        prompt_versions: Sequence[str] = (),
        users: Sequence[str] = (),
        everything: bool = False,
    ) -> int:
        """Remove the workspace's answers that have one of these; return how many.

        Once this returns no process gives such an answer, and none that was being made before
        is kept, if its ``mark`` comes with it.

        Raises:
            BadRequest: nothing is named.
            LimitExceeded: more than 1,000 are named.
            StoreUnavailable, StoreRefused: nothing changed.
            OutcomeUnknown: they may be gone; do it again.
        """
        named = [
            *(tag("t", one) for one in tags),
            *(tag("m", one) for one in models),
            *(tag("v", one) for one in prompt_versions),
            *(tag("u", one) for one in users),
        ]
        if not named and not everything:
            raise BadRequest("name tags, models, prompt_versions or users, or everything=True")
        _, many = await self._entries.remove(tags=named, everything=everything)
        self.stats.invalidated += many
        return many

    # -- by a hash of the application's own --------------------------------------------------

    async def get_semantic_cached(self, query_hash: str) -> Any | None:  # noqa: ANN401 - JSON
        """Return the response under this hash, None if there is none. By itself no likeness.

        Raises:
            StoreError: Redis could not be asked.
        """
        question = self._hashed(query_hash)
        result = await self._lookup_hashed(question)
        return None if isinstance(result, Miss) else result.response

    async def _lookup_hashed(self, question: Question) -> Answer | Miss:
        self.stats.lookups += 1
        found, seen = await self._entries.get(question.id)
        if found is None:
            self.stats.misses += 1
            return Miss(reason="none", mark=seen.mark)
        self.stats.exact += 1
        await self._note_used(question.id)
        return self._answer(question, question.id, found, "exact", 0.0)

    async def set_semantic_cache(
        self,
        query_hash: str,
        response: Any,  # noqa: ANN401 - whatever is JSON
        *,
        ttl_s: int | None = None,
        tags: Sequence[str] = (),
    ) -> Stored:
        """Keep a response under a hash of the application's own; see :meth:`store`."""
        fresh = Fresh(response, tags=list(tags), ttl_s=ttl_s)
        return await self._store(self._hashed(query_hash), fresh, None)

    def _hashed(self, query_hash: str) -> Question:
        _check_text(query_hash, "a query hash", _NO_TAG)
        return Question("", hashed_id(self._scope.partition, query_hash), self._scope, hashed=True)

    # -- about it --------------------------------------------------------------------------

    async def size(self) -> tuple[int, int]:
        """Return how many entries the workspace has, and their bytes.

        Raises:
            StoreError: Redis could not be asked.
        """
        return await self._entries.size()

    async def synced(self, *, user: str = "", context: str = "") -> None:
        """Return when this process finds all that was stored before, by whomever.

        Raises:
            StoreError: Redis could not be asked.
        """
        scope = self._in_scope(None, None, None, user, context)
        _, seen = await self._entries.get("#")
        await self._vectors().synced(scope.partition, version=seen.version)

    # -- what they share -------------------------------------------------------------------

    def _in_scope(
        self,
        model: str | None,
        prompt_version: str | None,
        locale: str | None,
        user: str,
        context: str,
    ) -> Scope:
        base = self._scope
        scope = Scope(
            base.model if model is None else model,
            base.prompt_version if prompt_version is None else prompt_version,
            base.locale if locale is None else locale,
            base.embedding,
            user,
            context,
        )
        for name, value in zip(Scope._fields, scope, strict=True):
            if not isinstance(value, str):
                raise BadRequest(f"expected {name} as text; got {type(value).__name__}")
        return scope

    def _question(
        self,
        prompt: str,
        *,
        model: str | None,
        prompt_version: str | None,
        locale: str | None,
        user: str,
        context: str,
        category: str,
        temperature: float,
        tools: bool,
        user_specific: bool,
    ) -> Question:
        scope = self._in_scope(model, prompt_version, locale, user, context)
        if not isinstance(category, str) or len(category) > _NO_TAG or not _is_text(category):
            raise BadRequest(f"expected a category of at most {_NO_TAG} characters")
        if not isinstance(prompt, str):
            raise BadRequest(f"expected a prompt as text; got {type(prompt).__name__}")
        limit = self.settings.max_prompt_bytes
        # Before anything looks at it: megabytes are no question.
        if len(prompt) > limit:
            return Question("", "", scope, category, skip="long")
        text = normal(prompt)
        skip = ""
        try:
            if len(text.encode()) > limit:
                skip = "long"
        except UnicodeEncodeError:
            return Question("", "", scope, category, skip="text")
        if not text.strip("\0 \n\t"):
            skip = "empty"
        elif tools:
            skip = "tools"
        elif user_specific and not user:
            skip = "user"
        skip = skip or skip_prompt(text, self.settings.skip, user=user, temperature=temperature)
        return Question(text, prompt_id(scope.partition, text), scope, category, skip)

    def _guard(self, question: Question) -> Guard | None:
        return self._guards.get(question.scope.locale.replace("_", "-").split("-")[0].lower())

    def _vectors(self) -> VectorIndex:
        return self._index or self._context.semantic.of(self.workspace)

    async def _vector(self, prompt: str) -> Vector:
        return await self._context.semantic.embeddings.of(
            self._embed, prompt, self._dimension, timeout_s=self.settings.embed_timeout_s
        )

    async def _note_used(self, id: str) -> None:
        used = self._context.semantic.note_used(self.workspace, id)
        if used:
            with contextlib.suppress(StoreError):  # then they look older than they are
                await self._entries.touch(used)


async def _load(loader: Loader, defaults: Fresh) -> Fresh:
    made = loader()
    if inspect.isawaitable(made):
        made = await made
    if not isinstance(made, Fresh):
        return msgspec.structs.replace(defaults, response=made)
    return msgspec.structs.replace(
        made,
        tags=[*defaults.tags, *made.tags],
        ttl_s=defaults.ttl_s if made.ttl_s is None else made.ttl_s,
        metadata={**defaults.metadata, **made.metadata},
    )


def _copy(response: object) -> object:
    try:
        return msgspec.json.decode(msgspec.json.encode(response))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return response


def _plain(response: object) -> object:
    """Return an answer as it is compared: blanks and capitals do not count."""
    if isinstance(response, str):
        return " ".join(response.split()).casefold()
    if isinstance(response, dict):
        return {key: _plain(value) for key, value in response.items()}
    if isinstance(response, list):
        return [_plain(value) for value in response]
    return response


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_text(value: str, what: str, longest: int) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise BadRequest(f"expected {what} of 1 to {longest} characters; got {value!r:.80}")
