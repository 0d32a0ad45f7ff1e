"""The cache of a workspace: what is dear to load, kept in Redis and in memory.

    cache = services.for_workspace("w1").cache
    profile = await cache.get_or_set("profile:7", load_profile, ttl_s=600, tags=["profiles"])
    await cache.invalidate(tags=["profiles"])

A call is answered from the process's memory, else from Redis, else by the loader, which runs
once for everybody, in this process and in all others. ``[]``, ``{}``, ``None``, 0 and ``""``
are values like any other.

What is promised: a call that begins after an invalidation has returned is never answered with
what was loaded before it. In the process that invalidated this holds at once. Another process
answers from memory until it hears of the invalidation, milliseconds later (``local_ttl_s`` at
most, if the message is lost): a call with ``local_ttl_s=0``, or with the version that
:meth:`CacheManager.invalidate` returned as ``at_least``, does not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, Unpack

import msgspec

from channels.catalogue import Channel
from channels.errors import BadRequest, LimitExceeded, StoreError
from channels.event import Event
from channels.events import CacheInvalidated, CacheInvalidatedData
from channels.ids import new_id

from .ask import Ask, check_key, check_names, check_tag
from .cache_store import Kept
from .cached import Cached, KeyOf
from .codec import decoder, encode
from .envelope import header
from .load import terms
from .memory import Memory
from .profiles import Profiles
from .reader import Reader
from .settings import CachePolicy, PolicyOptions
from .shared import Shared

__all__ = ["CacheManager"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Keys and tags of one invalidation: they are in one event and in one script.
_MAX_NAMES: Final = 500
_MAX_TAGS: Final = 16
#: How long a writer may take between two of its words.
_WRITES_S: Final = 60.0
_MAX_FAILURES: Final = 1_000
_MAX_POLICIES: Final = 1_000

_now = time.monotonic
_policies: dict[tuple[object, ...], CachePolicy] = {}


class CacheManager(Profiles):
    """Values of one workspace by key. Made by ``Caches``, one a workspace and process."""

    __slots__ = (
        "__weakref__",
        "_by_key",
        "_channel",
        "_memory",
        "_reader",
        "_shared",
        "_stats",
        "_usual",
        "workspace",
    )

    def __init__(self, shared: Shared, channel: Channel, workspace: str) -> None:
        #: The id of the workspace; empty for what belongs to none.
        self.workspace = workspace
        self._shared = shared
        self._channel = channel
        self._memory = Memory(shared, channel)
        # While the workspace is followed its memory is kept, and so is this.
        self._memory.owner = self
        self._reader = Reader(shared, channel, self._memory)
        self._by_key = self._memory.entries.by_key
        self._stats = shared.stats
        self._usual = shared.settings.policy

    # -- reading ---------------------------------------------------------------------------

    async def get_or_set(
        self,
        key: str,
        loader: Callable[[], Awaitable[T] | T],
        *,
        type: Any = Any,  # noqa: A002, ANN401 - any type that msgspec reads
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
        missing: Callable[[Any], bool] | None = None,
        at_least: int = 0,
        **options: Unpack[PolicyOptions],
    ) -> T:
        """Return the value of ``key``; where there is none, ``loader()`` brings it.

        It is what JSON made of it, read as ``type``, on a hit as after a load. ``tags`` are
        names by which many keys can be invalidated at once. ``options`` are fields of the
        policy (:class:`~.settings.CachePolicy`). ``missing`` tells which values mean that there
        is nothing; else ``None`` does. ``at_least`` is the version of an invalidation that the
        caller knows of.

        Cancelling a call does not cancel the load that others wait for. Without Redis memory
        answers, or the loader.

        Raises:
            BadRequest: names or options are none, or the value is not what JSON can hold.
            LoadFailed: the loader failed a moment ago, or took longer than ``hard_timeout_s``.
            Exception: whatever the loader raises.
        """
        entry = self._by_key.get(key)
        memory = self._memory
        if (
            entry is not None
            and entry.until > _now()
            and memory.trusted
            and (entry.shape is type or entry.shape == type)
            and at_least <= memory.seen
            and options.get("local_ttl_s") != 0
            and (policy or self._usual).local_ttl_s != 0
        ):
            self._stats.local_hits += 1
            entry.used = True
            decode = entry.decode
            return entry.value if decode is None else decode(entry.value)  # type: ignore[no-any-return]
        ask = Ask(
            check_key(key),
            loader,
            type,
            self._check_tags(tags) if tags else (),
            self._policy(policy, options) if options or policy is None else policy,
            missing,
        )
        return await self._reader.answer(ask, at_least)  # type: ignore[no-any-return]

    async def get(
        self,
        key: str,
        default: T | None = None,
        *,
        type: Any = Any,  # noqa: A002, ANN401 - any type that msgspec reads
        at_least: int = 0,
    ) -> Any:  # noqa: ANN401 - whatever was cached
        """Return the value of ``key``, ``default`` where none is kept that may be served.

        Without Redis it is what memory has. Raises ``BadRequest`` for what is no key.
        """
        memory = self._memory
        entry = self._by_key.get(check_key(key))
        trusted = memory.check_trust() and at_least <= memory.seen
        if entry is not None and trusted and entry.until > _now() and entry.shape == type:
            self._stats.local_hits += 1
            entry.used = True
            return entry.value if entry.decode is None else entry.decode(entry.value)
        try:
            found = await self._shared.cache_store.read(self._channel.root, key)
        except StoreError:
            value = self._reader.remembered(key, type)
            return default if value is None else value[0]
        now_ms = self._shared.cache_store.clock.now_ms()
        if found is None or found.stale_ms <= now_ms:
            self._stats.misses += 1
            return default
        try:
            value = decoder(type)(found.payload)
        except msgspec.MsgspecError:
            self._stats.undecodable += 1
            return default
        self._stats.hits += 1
        return value

    # -- writing ---------------------------------------------------------------------------

    async def set(
        self,
        key: str,
        value: object,
        *,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
        **options: Unpack[PolicyOptions],
    ) -> int:
        """Keep ``value``, whatever there was; return the version of this change.

        It replaces the value everywhere, and what is being loaded meanwhile is not kept: other
        processes are told as of an invalidation.

        Raises:
            LimitExceeded: the value is too large.
            BadRequest: a name is none, or JSON cannot hold the value.
            StoreUnavailable, StoreRefused: nothing changed.
            OutcomeUnknown: it may have; doing it again does no harm.
        """
        terms_ = self._policy(policy, options)
        payload, limit = encode(value), self._shared.settings.max_value_bytes
        if len(payload) > limit:
            raise LimitExceeded(f"the value has {len(payload)} bytes; at most {limit} are cached")
        id_, now_ms = new_id(), self._shared.cache_store.clock.now_ms()
        found, ttl_ms = terms(terms_, id_, payload, now_ms=now_ms, ttl_s=terms_.ttl_s, load_ms=0)
        head = header(
            id_,
            fresh_ms=found.fresh_ms,
            stale_ms=found.stale_ms,
            dead_ms=found.dead_ms,
            load_ms=0,
        )
        kept = Kept(head, payload, ttl_ms, self._check_tags(tags))
        return await self._invalidate([check_key(key)], [], kept=kept)

    async def delete(self, key: str) -> int:
        """Invalidate one key; see :meth:`invalidate`."""
        return await self.invalidate(keys=[key])

    async def invalidate(
        self, *, keys: Iterable[str] | str = (), tags: Iterable[str] | str = ()
    ) -> int:
        """Have the values of ``keys``, and of all keys with one of ``tags``, never be seen again.

        Call it when the source has changed. Everybody is told on the workspace's channel
        (``cache.invalidated``); what is being loaded meanwhile is not kept. Return the version,
        for ``at_least``; 0 where nothing was named.

        Raises:
            BadRequest: a name is none.
            LimitExceeded: more than 500 names, or too long ones for one event.
            StoreUnavailable, StoreRefused: nothing changed.
            OutcomeUnknown: it may have; do it again.
        """
        names, labels = check_names(keys, check_key), check_names(tags, check_tag)
        if not names and not labels:
            return 0
        return await self._invalidate(names, labels)

    @asynccontextmanager
    async def writing(
        self, *, keys: Iterable[str] | str, updated: Callable[[int], Event] | None = None
    ) -> AsyncIterator[None]:
        """Change the source of ``keys`` so that not even a crash leaves an old value behind.

            async with cache.writing(keys="profile:7"):
                ...  # change it, and commit

        Before, the keys are invalidated and fenced: they are loaded on every call and kept by
        nobody. Afterwards they are invalidated once more. Whoever dies in between leaves the
        fence, which ends by itself after a minute, and nothing that is older. ``updated``
        makes the event that tells of the change instead of ``cache.invalidated``.

        Raises:
            TimeoutError: the block took longer than half of that.
            StoreError: before the block: nothing may be changed. After it: it was changed, and
                the fence stands; do it all again, or wait for its end.
        """
        names, writer = check_names(keys, check_key), new_id()
        await self._invalidate(names, [], writer=writer, writes_s=_WRITES_S)
        try:
            async with asyncio.timeout(_WRITES_S / 2):
                yield
        except BaseException:
            # Whether it was committed is not known: as if it was.
            await self._invalidate(names, [], writer=writer)
            raise
        await self._invalidate(names, [], writer=writer, make=updated)

    async def _invalidate(
        self,
        keys: list[str],
        tags: list[str],
        *,
        make: Callable[[int], Event] | None = None,
        writer: str = "",
        writes_s: float = 0.0,
        kept: Kept | None = None,
    ) -> int:
        if len(keys) + len(tags) > _MAX_NAMES:
            raise LimitExceeded(
                f"{len(keys) + len(tags)} keys and tags; at most {_MAX_NAMES} at once"
            )
        workspace = self.workspace or "hub"

        def told(version: int) -> Event:
            return CacheInvalidated(
                data=CacheInvalidatedData(
                    workspace=workspace, version=version, keys=keys, tags=tags
                )
            )

        self._stats.invalidations += 1
        try:
            done = await self._shared.cache_store.invalidate(
                *(self._channel, make or told, keys, tags),
                writer=writer,
                writes_s=writes_s,
                kept=kept,
            )
        finally:
            # Whatever came of it; the message may come later, or another's before.
            self._memory.forget(keys, tags)
        return done.version

    # -- the rest --------------------------------------------------------------------------

    def cached(
        self,
        *,
        key: KeyOf | None = None,
        type: Any = Any,  # noqa: A002, ANN401 - any type that msgspec reads
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
        **options: Unpack[PolicyOptions],
    ) -> Callable[[Callable[..., Awaitable[T]]], Cached[T]]:
        """Decorate a coroutine function so that its results are cached.

        The key is made of the function's name and its arguments, which must be what JSON can
        hold, or by ``key``, which is called with the arguments.
        """
        terms_ = self._policy(policy, options)
        labels = self._check_tags(tags)

        def decorate(function: Callable[..., Awaitable[T]]) -> Cached[T]:
            return Cached(self, function, key=key, type=type, tags=labels, policy=terms_)

        return decorate

    def _policy(self, policy: CachePolicy | None, options: PolicyOptions) -> CachePolicy:
        if not options:
            return policy or self._shared.settings.policy
        base = policy or self._shared.settings.policy
        # Made once: programs have few.
        at = (base, *options.items())
        found = _policies.get(at)
        if found is None:
            known = {name: getattr(base, name) for name in base.__struct_fields__}
            try:
                found = msgspec.convert(known | options, CachePolicy)
            except msgspec.ValidationError as error:
                raise BadRequest(f"expected options of a cache policy; {error}") from None
            if len(_policies) >= _MAX_POLICIES:
                _policies.clear()
            _policies[at] = found
        return found

    @staticmethod
    def _check_tags(tags: Iterable[str]) -> tuple[str, ...]:
        if not tags:
            return ()
        labels = check_names(tags, check_tag)
        if len(labels) > _MAX_TAGS:
            raise LimitExceeded(f"{len(labels)} tags; a value has at most {_MAX_TAGS}")
        return tuple(labels)
