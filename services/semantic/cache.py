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

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from channels.errors import BadRequest, FanwireError
from channels.ids import check_id, new_id
from services.context import Context

from .embeddings import Embed
from .english import ENGLISH
from .entry import Scope, hashed_id, normal, prompt_id, tag
from .finder import Finder, Judge
from .guard import Guard
from .index import VectorIndex
from .keeper import Keeper
from .loads import Compare, Loader, Loads
from .question import LONGEST_NAME, Question, check_names, check_text, make_question
from .result import Answer, Fresh, Miss, Stored
from .settings import SemanticSettings
from .shelf import Shelf
from .stats import SemanticStats
from .tables import GuardTables

__all__ = ["Compare", "Embed", "Judge", "Loader", "SemanticCache"]

#: By how much nearer than a false hit the next hit must be.
_STRICTER = 0.95


class SemanticCache:
    """The semantic cache of one workspace, for one model and one version of the prompt."""

    __slots__ = (
        "_chance",
        "_context",
        "_entries",
        "_finder",
        "_keeper",
        "_loads",
        "_scope",
        "_shelf",
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
        self._chance = chance
        self._scope = Scope(model, prompt_version, locale, embedding)
        self._shelf = Shelf(
            context, workspace, self.settings, embed=embed, dimension=dimension, index=index
        )
        self._entries = self._shelf.entries
        guards = {
            language: Guard(one, substitutions=self.settings.substitutions)
            for language, one in {"en": ENGLISH, **(tables or {})}.items()
        }
        self._finder = Finder(self._shelf, guards, judge)
        self._keeper = Keeper(self._shelf)
        self._loads = Loads(
            self._shelf, self._keeper, compare, partial(self.report_false_hit, counted=True)
        )
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
        return await self._finder.find(question)

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
        fresh = Fresh(response, tags=check_names(tags), ttl_s=ttl_s, metadata=dict(metadata or {}))
        return await self._keeper.keep(question, fresh, mark)

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
        defaults = Fresh(None, tags=check_names(tags), ttl_s=ttl_s, metadata=dict(metadata or {}))
        self._keeper.ttl(ttl_s)
        self._keeper.check(defaults)
        try:
            found = await self._finder.find(question)
        except FanwireError:
            self.stats.failures += 1
            found = Miss(reason="unavailable")
        if isinstance(found, Miss):
            return await self._loads.load(question, loader, defaults, found)
        shadowed = found.source != "exact" and self._chance() < self.settings.shadow_share
        return await self._loads.shadow(question, loader, defaults, found) if shadowed else found

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
            await self._shelf.index.remove("", [answer.entry])
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
        await self._shelf.index.remove(scope.partition, [id_])
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
            BadRequest: nothing is named, or what is no text.
            LimitExceeded: more than 1,000 are named.
            StoreUnavailable, StoreRefused: nothing changed.
            OutcomeUnknown: they may be gone; do it again.
        """
        kinds = {"t": tags, "m": models, "v": prompt_versions, "u": users}
        named = [tag(kind, one) for kind, many in kinds.items() for one in check_names(many)]
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
        result = await self._finder.find_hashed(question)
        return None if isinstance(result, Miss) else result.response

    async def set_semantic_cache(
        self,
        query_hash: str,
        response: Any,  # noqa: ANN401 - whatever is JSON
        *,
        ttl_s: int | None = None,
        tags: Sequence[str] = (),
    ) -> Stored:
        """Keep a response under a hash of the application's own; see :meth:`store`."""
        fresh = Fresh(response, tags=check_names(tags), ttl_s=ttl_s)
        return await self._keeper.keep(self._hashed(query_hash), fresh, None)

    def _hashed(self, query_hash: str) -> Question:
        check_text(query_hash, "a query hash", LONGEST_NAME)
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
        await self._shelf.index.synced(scope.partition, version=seen.version)

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
        return make_question(
            self._in_scope(model, prompt_version, locale, user, context),
            prompt,
            self.settings,
            category=category,
            temperature=temperature,
            tools=tools,
            user_specific=user_specific,
        )
