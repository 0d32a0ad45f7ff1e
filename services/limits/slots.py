"""Slots: so many at the same time. Each is leased, so that a holder that died frees its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from channels.errors import OutcomeUnknown, StoreError
from channels.ids import check_id, new_id
from services.context import Context
from services.limits.refusal import refusal
from services.limits.result import LimitResult
from services.limits.rule import PolicyState, Rule
from services.limits.stats import LimitStats
from services.limits.subjects import Place
from services.limits.teller import Teller
from services.store.port import Argument, Reply
from services.store.script import Script, load_script

__all__ = ["Lease", "Slots"]

_log = logging.getLogger(__name__)

#: How often a lease is renewed while it is held: two renewals may fail.
_RENEWALS = 3


class Lease:
    """A slot that was taken, or why not; truthy when it was.

    ``degraded`` is one that Redis knows nothing of, because it is away and the policy is open.
    ``lost`` is set when the lease ran out before it was renewed: somebody else may have the slot.
    """

    __slots__ = ("holder", "key", "lost", "result", "rule")

    def __init__(self, key: str, rule: Rule, holder: str, result: LimitResult) -> None:
        self.key = key
        self.rule = rule
        self.holder = holder
        self.result = result
        self.lost = asyncio.Event()

    def __bool__(self) -> bool:
        return self.result.allowed

    @property
    def degraded(self) -> bool:
        """Whether Redis was not asked."""
        return self.result.degraded


class Slots:
    """Takes, renews and gives back slots."""

    __slots__ = ("_acquire", "_context", "_renew", "_stats", "_teller")

    def __init__(self, context: Context, teller: Teller, stats: LimitStats) -> None:
        self._context = context
        self._teller = teller
        self._stats = stats
        self._acquire = load_script("slots_acquire")
        self._renew = load_script("slots_renew")

    async def acquire(
        self, rule: Rule, place: Place, deadline_s: float, holder: str | None
    ) -> Lease:
        """Take a slot for ``holder`` (a new id unless given), or renew the one it has."""
        mine = not holder
        holder = check_id(holder, "holder") if holder else new_id()
        now_ms = self._context.clock.now_ms()
        lease_ms = round(rule.window_s * 1000)
        args: list[Argument] = [
            *(now_ms, holder, lease_ms, rule.quota, rule.terms[3] // 1000),
            _ttl_ms(lease_ms),
        ]
        try:
            reply = await self._run(self._acquire, place.key, args, deadline_s)
        except asyncio.CancelledError:
            if mine:
                # Nobody learns of it, so nobody would give it back.
                await asyncio.shield(self._give_back(place.key, holder))
            raise
        except StoreError as error:
            return self._in_outage(rule, place, holder, error)
        verdict, taken, first_ms = cast("tuple[int, int, int]", reply)
        wait_ms = max(1, first_ms - now_ms)
        free = max(0, rule.quota - taken)
        state = _state(rule, free, 0 if verdict == 1 else wait_ms, 0 if free else wait_ms)
        if verdict == 1:
            self._stats.slots_taken += 1
        else:
            self._stats.slots_refused += 1
            if verdict < 0 and place.user:
                await self._teller.tell_slots(place.user, place.key, rule, wait_ms, deadline_s)
        result = LimitResult.of([state], allowed=verdict == 1, cost=1, source="redis")
        return Lease(place.key, rule, holder, result)

    async def renew(self, lease: Lease) -> bool:
        """Hold the slot for another lease; False when it is lost.

        Raises:
            StoreError: it may not be renewed; it is held until its lease ends.
        """
        if lease.degraded:
            return True
        lease_ms = round(lease.rule.window_s * 1000)
        args: list[Argument] = [
            *(self._context.clock.now_ms(), lease.holder, lease_ms),
            _ttl_ms(lease_ms),
        ]
        if await self._run(self._renew, lease.key, args, None):
            return True
        if not lease.lost.is_set():
            self._stats.slots_lost += 1
            lease.lost.set()
        return False

    async def release(self, lease: Lease) -> None:
        """Give the slot back; again does nothing. When Redis is away its lease ends it."""
        if lease and not lease.degraded:
            await self._give_back(lease.key, lease.holder)

    async def free(self, key: str, holder: str) -> None:
        """Give back what ``holder`` has under ``key``; again does nothing.

        Raises:
            StoreError: it may still be held; its lease ends it.
        """
        await self._context.store.execute("ZREM", key, holder)

    async def _give_back(self, key: str, holder: str) -> None:
        with contextlib.suppress(StoreError):
            await self.free(key, holder)

    @asynccontextmanager
    async def hold(
        self, rule: Rule, place: Place, deadline_s: float, holder: str | None
    ) -> AsyncIterator[Lease]:
        """Hold a slot for the time of the context, renewing its lease.

        Raises:
            RateLimited: none is free.
        """
        lease = await self.acquire(rule, place, deadline_s, holder)
        if not lease:
            raise refusal(lease.result)
        renewing = asyncio.create_task(self._keep(lease), name="fanwire-slot")
        try:
            yield lease
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})
            # Also when the caller was cancelled: the slot is free at once.
            await asyncio.shield(self.release(lease))

    async def _keep(self, lease: Lease) -> None:
        while not lease.degraded:
            await asyncio.sleep(lease.rule.window_s / _RENEWALS)
            try:
                if not await self.renew(lease):
                    _log.warning("a slot of %s was lost: its lease ran out", lease.rule.name)
                    return
            except StoreError as error:
                _log.info("a slot of %s is not renewed for now: %s", lease.rule.name, error)

    async def _run(
        self, script: Script, key: str, args: list[Argument], timeout_s: float | None
    ) -> Reply:
        """Run a script once more when its outcome is unknown: the holder makes it the same."""
        try:
            return await self._context.store.run(script, [key], args, timeout_s=timeout_s)
        except OutcomeUnknown:
            return await self._context.store.run(script, [key], args, timeout_s=timeout_s)

    def _in_outage(self, rule: Rule, place: Place, holder: str, error: StoreError) -> Lease:
        allowed = rule.policy.fail == "open"
        _log.info("a slot of %s is %s: %s", rule.name, "given" if allowed else "refused", error)
        self._stats.failures += 1
        self._stats.degraded += 1
        state = _state(rule, 0, 0 if allowed else 1000, 1000)
        result = LimitResult.of([state], allowed=allowed, cost=1, degraded=True, closed=not allowed)
        return Lease(place.key, rule, holder, result)


def _state(rule: Rule, free: int, retry_ms: int, next_ms: int) -> PolicyState:
    return PolicyState(
        rule.name,
        rule.quota,
        free,
        next_ms,
        retry_ms,
        next_ms,
        rule.window_s,
        rule.policy.subject,
    )


def _ttl_ms(lease_ms: int) -> int:
    """Return when nobody can hold a slot any more, with room for a clock that is corrected."""
    return lease_ms + 60_000
