"""One load of a value: by one process at a time, kept only if nothing was invalidated meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from typing import Final, NamedTuple

from channels.errors import LoadFailed, StoreError
from channels.ids import new_id

from .ask import Ask
from .cache_store import BUSY, BYPASS, FAILED, FOUND, Begun, CacheStore, Kept
from .codec import encode
from .envelope import Found, header
from .fill_waits import FillWaits
from .flight import Flight
from .settings import CachePolicy
from .shared import Shared

__all__ = ["Load", "Unfinished", "terms"]

_log = logging.getLogger(__name__)

#: Loads under way when an invalidation comes are done again, so often at most.
_ATTEMPTS: Final = 5
#: Pauses between looks where nobody tells that another process is done: first and last.
_PAUSE_S: Final = (0.05, 1.0)
#: How much later than a lease ends somebody else looks.
_SLACK_S: Final = 0.02
#: How long it is known that a value cannot be kept.
_BYPASS_S: Final = 5.0
#: Beyond the last window: the clocks of those who read may be behind.
_TTL_SLACK_MS: Final = 1_000


class Unfinished(Exception):
    """Raised by a loader that brings nothing and has not failed: others ask for themselves."""


class _Brought(NamedTuple):
    """What a loader brought, as JSON; whether it means that there is nothing; how long it took."""

    payload: bytes
    is_missing: bool
    load_ms: int


class Load:
    """Loads one value for everybody on a flight."""

    __slots__ = ("_ask", "_flight", "_root", "_settings", "_stats", "_store", "_waits")

    def __init__(self, ask: Ask, root: str, flight: Flight, shared: Shared) -> None:
        self._ask = ask
        self._root = root
        self._flight = flight
        self._settings = shared.settings
        self._stats = shared.stats
        self._store = shared.cache_store
        self._waits = shared.waits

    async def alone(self) -> tuple[Found, int]:
        """Load without Redis; return the value and how many passengers it is for.

        Nothing says whether something was invalidated meanwhile, so it is for those only who
        had asked before it began.
        """
        passengers = self._flight.passengers
        return _unkept(await self._call("")), passengers

    async def run(self, seen: bytes) -> tuple[Found | None, int | None]:
        """Load; ``seen`` is the id of the value that is not wanted any more.

        Return it and how many passengers it is for, None for all. No value means that
        somebody else loads it already, and nobody here waits for it.

        Raises:
            LoadFailed: it failed a moment ago, perhaps in another process.
            Exception: whatever the loader raises.
        """
        token = new_id()
        for _ in range(_ATTEMPTS):
            begun = await self._begin(token, seen)
            if begun is None or begun.code == BYPASS:
                return await self.alone()
            if begun.code in (FOUND, BUSY):
                return begun.found, None
            if begun.code == FAILED:
                self._stats.spared += 1
                raise LoadFailed(f"loading {self._ask.key!r} failed a moment ago")
            passengers = self._flight.passengers
            brought = await self._call(token)
            found, kept = await self._keep(token, begun, brought)
            if kept:
                return found, None
            if not found.kept:
                return found, passengers
            self._stats.refused += 1
        # The source changes faster than it is read: this is as good as its last read.
        found.kept = False
        return found, passengers

    # -- the lease -------------------------------------------------------------------------

    async def _begin(self, token: str, seen: bytes) -> Begun | None:
        """Take the lease, or wait for whoever has it; None where Redis does not answer."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._ask.policy.hard_timeout_s
        wait = _Wait(self._waits, self._store.filled_channel(self._root), self._ask.key)
        try:
            while True:
                begun = await self._ask_for_lease(token, seen)
                if begun is None:
                    return None
                if begun.code == FOUND:
                    if begun.found is None:
                        return None  # a header of another version of ours
                    if begun.valid and begun.found.fresh_ms > begun.until_ms:
                        return begun
                    seen = begun.found.id
                elif begun.code != BUSY or self._flight.background:
                    return begun
                else:
                    left_s = (begun.until_ms - self._store.clock.now_ms()) / 1000 + _SLACK_S
                    self._stats.waits += not wait.begun
                    if not await wait.until_filled(min(left_s, until - loop.time())):
                        return None  # nobody waits longer than that
        finally:
            wait.end()

    async def _ask_for_lease(self, token: str, seen: bytes) -> Begun | None:
        ask = self._ask
        self._flight.close()
        # What was invalidated before this is asked does not concern what comes of it.
        self._flight.spoiled = False
        try:
            return await self._store.begin(self._root, ask.key, ask.tags, token, seen=seen)
        except StoreError as error:
            _log.info("loading without a lease: %s", error)
            return None
        finally:
            self._flight.open()

    async def _keep(self, token: str, begun: Begun, brought: _Brought) -> tuple[Found, bool]:
        """Keep a value; return it, and whether it is in Redis and up to date."""
        ask, policy = self._ask, self._ask.policy
        payload, is_missing, load_ms = brought
        ttl_s = policy.ttl_s
        if is_missing:
            ttl_s = min(policy.negative_ttl_s, ttl_s)
        too_large = len(payload) > self._settings.max_value_bytes
        if too_large or ttl_s <= 0:
            self._stats.too_large += too_large
            if too_large:
                _log.info("not kept: %r has %d bytes", ask.key, len(payload))
            await self._release(token, "~", _BYPASS_S)
            return _unkept(brought), False
        found, ttl_ms = terms(
            policy, token, payload, now_ms=begun.until_ms, ttl_s=ttl_s, load_ms=load_ms
        )
        head = header(
            token,
            fresh_ms=found.fresh_ms,
            stale_ms=found.stale_ms,
            dead_ms=found.dead_ms,
            load_ms=load_ms,
        )
        # It may be kept, and invalidated by another process, before we hear of either: whoever
        # comes now and must not have that one asks anew.
        self._flight.close()
        try:
            kept = await self._store.fill(
                self._root, ask.key, ask.tags, token, begun, Kept(head, payload, ttl_ms)
            )
        except StoreError as error:
            _log.info("not kept: %s", error)
            found.kept = False
            return found, False
        self._stats.fills += kept
        found.tags = [
            part
            for tag, stamp in zip(ask.tags, begun.stamps, strict=True)
            for part in (tag.encode(), stamp)
        ]
        return found, kept

    async def _release(self, token: str, mark: str, mark_s: float) -> None:
        try:
            await self._store.release(self._root, self._ask.key, token, mark=mark, mark_s=mark_s)
        except StoreError as error:
            _log.info("a lease ends by itself: %s", error)

    # -- the source ------------------------------------------------------------------------

    async def _call(self, token: str) -> _Brought:
        """Call the loader, within its time, and hold the lease meanwhile.

        What it brings and cannot be kept as JSON has failed like a loader that raises: the
        lease ends, and who waits for it in other processes is told.
        """
        loop = asyncio.get_running_loop()
        self._stats.loads += 1
        started = loop.time()
        renewal = _Renewal(self._store, self._root, self._ask.key, token) if token else None
        try:
            async with asyncio.timeout(self._ask.policy.hard_timeout_s) as timeout:
                value = self._ask.loader()
                if inspect.isawaitable(value):
                    value = await value
            load_ms = int((loop.time() - started) * 1000)
            brought = _Brought(encode(value), self._ask.is_missing(value), load_ms)
        except BaseException as error:
            failed = isinstance(error, Exception) and not isinstance(error, Unfinished)
            self._stats.failures += failed
            if renewal is not None:
                renewal.end()
                pause_s = self._settings.failure_s if failed else 0.0
                await self._release(token, "!" if pause_s else "", pause_s)
            if isinstance(error, TimeoutError) and timeout.expired():
                raise LoadFailed(
                    f"loading {self._ask.key!r} took longer than "
                    f"{self._ask.policy.hard_timeout_s:g} s"
                ) from error
            raise
        if renewal is not None:
            renewal.end()
        return brought


class _Renewal:
    """Keeps a lease while its holder loads; costs nothing while that is quick."""

    __slots__ = ("_every_s", "_handle", "_key", "_root", "_store", "_task", "_token")

    def __init__(self, store: CacheStore, root: str, key: str, token: str) -> None:
        self._store = store
        self._root = root
        self._key = key
        self._token = token
        self._every_s = store.lease_ms / 3000
        self._task: asyncio.Task[None] | None = None
        self._handle = asyncio.get_running_loop().call_later(self._every_s, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._run(), name="fanwire-cache-lease")

    async def _run(self) -> None:
        while True:
            try:
                if not await self._store.renew(self._root, self._key, self._token):
                    return  # something was invalidated: what is loaded will be refused
            except StoreError as error:
                _log.info("a lease was not renewed: %s", error)
            await asyncio.sleep(self._every_s)

    def end(self) -> None:
        """Renew no more."""
        self._handle.cancel()
        if self._task is not None:
            self._task.cancel()


def terms(
    policy: CachePolicy, id: str, payload: bytes, *, now_ms: int, ttl_s: float, load_ms: int
) -> tuple[Found, int]:
    """Return a value with its windows, jitter included, and the TTL of its key in ms."""
    spread = random.uniform(1 - policy.jitter, 1 + policy.jitter)  # noqa: S311 - jitter
    fresh_ms = now_ms + max(int(ttl_s * spread * 1000), 1)
    stale_ms = fresh_ms + int(policy.stale_s * 1000)
    dead_ms = stale_ms + int(policy.fail_safe_s * 1000)
    found = Found(id.encode(), fresh_ms, stale_ms, dead_ms, load_ms, payload, [])
    return found, dead_ms - now_ms + _TTL_SLACK_MS


def _unkept(brought: _Brought) -> Found:
    return Found(b"", 0, 0, 0, brought.load_ms, brought.payload, [], kept=False)


class _Wait:
    """Waiting for another process: told where that is possible, else looking now and then."""

    __slots__ = ("_channel", "_key", "_pause_s", "_waiter", "_waits", "begun")

    def __init__(self, waits: FillWaits, channel: str, key: str) -> None:
        self._waits = waits
        self._channel = channel
        self._key = key
        self._pause_s = _PAUSE_S[0]
        self._waiter: asyncio.Event | None = None
        self.begun = False

    async def until_filled(self, longest_s: float) -> bool:
        """Return when it is time to look again; False when there is no time left."""
        if longest_s <= 0:
            return False
        if not self.begun and self._channel:
            self.begun = True
            self._waiter = await self._waits.listen(self._channel, self._key)
            return True  # it may have been done before we listened
        self.begun = True
        if self._waiter is None:
            spread = random.uniform(0.5, 1.5)  # noqa: S311 - jitter
            await asyncio.sleep(min(longest_s, self._pause_s * spread))
            self._pause_s = min(self._pause_s * 2, _PAUSE_S[1])
            return True
        try:
            async with asyncio.timeout(longest_s):
                await self._waiter.wait()
        except TimeoutError:
            return True
        self._waiter.clear()
        return True

    def end(self) -> None:
        """Wait no longer."""
        if self._waiter is not None:
            self._waits.leave(self._channel, self._key, self._waiter)
