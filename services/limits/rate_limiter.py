"""Rate limits: how often something may be done, decided in one step for all who share a Redis.

    limiter = services.rate_limiter
    if not await limiter.check_limit("ann", "api", "search"):
        ...
    await limiter.enforce_limit("ann", "agent", also=("daily", "workspace"), workspace="w1")
    async with limiter.slot("ann", "runs"):     # so many at the same time
        ...

Several policies are one step: what one of them denies takes nothing from any. A denial that is
known costs nothing until its time is over (``denials.py``), and while Redis is away each policy
says what that means (``Policy.fail``), within its deadline.

Like everything that is counted, a check whose reply was lost may have been counted. It is not
repeated: at worst one unit is missing until it comes back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from channels.errors import BadRequest
from channels.ids import check_id
from services.breaker import Breaker
from services.context import Context
from services.limits.batches import Batches
from services.limits.check import Check
from services.limits.checks import Asked, Checks
from services.limits.denials import MAX_DENIALS, Denials
from services.limits.local_limits import LocalLimits
from services.limits.plans import PlanOf, Plans
from services.limits.policy import DEFAULT_POLICIES, Policies, Policy
from services.limits.refusal import refusal
from services.limits.result import LimitResult, Remaining
from services.limits.rule import PolicyState, families_of
from services.limits.slots import Lease, Slots
from services.limits.stats import LimitStats
from services.limits.subjects import Caller, place_of
from services.limits.teller import Teller

__all__ = ["RateLimiter"]

#: What a check may take where its policies do not say: over TCP, and over REST.
_DEADLINE_S: Final = 0.1
_BILLED_DEADLINE_S: Final = 1.0

#: Deadlines missed in a row before Redis counts as away (a lost connection says so at once), and
#: seconds without asking it then: doubled from the first to the second.
_FAILURES = 3
_PAUSES_S = (0.1, 1.0)


class RateLimiter:
    """The rate limits of one application. No I/O in the constructor.

    ``plan_of(user, workspace)`` says which plan somebody is on, for policies that differ by plan;
    it may be a coroutine function and is asked once a minute.
    """

    __slots__ = (
        "_batches",
        "_breaker",
        "_checks",
        "_clock",
        "_context",
        "_denials",
        "_guard",
        "_own",
        "_slots",
        "_teller",
        "stats",
    )

    def __init__(
        self,
        context: Context,
        *,
        policies: Iterable[Policy] = DEFAULT_POLICIES,
        plan_of: PlanOf | None = None,
        remembered: int = MAX_DENIALS,
    ) -> None:
        """Make it; ``remembered`` denials at most are known without asking, 0 for none.

        Raises:
            SettingsError: two policies have one name.
        """
        self._context = context
        self._clock = context.clock
        self.stats = LimitStats()
        self._breaker = Breaker(_FAILURES, _PAUSES_S)
        self._batches = Batches(context.store, context.clock, self._breaker, self.stats)
        self._denials = Denials(remembered) if remembered > 0 else None
        self._teller = Teller(context, self.stats)
        self._slots = Slots(context, self._teller, self.stats)
        plans = Plans(plan_of) if plan_of is not None else None
        deadline_s = _BILLED_DEADLINE_S if context.store.traits.billed else _DEADLINE_S
        self._checks = Checks(Policies(policies), context.keys, plans, deadline_s)
        #: Policies that this process counts alone, and what guards the others in an outage.
        self._own = LocalLimits()
        self._guard = LocalLimits()

    @property
    def policies(self) -> Policies:
        """The policies there are."""
        return self._checks.policies

    @property
    def degraded(self) -> bool:
        """Whether Redis is away, as far as checks know."""
        return self._breaker.is_open

    # -- checks ------------------------------------------------------------------------------

    async def check_limit(
        self,
        user_id: str = "",
        limit_type: str = "api",
        endpoint: str = "default",
        *,
        workspace: str = "",
        address: str = "",
        agent: str = "",
        cost: int = 1,
        plan: str = "",
        also: Sequence[str] = (),
    ) -> LimitResult:
        """Take ``cost`` of policy ``limit_type`` and those in ``also``; truthy when allowed.

        All of them allow it, or nothing is taken. Which of ``user_id``, ``endpoint``,
        ``workspace``, ``address`` and ``agent`` count is up to the policies. ``plan`` is the
        caller's, the resolver's unless given.

        Raises:
            SettingsError: there is no such policy; the message lists those there are.
            BadRequest: an id is none, a subject is missing, or ``cost`` is less than 1.
        """
        if type(cost) is not int or cost < 1:
            raise BadRequest(f"expected a cost of 1 or more units; got {cost!r:.40}")
        asked = Asked(user_id, limit_type, endpoint, workspace, address, plan, tuple(also), agent)
        check = self._checks.ready(asked) or await self._checks.prepare(asked)
        if check.own_keys or not check.keys:
            result = await self._decide_with_own(check, cost)
        else:
            result = await self._decide(check, cost)
        if result.allowed:
            self.stats.allowed += 1
        else:
            self._count_denial(result)
        return result

    async def enforce_limit(
        self,
        user_id: str = "",
        limit_type: str = "api",
        endpoint: str = "default",
        *,
        workspace: str = "",
        address: str = "",
        agent: str = "",
        cost: int = 1,
        plan: str = "",
        also: Sequence[str] = (),
    ) -> LimitResult:
        """Do as :meth:`check_limit`, and return what it returns if it is allowed.

        Raises:
            RateLimited: it is not; ``ReducedCapacity``, one of those, when that cannot be known
                and a policy is closed then.
            SettingsError, BadRequest: as :meth:`check_limit`.
        """
        result = await self.check_limit(
            user_id,
            limit_type,
            endpoint,
            workspace=workspace,
            address=address,
            agent=agent,
            cost=cost,
            plan=plan,
            also=also,
        )
        if not result.allowed:
            raise refusal(result)
        return result

    async def get_remaining(
        self,
        user_id: str = "",
        limit_type: str = "api",
        endpoint: str = "default",
        *,
        workspace: str = "",
        address: str = "",
        agent: str = "",
        plan: str = "",
        also: Sequence[str] = (),
    ) -> Remaining:
        """Return what is left, and when all of it is there again. Takes and writes nothing.

        Of several policies, ``limit``, ``remaining`` and ``reset_in_seconds`` are those of the
        one with the least left. While Redis is away it is what this process knows. A plan
        without such a limit has nothing to tell of: zeros, and no ``policies``.

        Raises:
            SettingsError, BadRequest: as :meth:`check_limit`.
        """
        asked = Asked(user_id, limit_type, endpoint, workspace, address, plan, tuple(also), agent)
        check = self._checks.ready(asked) or await self._checks.prepare(asked)
        states: list[PolicyState] = []
        if check.own_keys:
            _, values = self._own.take(check.own_keys, check.own_rules, 0)
            states += LimitResult(check.own_rules, values, 0, allowed=True, cost=0).policies
        if check.keys:
            result = None
            if self._breaker.may_ask():
                result = await self._batches.ask(check, 0)
            if result is None:
                _, values = self._guard.take(check.keys, check.local_rules, 0)
                result = LimitResult(check.local_rules, values, 0, allowed=True, cost=0)
            states += result.policies
        tightest = min(states, key=lambda state: state.remaining, default=None)
        return {
            "limit": tightest.limit if tightest else 0,
            "remaining": tightest.remaining if tightest else 0,
            "reset_in_seconds": tightest.reset_in_seconds if tightest else 0,
            "policies": states,
        }

    async def reset(
        self,
        user_id: str = "",
        limit_type: str = "api",
        endpoint: str = "default",
        *,
        workspace: str = "",
        address: str = "",
        agent: str = "",
        also: Sequence[str] = (),
    ) -> None:
        """Give everything back that these policies counted, slots included.

        Another process that remembers a denial denies until the moment it had told.

        Raises:
            StoreError: it may not have been.
            SettingsError, BadRequest: as :meth:`check_limit`.
        """
        caller = Caller(user_id, endpoint, workspace, address, agent)
        for name in dict.fromkeys((limit_type, *also)):
            policy = self._checks.policies[name]
            keys = [
                place_of(policy, caller, self._context.keys, family).key
                for family in families_of(policy)
            ]
            if policy.shared:
                await self._context.store.execute("DEL", *keys)
            for key in keys:
                if self._denials is not None:
                    self._denials.forget(key)
                (self._guard if policy.shared else self._own).reset(key)

    def forget_plan(self, user_id: str, workspace: str | None = None) -> None:
        """Ask the resolver again: somebody's plan was changed."""
        self._checks.forget_plan(user_id, workspace)

    # -- slots -------------------------------------------------------------------------------

    async def acquire_slot(
        self,
        user_id: str = "",
        limit_type: str = "slots",
        endpoint: str = "default",
        *,
        workspace: str = "",
        address: str = "",
        agent: str = "",
        plan: str = "",
        holder: str | None = None,
    ) -> Lease:
        """Take a slot of a ``slots`` policy for as long as its ``window_s``; truthy when taken.

        Renew it (:meth:`renew_slot`) or release it. With the same ``holder`` it is the same slot.

        Raises:
            SettingsError: there is no such policy, or it has no slots.
            BadRequest: as :meth:`check_limit`.
        """
        caller = Caller(user_id, endpoint, workspace, address, agent)
        found = await self._checks.slot_of(limit_type, caller, plan)
        return await self._slots.acquire(*found, holder)

    async def renew_slot(self, lease: Lease) -> bool:
        """Hold a slot for another ``window_s``; False when the lease ran out before.

        Raises:
            StoreError: it may not be renewed.
        """
        return await self._slots.renew(lease)

    async def release_slot(self, lease: Lease) -> None:
        """Give a slot back; if Redis is away, it is free when its lease ends."""
        await self._slots.release(lease)

    async def release_slot_of(
        self,
        holder: str,
        user_id: str = "",
        limit_type: str = "slots",
        endpoint: str = "default",
        *,
        workspace: str = "",
        address: str = "",
        agent: str = "",
    ) -> None:
        """Give back the slot of ``holder``, taken by whichever process; again does nothing.

        Raises:
            StoreError: it may still be held; its lease ends it.
            SettingsError, BadRequest: as :meth:`acquire_slot`.
        """
        caller = Caller(user_id, endpoint, workspace, address, agent)
        _, place, _ = await self._checks.slot_of(limit_type, caller, "")
        await self._slots.free(place.key, check_id(holder, "holder"))

    @asynccontextmanager
    async def slot(
        self,
        user_id: str = "",
        limit_type: str = "slots",
        endpoint: str = "default",
        *,
        workspace: str = "",
        address: str = "",
        agent: str = "",
        plan: str = "",
        holder: str | None = None,
    ) -> AsyncIterator[Lease]:
        """Hold a slot for the time of the context, and renew it meanwhile.

        Entering raises ``RateLimited`` when none is free, and as :meth:`acquire_slot`.
        ``lease.lost`` is set when the slot was lost nevertheless.
        """
        caller = Caller(user_id, endpoint, workspace, address, agent)
        found = await self._checks.slot_of(limit_type, caller, plan)
        async with self._slots.hold(*found, holder) as lease:
            yield lease

    # -- deciding ----------------------------------------------------------------------------

    async def _decide(self, check: Check, cost: int) -> LimitResult:
        """Decide by what Redis counts."""
        denials = self._denials
        if denials:
            known = self._known(denials, check, cost)
            if known is not None:
                return known
        breaker = self._breaker
        if breaker.is_open and not breaker.may_ask():
            return self._in_outage(check, cost)
        result = await self._batches.ask(check, cost)
        if result is None:
            return self._in_outage(check, cost)
        if not result.allowed:
            await self._take_denial(check, cost, result)
        return result

    async def _decide_with_own(self, check: Check, cost: int) -> LimitResult:
        """Decide by what this process counts, and by what Redis does if that allows it."""
        own_rules, own_keys = check.own_rules, check.own_keys
        allowed, values = self._own.take(own_keys, own_rules, cost)
        own = LimitResult(own_rules, values, 0, allowed=allowed, cost=cost, source="local")
        if not allowed or not check.keys:
            return own
        shared = await self._decide(check, cost)
        if not shared.allowed:
            self._own.give_back(own_keys, own_rules, cost)
            return shared
        return LimitResult.of(
            (*shared.policies, *own.policies),
            allowed=True,
            cost=cost,
            source=shared.source,
            degraded=shared.degraded,
        )

    def _known(self, denials: Denials, check: Check, cost: int) -> LimitResult | None:
        """Return the denial that is known already."""
        now_us = self._clock.now_ms() * 1000
        states = [
            state
            for key, rule in zip(check.keys, check.rules, strict=True)
            if (state := denials.find(key, rule, cost, now_us)) is not None
        ]
        if not states:
            return None
        self.stats.known += 1
        return LimitResult.of(states, allowed=False, cost=cost)

    async def _take_denial(self, check: Check, cost: int, result: LimitResult) -> None:
        """Remember a denial of Redis, and tell of those that were not told."""
        for index, rule in enumerate(check.rules):
            values = result.values_of(index)
            wait_us = rule.wait_us(values, cost)
            if wait_us <= 0:
                continue  # it allows it, or never will, which no time changes
            key, user = check.keys[index], check.tells[index]
            if (
                user
                and result.untold & (1 << index)
                and not await self._teller.tell(
                    user, key, rule, cost, -(-wait_us // 1000), check.deadline_s
                )
            ):
                continue  # remembered, it would never be told
            if self._denials is not None:
                self._denials.remember(key, rule, cost, values, result.denied_at_us)

    def _in_outage(self, check: Check, cost: int) -> LimitResult:
        """Decide without Redis."""
        self.stats.degraded += 1
        if check.closed:
            left_ms = max(1, round(self._breaker.left_s() * 1000))
            states = [
                PolicyState(
                    *(rule.name, rule.quota, 0, left_ms, left_ms, left_ms, rule.window_s),
                    rule.policy.subject,
                )
                for rule in check.closed
            ]
            return LimitResult.of(states, allowed=False, cost=cost, degraded=True, closed=True)
        rules = check.local_rules
        allowed, values = self._guard.take(check.keys, rules, cost)
        return LimitResult(
            rules, values, 0, allowed=allowed, cost=cost, source="local", degraded=True
        )

    def _count_denial(self, result: LimitResult) -> None:
        self.stats.denied += 1
        for name in result.violated:
            self.stats.denied_by[name] = self.stats.denied_by.get(name, 0) + 1

    async def close(self) -> None:
        """Wait for the checks that are on their way."""
        await self._batches.close()
