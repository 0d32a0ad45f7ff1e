"""What everything about budgets stands on: whose, which period, which rules, which accounts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeVar, cast

from channels.catalogue import USAGE, Channel
from channels.errors import (
    DatabaseUnavailable,
    LimitExceeded,
    OutcomeUnknown,
    OverBudget,
    StoreError,
)
from channels.scope import Scope
from services.budgets.limits import Limits
from services.budgets.settings import BudgetRule, BudgetSettings, Price
from services.budgets.standing import Budget, Line, Unit
from services.budgets.stats import BudgetStats
from services.changes import Outcome
from services.context import Context
from services.store.port import Argument, Reply
from services.usage.account import Period, period_of
from services.usage.amounts import Usd, check_amount, micro_usd, usd
from services.usage.scopes import scopes_of
from services.usage.usage_tracker import UsageTracker

__all__ = ["FAMILY", "KEPT_MS", "OPEN_MS", "Ground", "over_budget", "surely"]

_log = logging.getLogger(__name__)

#: What stands before the id of a hold in the sorted set of what is due.
FAMILY: Final = "hold"
#: How long a hold is known beyond its end.
KEPT_MS: Final = 2 * 86_400_000
#: How long one is known that nobody ends, for no hub runs: it must not go before the month does
#: in whose budgets it is, or what it set aside would never be free again.
OPEN_MS: Final = 35 * 86_400_000
#: A root stays registered this long without being registered again. The sweeper looks a second
#: time ten seconds after it looked: what is written until then is found.
_REGISTERED_MS: Final = 5_000
_MOST_ROOTS = 10_000
#: Runs of a script for one call: accounts that must be seeded, limits that are changing.
_RUNS = 16

_T = TypeVar("_T")


class _Registration(NamedTuple):
    until_ms: int
    at_ms: int


class Ground:
    """Shared by all that :class:`~services.budgets.budgets.Budgets` is made of."""

    __slots__ = ("_registered", "context", "limits", "price", "settings", "stats", "usage", "zone")

    def __init__(
        self,
        context: Context,
        usage: UsageTracker,
        settings: BudgetSettings,
        price: Price | None,
    ) -> None:
        self.context = context
        self.usage = usage
        self.settings = settings
        self.price = price
        self.stats = BudgetStats()
        self.zone = usage.settings.zone
        self.limits = Limits(context, self.rule, usage.settings.thresholds)
        self._registered: dict[str, _Registration] = {}

    def rule(self, scope: Scope) -> BudgetRule:
        """Return the rule of the budget of ``scope``."""
        return self.settings.rule(scope)

    def period(self, now_ms: int) -> Period:
        """Return the month and day of the billing time zone."""
        return period_of(now_ms, self.zone)

    def channel(self, user: str) -> Channel:
        """Return where the user's holds are told."""
        return self.context.catalogue.find(USAGE.name(user=user))

    async def scopes(
        self, user: str, workspace: str, organisation: str | None
    ) -> tuple[Scope, ...]:
        """Return whose budgets it is about; the organisation is looked up unless given.

        Raises:
            BadRequest: an id is none.
            DatabaseUnavailable: nobody can say which organisation it is.
        """
        scopes = scopes_of(user, workspace, organisation or "")
        if organisation is None and workspace:
            organisation = await self.usage.organisations.find(workspace)
            if organisation:
                return scopes_of(user, workspace, organisation)
        return scopes

    def estimate(
        self, cost: Usd | None, amount: int | None, tokens: int | None, model: str
    ) -> tuple[int, int]:
        """Return what to set aside, micro-USD and tokens: what is not known is never nothing.

        A cost that is not given is the price of the tokens, as output; without a price it is
        the floor. Tokens that are not given are their floor.
        """
        if amount is not None:
            check_amount(amount, "estimated_micro_usd")
        elif cost is not None:
            amount = micro_usd(cost, "estimated_cost")
        else:
            amount = self.priced(model, 0, tokens or 0) if tokens else None
        if amount is None:
            amount = self.settings.floor_micro_usd
        if tokens is None:
            tokens = self.settings.floor_tokens
        return amount, check_amount(tokens, "estimated_tokens")

    def priced(self, model: str, tokens_input: int, tokens_output: int) -> int | None:
        """Return the price of tokens in micro-USD; None where nobody knows it."""
        found = self.price(model, tokens_input, tokens_output) if self.price else None
        return None if found is None else micro_usd(found, "the price")

    # -- scripts -----------------------------------------------------------------------------

    def account_keys(self, scopes: Sequence[Scope], month: str) -> list[str]:
        """Return the keys of accounts."""
        return [self.context.keys.account(scope, month) for scope in scopes]

    def rules(self, scopes: Sequence[Scope], marks: dict[Scope, str]) -> list[Argument]:
        """Return seven arguments for each of ``scopes``: ``lua/lib/budget.lua`` names them."""
        args: list[Argument] = []
        for scope in scopes:
            args += self.rule(scope).args()
            args.append(marks.get(scope, ""))
        return args

    async def granted(
        self,
        scopes: Sequence[Scope],
        period: Period,
        need: tuple[int, int],
        run: Callable[[dict[Scope, str]], Awaitable[Outcome]],
    ) -> Outcome:
        """Run a script that grants something, once all it goes by is known.

        Raises:
            OverBudget: a budget does not allow it.
            LimitExceeded: a sum would be beyond 2^53 - 1.
            DatabaseUnavailable: what was used, or what is allowed, is known to nobody.
        """
        marks: dict[Scope, str] = {}
        for _ in range(_RUNS):
            outcome = await run(marks)
            if outcome.code > 0:
                return outcome
            if outcome.code == 0:
                raise self._denied(scopes, period, need, outcome.values)
            if outcome.code == -2:
                raise LimitExceeded("the sums of a budget would be larger than 2^53 - 1")
            strange = [scopes[place - 1] for place in cast("list[int]", outcome.values[0])]
            if outcome.code == -1:
                await self.seed(strange, period.month)
            else:
                for scope in strange:
                    marks[scope] = await self.limits.refresh(scope, period)
        raise DatabaseUnavailable(
            "what was used before, or what is allowed, cannot be told without the database"
        )

    async def seed(self, scopes: Sequence[Scope], month: str) -> None:
        """Have accounts begun from the database."""
        self.stats.seeded += len(scopes)
        await asyncio.gather(*(self.usage.seeder.seed(scope, month) for scope in scopes))

    async def register(self, root: str, at_ms: int) -> None:
        """Have the sweeper look at ``root`` at ``at_ms``; mostly it was just told to."""
        now_ms = self.context.clock.now_ms()
        known = self._registered.get(root)
        if (
            known is not None
            and known.at_ms <= at_ms
            and now_ms < known.until_ms <= (now_ms + _REGISTERED_MS)
        ):
            return
        await self.context.sweeper.register(root, at_ms)
        if len(self._registered) >= _MOST_ROOTS:
            self._registered.clear()
        self._registered[root] = _Registration(now_ms + _REGISTERED_MS, at_ms)

    # -- what follows ------------------------------------------------------------------------

    def _denied(
        self,
        scopes: Sequence[Scope],
        period: Period,
        need: tuple[int, int],
        values: Sequence[Reply],
    ) -> OverBudget:
        number, line, limit, used, reserved = (int(cast("int | bytes", one)) for one in values)
        scope = scopes[number - 1]
        self.count_denied(scope)
        unit: Unit = "micro_usd" if line == 1 else "tokens"
        return over_budget(scope, unit, period, limit, limit - used - reserved, need)

    def count_denied(self, scope: Scope) -> None:
        """Count that a budget of this kind said no."""
        if scope.kind == "user":
            self.stats.denied_user += 1
        elif scope.kind == "workspace":
            self.stats.denied_workspace += 1
        else:
            self.stats.denied_org += 1

    async def tell(self, budgets: Sequence[Budget], period: Period, user: str) -> None:
        """Have what budgets have to tell told; it is seen again when that fails."""
        for budget in budgets:
            if self._untold(budget.month) or self._untold(budget.day):
                scope = Scope.parse(budget.scope)
                try:
                    await self.context.thresholds.reached(scope, period.month, period.day, user)
                except StoreError as error:
                    _log.info("a threshold of %s is not told yet: %s", scope, error)

    def _untold(self, line: Line) -> bool:
        return line.untold(self.usage.settings.thresholds)


def over_budget(
    scope: Scope, unit: Unit, period: Period, limit: int, remaining: int, need: tuple[int, int]
) -> OverBudget:
    """Return the error that says which budget does not allow it, and what it has left."""
    money = unit == "micro_usd"
    when = period.month if money else period.day
    required = need[0] if money else need[1]
    if money:
        has = f"{usd(remaining):.6f} of {usd(limit):.6f} USD"
        needs = f"{usd(required):.6f} USD"
    else:
        has, needs = f"{remaining} of {limit} tokens", f"{required} tokens"
    return OverBudget(
        f"Budget exceeded: {scope} has {has} left for {when}; required: {needs}",
        scope=str(scope),
        unit=unit,
        period=when,
        limit=limit,
        remaining=remaining,
        required=required,
    )


async def surely(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Try again what may have happened; the second time finds what the first one did."""
    try:
        return await attempt()
    except OutcomeUnknown:
        return await attempt()
