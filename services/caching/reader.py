"""Answers: from memory, from Redis, from the loader, or from what is old, whichever may be."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import msgspec

from channels.catalogue import Channel
from channels.errors import BadRequest, LoadFailed, StoreError

from .ask import Ask
from .codec import decoder
from .envelope import Found
from .flight import Flight
from .load import Load, Unfinished
from .memory import Memory
from .shared import Shared

__all__ = ["Reader"]

_log = logging.getLogger(__name__)

#: Failures remembered a workspace.
_MAX_FAILURES: Final = 1_000

_now = time.monotonic


class Reader:
    """Reads and loads for one workspace what memory does not answer at once."""

    __slots__ = ("_by_key", "_channel", "_memory", "_shared", "_stats")

    def __init__(self, shared: Shared, channel: Channel, memory: Memory) -> None:
        self._shared = shared
        self._channel = channel
        self._memory = memory
        self._by_key = memory.entries.by_key
        self._stats = shared.stats

    async def answer(self, ask: Ask, at_least: int) -> Any:  # noqa: ANN401
        """Return the value that ``ask`` is for; see ``CacheManager.get_or_set``."""
        memory = self._memory
        local_s = memory.ttl_s(ask.policy)
        trusted = memory.check_trust()
        strict = local_s <= 0 or at_least > memory.seen
        if trusted and not strict:
            # It may be that only now everything is told again.
            entry = self._by_key.get(ask.key)
            if entry is not None and entry.until > _now() and entry.shape == ask.shape:
                self._stats.local_hits += 1
                return entry.value if entry.decode is None else entry.decode(entry.value)
        # A read that is on its way when somebody strict comes may be too old for him; whichever
        # he finds later has begun since, and is as good as his own.
        may_share = not strict
        while True:
            load = memory.loads.get(ask.key)
            if load is None or load.background:
                answered, value = await self._look(ask, local_s, strict=strict, may_share=may_share)
                if answered:
                    return value
                may_share = True
            elif load.closed and (strict or load.spoiled):
                await load.queue()
            else:
                self._stats.shared += 1
                found = await self._await(load, ask, load.fallback)
                if found is not None:
                    return self._read_as(found, ask)

    async def _look(
        self, ask: Ask, local_s: float, *, strict: bool, may_share: bool
    ) -> tuple[bool, Any]:
        """Answer with what is in Redis, or load it; (False, None): ask again.

        ``may_share``: a read that is on its way is good enough.
        """
        if self._shared.cache_store.breaker.rests:
            self._stats.bypasses += 1
            return True, await self._without_redis(ask)
        flight = self._memory.reads.get(ask.key)
        # Only who read a value puts it into memory: what is invalidated while the others are
        # woken spoils no flight any more.
        mine = flight is None
        try:
            if flight is None:
                found, flight = await self._read(ask)
            elif not may_share:
                await flight.queue()
                return False, None
            else:
                self._stats.shared += 1
                found = await flight.board()
                if found is None:
                    return False, None  # whoever asks again finds out why
        except StoreError:
            return True, await self._without_redis(ask)
        spoiled = flight.spoiled or not mine
        return await self._use(ask, found, local_s, strict=strict, spoiled=spoiled)

    async def _read(self, ask: Ask) -> tuple[Found | None, Flight]:
        """Read from Redis for everybody who asks meanwhile."""
        reads, trusted = self._memory.reads, self._memory.trusted
        flight = reads[ask.key] = Flight(closed=True)
        try:
            found = await self._shared.cache_store.read(self._channel.root, ask.key, ask.tags)
        except BaseException as error:
            self._land(reads, ask.key, flight)
            if isinstance(error, StoreError):
                flight.fail(error)
            else:
                flight.land(None)  # whoever waited asks for himself
            raise
        self._land(reads, ask.key, flight)
        flight.land(found)
        if not trusted:
            flight.spoiled = True
        return found, flight

    @staticmethod
    def _land(flights: dict[str, Flight], key: str, flight: Flight) -> None:
        if flights.get(key) is flight:
            del flights[key]

    async def _use(
        self, ask: Ask, found: Found | None, local_s: float, *, strict: bool, spoiled: bool
    ) -> tuple[bool, Any]:
        """Answer with what Redis had, or load it; (False, None): ask again."""
        memory, stats = self._memory, self._stats
        now_ms = self._shared.cache_store.clock.now_ms()
        seen, fallback = b"", None
        if found is not None:
            seen = found.id
            try:
                value = decoder(ask.shape)(found.payload)
            except msgspec.MsgspecError:
                stats.undecodable += 1
            else:
                left_ms = found.fresh_ms - now_ms
                if left_ms > 0:
                    stats.hits += 1
                    if not spoiled and local_s > 0:
                        memory.put(ask.key, found, ask.shape, value, min(local_s, left_ms / 1000))
                    if left_ms < (1 - ask.policy.eager) * ask.policy.ttl_s * 1000:
                        self._start(ask, seen, background=True)
                    return True, value
                if found.stale_ms > now_ms:
                    stats.stale += 1
                    self._start(ask, seen, background=True)
                    return True, value
                if found.dead_ms > now_ms:
                    fallback = found
        stats.misses += 1
        return await self._join(ask, seen, fallback, strict=strict)

    async def _join(
        self, ask: Ask, seen: bytes, fallback: Found | None, *, strict: bool
    ) -> tuple[bool, Any]:
        """Load it, with whoever does so already; (False, None): ask again."""
        flight = self._memory.loads.get(ask.key)
        if flight is None or flight.background:
            if flight is not None and flight.closed and (strict or flight.spoiled):
                await flight.queue()  # it may have begun before this call
                return False, None
            flight = self._start(ask, seen, background=False)
            flight.fallback = fallback
        landed = await self._await(flight, ask, fallback)
        return (False, None) if landed is None else (True, self._read_as(landed, ask))

    async def _await(self, flight: Flight, ask: Ask, fallback: Found | None) -> Found | None:
        """Wait for a load; no longer than the soft timeout where there is an old value."""
        if fallback is None:
            return await flight.board()
        waiting = flight.board()
        try:
            async with asyncio.timeout(ask.policy.soft_timeout_s):
                return await waiting
        except TimeoutError:
            self._stats.slow += 1
        except Exception as error:  # noqa: BLE001 - whatever the source says: the old value holds
            _log.info("an old value of %r holds: %s", ask.key, error)
            self._stats.fail_safe += 1
        return fallback

    def _read_as(self, found: Found, ask: Ask) -> Any:  # noqa: ANN401
        try:
            return decoder(ask.shape)(found.payload)
        except msgspec.MsgspecError as error:
            raise BadRequest(
                f"what was loaded for {ask.key!r} is not of its type: {error}"
            ) from None

    # -- loading ---------------------------------------------------------------------------

    def _start(self, ask: Ask, seen: bytes, *, background: bool, alone: bool = False) -> Flight:
        """Begin to load, unless somebody does; return the flight."""
        loads = self._memory.loads
        flight = loads.get(ask.key)
        if flight is None:
            flight = loads[ask.key] = Flight(closed=False, background=background)
            self._stats.refreshes += background
            self._shared.spawn(
                self._load(ask, flight, seen, alone=alone), f"fanwire-cache-load {ask.key:.60}"
            )
        elif not background:
            flight.background = False  # somebody waits for it now
        return flight

    async def _load(self, ask: Ask, flight: Flight, seen: bytes, *, alone: bool) -> None:
        memory, shared = self._memory, self._shared
        load = Load(ask, self._channel.root, flight, shared)
        found, first = None, None
        trusted = memory.trusted
        try:
            self._check_failed(ask)
            found, first = await (load.alone() if alone else load.run(seen))
            if found is not None:
                self._remember(ask, found, spoiled=flight.spoiled or not trusted)
        except asyncio.CancelledError:
            self._land(memory.loads, ask.key, flight)
            flight.fail(LoadFailed(f"loading {ask.key!r} was broken off: the services are closed"))
            raise
        except Unfinished:
            self._land(memory.loads, ask.key, flight)
            flight.land(None)
        except Exception as error:  # noqa: BLE001 - the loader's, for those who wait
            self._note_failure(ask.key, error)
            if flight.background:
                _log.info("refreshing %r failed: %s", ask.key, error)
            self._land(memory.loads, ask.key, flight)
            flight.fail(error)
        else:
            self._land(memory.loads, ask.key, flight)
            flight.land(found, first=first)

    def _remember(self, ask: Ask, found: Found, *, spoiled: bool) -> None:
        """Put what was loaded into memory, as far as it may be there."""
        memory = self._memory
        memory.failed.pop(ask.key, None)
        try:
            value = decoder(ask.shape)(found.payload)
        except msgspec.MsgspecError:
            return  # whoever asked is told
        left_s = (found.fresh_ms - self._shared.cache_store.clock.now_ms()) / 1000
        local_s = min(memory.ttl_s(ask.policy), left_s)
        if found.kept:
            if local_s > 0 and not spoiled:
                memory.put(ask.key, found, ask.shape, value, local_s)
        elif not found.id and self._shared.cache_store.breaker.rests:
            memory.put(ask.key, found, ask.shape, value, 0.0)

    def _check_failed(self, ask: Ask) -> None:
        failed = self._memory.failed.get(ask.key)
        if failed is None:
            return
        until, error = failed
        if until > _now():
            self._stats.spared += 1
            raise error.with_traceback(None)  # else it would grow with each
        del self._memory.failed[ask.key]

    def _note_failure(self, key: str, error: Exception) -> None:
        failed = self._memory.failed
        if key in failed and failed[key][1] is error:
            return  # told again, not met again
        if len(failed) >= _MAX_FAILURES:
            failed.clear()
        failed[key] = (_now() + self._shared.settings.failure_s, error)

    async def _without_redis(self, ask: Ask) -> Any:  # noqa: ANN401
        """Answer from memory, however old within bounds, else by the loader."""
        memory, settings = self._memory, self._shared.settings
        remembered = self.remembered(ask.key, ask.shape)
        if remembered is not None:
            value, born = remembered
            if _now() - born > settings.outage_refresh_s:
                self._start(ask, b"", background=True, alone=True)
            return value
        while True:
            flight = memory.loads.get(ask.key)
            if flight is None or flight.background:
                flight = self._start(ask, b"", background=False, alone=True)
            found = await flight.board()
            if found is not None:
                return self._read_as(found, ask)

    def remembered(self, key: str, shape: Any) -> tuple[Any, float] | None:  # noqa: ANN401
        """Return what memory has of a key, however old within bounds, and since when."""
        entry = self._by_key.get(key)
        if entry is None or _now() - entry.born > self._shared.settings.outage_age_s:
            return None
        if entry.shape != shape:
            return None
        self._stats.outage += 1
        entry.used = True
        return (entry.value if entry.decode is None else entry.decode(entry.value)), entry.born
