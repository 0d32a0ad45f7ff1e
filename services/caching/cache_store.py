"""The typed callers of the cache's scripts, and of plain reads: one round trip each.

A Redis that fails again and again is left alone for a moment (``services/breaker.py``); calls
that are not made then raise ``StoreUnavailable``, as those that fail do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeVar, cast

from channels.catalogue import Channel
from channels.errors import StoreError, StoreRefused, StoreUnavailable
from channels.event import Event
from channels.ids import new_id
from channels.template import body_pieces
from services.breaker import Breaker
from services.changes import Changes
from services.clock import Clock
from services.store.keys import Keys
from services.store.port import Argument, Reply, Store
from services.store.script import load_script

from .envelope import Found, parse
from .settings import CacheSettings
from .stats import CacheStats

__all__ = [
    "BUSY",
    "BYPASS",
    "FAILED",
    "FOUND",
    "GRANTED",
    "Begun",
    "CacheStore",
    "Invalidated",
    "Kept",
]

T = TypeVar("T")

#: Longer than any value is kept, so that a stamp outlives what carries it.
_TAG_TTL_MS: Final = 91 * 86_400_000
#: A mark in place of a lease stays so much longer than it says.
_MARK_SLACK_MS: Final = 1_000

#: How an attempt to take a lease ends; the codes of ``cache_begin.lua``.
BUSY: Final = 0
GRANTED: Final = 1
FOUND: Final = 2
BYPASS: Final = 3
FAILED: Final = 4


class Begun(NamedTuple):
    """How an attempt to take a lease ended.

    ``GRANTED`` with the ``stamps`` of the tags; ``FOUND`` with a value, and whether it is
    ``valid``; ``BUSY``, ``BYPASS`` and ``FAILED`` until a time, in ms.
    """

    code: int
    until_ms: int = 0
    stamps: tuple[bytes, ...] = ()
    found: Found | None = None
    valid: bool = False


class Kept(NamedTuple):
    """A value to be kept: its header without stamps, its JSON, and for how long."""

    header: bytes
    payload: bytes
    ttl_ms: int
    tags: Sequence[str] = ()


class Invalidated(NamedTuple):
    """The version of an invalidation; whether a value given with it was kept."""

    version: int
    kept: bool


class CacheStore:
    """Cached values in Redis, of all workspaces."""

    __slots__ = (
        "_begin",
        "_changes",
        "_fill",
        "_invalidate",
        "_keys",
        "_lease",
        "_settings",
        "_stats",
        "_store",
        "_timeout_s",
        "breaker",
        "clock",
    )

    def __init__(
        self,
        store: Store,
        keys: Keys,
        changes: Changes,
        clock: Clock,
        settings: CacheSettings,
        stats: CacheStats,
    ) -> None:
        self._store = store
        self._keys = keys
        self._changes = changes
        self.clock = clock
        self._settings = settings
        self._timeout_s = settings.timeout_s
        self._stats = stats
        self.breaker = Breaker(settings.breaker_failures, (settings.breaker_s, settings.breaker_s))
        self._begin = load_script("cache_begin")
        self._fill = load_script("cache_fill")
        self._lease = load_script("cache_lease")
        self._invalidate = load_script("cache_invalidate")

    def filled_channel(self, root: str) -> str:
        """Return the pub/sub channel on which loads are told, '' where nobody could hear it."""
        return self._keys.cache_filled(root) if self._store.traits.subscriptions else ""

    async def read(self, root: str, key: str, tags: Sequence[str] = ()) -> Found | None:
        """Return what is kept and valid, however old: one command where ``tags`` are its own.

        Raises:
            StoreError: it could not be read.
        """
        keys = self._keys
        if not tags:
            # The way of nearly all reads: what _guarded does, without its calls.
            breaker = self.breaker
            if not (breaker.is_calm or breaker.may_ask()):
                raise self._left_alone()
            try:
                text = await self._store.execute(
                    "GET", keys.cache(root, key), timeout_s=self._timeout_s
                )
            except StoreError as error:
                self._failed(error)
                raise
            if not breaker.is_calm:
                breaker.succeeded()
            found = parse(text)
            if found is None or not found.tags:
                return found
            stamps: dict[bytes, bytes] = {}
        else:
            names = [keys.cache_tag(root, tag) for tag in tags]
            reply = await self._guarded(self._execute, "MGET", keys.cache(root, key), *names)
            text, *rest = cast("list[Reply]", reply)
            found = parse(text)
            stamps = _stamps(tags, rest)
        if found is None or not found.tags:
            return found
        missing = [tag for tag in found.names() if tag.encode() not in stamps]
        if missing:
            names = [keys.cache_tag(root, tag) for tag in missing]
            reply = await self._guarded(self._execute, "MGET", *names)
            stamps |= _stamps(missing, cast("list[Reply]", reply))
        return found if found.is_valid(stamps) else None

    async def begin(
        self, root: str, key: str, tags: Sequence[str], token: str, *, seen: bytes
    ) -> Begun:
        """Take the lease to load a value; ``seen`` is the id of one that is not wanted.

        The same token may ask again.
        """
        keys = self._keys
        reply = await self._guarded(
            self._run,
            self._begin,
            [
                keys.cache(root, key),
                keys.cache_lease(root, key),
                *(keys.cache_tag(root, tag) for tag in tags),
            ],
            [token, self.clock.now_ms(), self.lease_ms, seen, new_id(), _TAG_TTL_MS],
        )
        code, until_ms, *rest = cast("list[Reply]", reply)
        until_ms = cast(int, until_ms)
        if code == GRANTED:
            return Begun(GRANTED, until_ms, tuple(cast("list[bytes]", rest)))
        if code != FOUND:
            return Begun(cast(int, code), until_ms)
        found = parse(rest[0])
        stamps = _stamps(tags, rest[1:])
        valid = found is not None and found.is_valid(stamps)
        if found is not None and not {tag.encode() for tag in found.names()} <= stamps.keys():
            # Kept with other tags than the caller's.
            again = await self.read(root, key, tags)
            valid = again is not None and again.id == found.id
        return Begun(FOUND, until_ms, (), found, valid)

    async def fill(
        self, root: str, key: str, tags: Sequence[str], token: str, begun: Begun, kept: Kept
    ) -> bool:
        """Keep a loaded value and end the lease; return whether it was not out of date."""
        keys = self._keys
        pairs = [part for tag, stamp in _pairs(tags, begun.stamps) for part in (tag, stamp)]
        text = b" ".join([kept.header, *pairs]) + b"\n" + kept.payload
        reply = await self._guarded(
            self._run,
            self._fill,
            [
                keys.cache(root, key),
                keys.cache_lease(root, key),
                *(keys.cache_tag(root, tag) for tag in tags),
            ],
            [token, text, kept.ttl_ms, self.filled_channel(root), key, *begun.stamps],
        )
        return reply == 1

    @property
    def lease_ms(self) -> int:
        """How long a lease is."""
        return int(self._settings.lease_s * 1000)

    async def renew(self, root: str, key: str, token: str) -> bool:
        """Make a lease last; return whether it was still held."""
        until = f"= {token} {self.clock.now_ms() + self.lease_ms}"
        args: list[Argument] = [token, until, self.lease_ms, "", ""]
        reply = await self._guarded(
            self._run, self._lease, [self._keys.cache_lease(root, key)], args
        )
        return reply == 1

    async def release(
        self, root: str, key: str, token: str, *, mark: str = "", mark_s: float = 0.0
    ) -> None:
        """End a lease without a value; a ``mark`` (``!`` or ``~``) stands in its place then."""
        mark_ms = int(mark_s * 1000)
        left = f"{mark} {self.clock.now_ms() + mark_ms}" if mark_ms else ""
        args: list[Argument] = [token, left, mark_ms + _MARK_SLACK_MS]
        await self._guarded(
            self._run,
            self._lease,
            [self._keys.cache_lease(root, key)],
            [*args, self.filled_channel(root), key],
        )

    async def invalidate(
        self,
        channel: Channel,
        make: Callable[[int], Event],
        keys: Sequence[str],
        tags: Sequence[str],
        *,
        writer: str = "",
        writes_s: float = 0.0,
        kept: Kept | None = None,
    ) -> Invalidated:
        """Bump the generation of keys and tags, and tell so in the same script.

        With ``writer`` and ``writes_s`` the keys are fenced: nobody keeps what he loads until
        the same writer invalidates without ``writes_s``. Not behind the breaker: nobody can
        do without it.

        Raises:
            StoreUnavailable, StoreRefused: nothing changed.
            OutcomeUnknown: it may have; do it again.
            LimitExceeded: too many keys and tags for one event.
        """
        of, root = self._keys, channel.root
        now_ms = self.clock.now_ms()
        writes_ms = int(writes_s * 1000)
        before, after = body_pieces(make, 1)
        args: list[Argument] = [
            *(before, after, now_ms, len(tags), new_id(), _TAG_TTL_MS),
            *(writer, now_ms + writes_ms if writes_ms else ""),
            *(writes_ms + _MARK_SLACK_MS, self.filled_channel(root)),
        ]
        if kept is not None:
            args += [kept.header, kept.payload, kept.ttl_ms, *kept.tags]
        outcome = await self._changes.run(
            self._invalidate,
            channel,
            [
                of.cache_version(root),
                *(of.cache_tag(root, tag) for tag in tags),
                *(of.cache(root, key) for key in keys),
                *(of.cache_lease(root, key) for key in keys),
                *(of.cache_tag(root, tag) for tag in (kept.tags if kept else ())),
            ],
            args,
            now_ms=now_ms,
        )
        return Invalidated(int(cast(bytes, outcome.values[0])), kept=outcome.code == 1)

    # -- the way to Redis ------------------------------------------------------------------

    def _execute(self, *command: Argument) -> Awaitable[Reply]:
        return self._store.execute(*command, timeout_s=self._timeout_s)

    def _run(self, *call: object) -> Awaitable[Reply]:
        return self._store.run(*call, timeout_s=self._timeout_s)  # type: ignore[arg-type]

    async def _guarded(self, call: Callable[..., Awaitable[T]], *arguments: object) -> T:
        breaker = self.breaker
        if not breaker.may_ask():
            raise self._left_alone()
        try:
            reply = await call(*arguments)
        except StoreError as error:
            self._failed(error)
            raise
        breaker.succeeded()
        return reply

    def _failed(self, error: StoreError) -> None:
        self._stats.store_errors += 1
        if isinstance(error, StoreRefused):
            self.breaker.succeeded()  # it is there
        else:
            self.breaker.failed()

    def _left_alone(self) -> StoreUnavailable:
        self._stats.bypasses += 1
        return StoreUnavailable("Redis failed several times just now; it is not asked")


def _pairs(tags: Sequence[str], stamps: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return [(tag.encode(), stamp) for tag, stamp in zip(tags, stamps, strict=True)]


def _stamps(tags: Sequence[str], found: Sequence[Reply]) -> dict[bytes, bytes]:
    """Return the stamps by tag; of a tag that has none, one that nothing carries."""
    return {
        tag.encode(): stamp if isinstance(stamp, bytes) else b""
        for tag, stamp in zip(tags, found, strict=True)
    }
