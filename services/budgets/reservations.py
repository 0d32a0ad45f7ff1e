"""Setting amounts aside, and setting them free again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from channels.errors import Conflict, NotFound
from channels.ids import check_id, new_id
from channels.scope import Scope
from services.budgets import bodies
from services.budgets.ground import FAMILY, KEPT_MS, OPEN_MS, Ground, surely
from services.budgets.hold import Hold, hold_name
from services.budgets.standing import standings
from services.changes import Outcome
from services.store.port import Argument, Reply
from services.store.script import load_script
from services.sweeper import Sweeper
from services.usage.account import Period

__all__ = ["Reservations"]

_RESERVE = load_script("budget_reserve")
_EXTEND = load_script("budget_extend")
_RENEW = load_script("budget_renew")
_RELEASE = load_script("budget_release")


class Reservations:
    """Holds, from their beginning to their end without a charge."""

    __slots__ = ("_ground",)

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def reserve(
        self, scopes: tuple[Scope, ...], amount: int, tokens: int, hold_id: str, ttl_ms: int
    ) -> Hold:
        """Set an amount aside in the budgets of ``scopes``, in all of them or in none."""
        ground, context = self._ground, self._ground.context
        now_ms = context.clock.now_ms()
        period = ground.period(now_ms)
        named = {scope.kind: scope.id for scope in scopes}
        wanted = Hold(
            id=check_id(hold_id, "hold id"),
            user=named["user"],
            workspace=named.get("workspace", ""),
            organisation=named.get("org", ""),
            state="open",
            month=period.month,
            day=period.day,
            amount_micro_usd=amount,
            amount_tokens=tokens,
            created_at=_time(now_ms),
            expires_at=_time(now_ms + ttl_ms),
        )
        event, keys = new_id(), context.keys
        head: list[Argument] = [
            *bodies.reserved(wanted, event, wanted.created_at),
            *(wanted.id, *wanted.pieces(), ttl_ms + OPEN_MS, amount, tokens, period.day_of_month),
            now_ms + ttl_ms,
        ]
        await ground.register(wanted.user, now_ms + ttl_ms)

        async def run(marks: dict[Scope, str]) -> Outcome:
            return await surely(
                lambda: context.changes.run(
                    _RESERVE,
                    ground.channel(wanted.user),
                    [
                        *(keys.hold(wanted.user, wanted.id), keys.due(wanted.user)),
                        *ground.account_keys(scopes, period.month),
                    ],
                    [*head, *ground.rules(scopes, marks)],
                    event=event,
                    now_ms=now_ms,
                )
            )

        outcome = await ground.granted(scopes, period, (amount, tokens), run)
        if outcome.code == 3:
            found = Hold.parse(cast(bytes, outcome.values[0]), wanted.user, wanted.id)
            raise Conflict(
                f"the hold {wanted.id!r} is {found.state}, with {found.amount_micro_usd} micro-USD"
                f" and {found.amount_tokens} tokens: a new one needs an id of its own"
            )
        if outcome.code == 1:
            ground.stats.reserved += 1
        return await self._granted(wanted.user, wanted.id, scopes, period, outcome)

    async def extend(self, known: Hold, amount: int, tokens: int, op_id: str, ttl_ms: int) -> Hold:
        """Set more aside for a hold; denied, it stays as it was."""
        ground, context = self._ground, self._ground.context
        now_ms = context.clock.now_ms()
        # It stays in the budgets of when it was made.
        period, scopes = Period(known.month, known.day), known.scopes
        event, keys = new_id(), context.keys
        head: list[Argument] = [
            *bodies.extended(known, event, _time(now_ms)),
            *(known.id, check_id(op_id, "op id"), amount, tokens),
            *(now_ms + ttl_ms, ttl_ms + OPEN_MS, period.day_of_month),
        ]
        await ground.register(known.user, now_ms + ttl_ms)

        async def run(marks: dict[Scope, str]) -> Outcome:
            return await surely(
                lambda: context.changes.run(
                    _EXTEND,
                    ground.channel(known.user),
                    [
                        *(keys.hold(known.user, known.id), keys.due(known.user)),
                        *ground.account_keys(scopes, period.month),
                    ],
                    [*head, *ground.rules(scopes, marks)],
                    event=event,
                    now_ms=now_ms,
                )
            )

        outcome = await ground.granted(scopes, period, (amount, tokens), run)
        self._raise_unless_open(known.user, known.id, outcome.code, outcome.values)
        if outcome.code == 1:
            ground.stats.extended += 1
        return await self._granted(known.user, known.id, scopes, period, outcome)

    async def renew(self, user: str, hold_id: str, ttl_ms: int) -> Hold:
        """Have a hold end later, at ``ttl_ms`` from now, unless it does already."""
        context = self._ground.context
        args: list[Argument] = [context.clock.now_ms() + ttl_ms, ttl_ms + OPEN_MS]
        reply = await surely(
            lambda: context.store.run(_RENEW, [context.keys.hold(user, hold_id)], args)
        )
        code, _, *values = cast("list[Reply]", reply)
        self._raise_unless_open(user, hold_id, cast(int, code), values)
        return Hold.parse(cast(bytes, values[0]), user, hold_id)

    async def release(self, hold: Hold | str, user: str) -> bool:
        """Set free what a hold has; return whether it had something."""
        owner, hold_id = hold_name(hold, user)
        known = hold if isinstance(hold, Hold) else await self.find(owner, hold_id)
        if known is None:
            return False
        freed = await self._end(known, "r")
        self._ground.stats.released += freed
        return freed

    async def expire(self, user: str, hold_id: str) -> None:
        """End a hold if its time is up; the sweeper's work.

        Raises:
            StoreError: it may not have ended.
        """
        known = await self.find(user, hold_id)
        if known is None:
            context = self._ground.context
            member = Sweeper.member(FAMILY, hold_id)
            await context.store.execute("ZREM", context.keys.due(user), member)
            return
        self._ground.stats.expired += await self._end(known, "x")

    async def find(self, user: str, hold_id: str) -> Hold | None:
        """Return a hold, None if it is not known (any more)."""
        context = self._ground.context
        found = await context.store.execute("GET", context.keys.hold(user, hold_id))
        return Hold.parse(found, user, hold_id) if isinstance(found, bytes) else None

    async def _end(self, hold: Hold, state: str) -> bool:
        ground, context = self._ground, self._ground.context
        now_ms, event, keys = context.clock.now_ms(), new_id(), context.keys
        expires = state == "x"
        reason: bodies.Reason = "expired" if expires else "released"
        args: list[Argument] = [
            *bodies.released(hold, reason, event, _time(now_ms)),
            *(hold.id, hold.day[-2:], state, now_ms if expires else "", KEPT_MS),
            *ground.rules(hold.scopes, {}),
        ]
        doubts = 0

        async def attempt() -> Outcome:
            nonlocal doubts
            doubts += 1
            return await context.changes.run(
                _RELEASE,
                ground.channel(hold.user),
                [
                    *(keys.hold(hold.user, hold.id), keys.due(hold.user)),
                    *ground.account_keys(hold.scopes, hold.month),
                ],
                args,
                event=event,
                now_ms=now_ms,
            )

        outcome = await surely(attempt)
        if outcome.code == 3 and doubts > 1:
            # The first attempt may have done it, and nobody heard of it.
            now = Hold.parse(cast(bytes, outcome.values[0]), hold.user, hold.id)
            return now.state == reason
        return outcome.code == 1

    async def _granted(
        self, user: str, hold_id: str, scopes: tuple[Scope, ...], period: Period, outcome: Outcome
    ) -> Hold:
        ground = self._ground
        rules = [ground.rule(scope) for scope in scopes]
        budgets = standings(scopes, rules, period.month, period.day, outcome.values[1])
        await ground.tell(budgets, period, user)
        return Hold.parse(cast(bytes, outcome.values[0]), user, hold_id, budgets)

    @staticmethod
    def _raise_unless_open(user: str, hold_id: str, code: int, values: list[Reply]) -> None:
        if code == 3:
            found = Hold.parse(cast(bytes, values[0]), user, hold_id)
            raise Conflict(f"expected an open hold; {hold_id!r} of {user!r} is {found.state}")
        if code == 4:
            raise NotFound(f"user {user!r} has no hold {hold_id!r}, or it ended days ago")


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
