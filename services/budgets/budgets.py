"""Budgets: what may be spent is set aside before it is spent.

    hold = await services.budgets.reserve("ann", "w1", estimated_cost="0.05")
    ...                                        # the call that costs
    await services.budgets.commit(hold, "0.0312", tokens_input=900, tokens_output=400)

    async with services.budgets.spending("ann", "w1", estimated_cost="0.05") as spend:
        spend.add(tokens_output=40)            # the same, renewed and extended while it streams

A budget has two limits: money of a month and tokens of a day, in the billing time zone. What is
left is the limit less what was used and what is set aside. The user, the workspace and its
organisation are asked at once, in one script, so that no number of callers spends more than
there is. An account that is not in Redis begins with what the database has, never with zero.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Final

from channels.errors import BadRequest, FanwireError, NotFound
from channels.ids import check_id, new_id
from channels.scope import Scope
from services.budgets.asking import Asking
from services.budgets.charging import Charging
from services.budgets.ground import FAMILY, Ground
from services.budgets.hold import Committed, Hold, hold_name
from services.budgets.reservations import Reservations
from services.budgets.settings import BudgetSettings, Price
from services.budgets.spending import Spending
from services.budgets.standing import Budget, BudgetCheck
from services.budgets.stats import BudgetStats
from services.budgets.teller import Teller
from services.context import Context
from services.usage.account import Period
from services.usage.amounts import Usd, check_amount, micro_usd
from services.usage.entries import AHEAD_MS
from services.usage.usage_tracker import UsageTracker

__all__ = ["Budgets", "install"]

#: Seconds a hold may be set to live, unless it is renewed.
_TTL_S: Final = (1.0, 86_400.0)
_KEEP: Final = -1


class Budgets:
    """The budgets of an application's users, workspaces and organisations."""

    __slots__ = ("_asking", "_charging", "_ground", "_reservations", "_tasks", "_teller")

    def __init__(
        self,
        context: Context,
        usage: UsageTracker,
        settings: BudgetSettings | None = None,
        *,
        price: Price | None = None,
    ) -> None:
        """Make them; :func:`install` is what an application calls. No I/O."""
        self._ground = Ground(context, usage, settings or BudgetSettings(), price)
        self._asking = Asking(self._ground)
        self._reservations = Reservations(self._ground)
        self._charging = Charging(self._ground)
        self._teller = Teller(context, self._ground)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def settings(self) -> BudgetSettings:
        """The rules; may be replaced at any time, and holds for what is asked from then on."""
        return self._ground.settings

    @settings.setter
    def settings(self, settings: BudgetSettings) -> None:
        self._ground.settings = settings

    @property
    def price(self) -> Price | None:
        """What tokens of a model cost, where somebody can say so."""
        return self._ground.price

    @price.setter
    def price(self, price: Price | None) -> None:
        self._ground.price = price

    @property
    def stats(self) -> BudgetStats:
        """Counters since start."""
        return self._ground.stats

    # -- setting aside -----------------------------------------------------------------------

    async def reserve(
        self,
        user: str,
        workspace: str,
        *,
        organisation: str | None = None,
        estimated_cost: Usd | None = None,
        estimated_micro_usd: int | None = None,
        estimated_tokens: int | None = None,
        model: str = "",
        hold_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Hold:
        """Set an amount aside for user, workspace and organisation: all of them or none.

        With a ``hold_id`` the call may be repeated: what was set aside is found again. Ids are
        the user's own, used once. A cost that is not known is what ``price`` says for the
        tokens and ``model``, else the floor of the settings, never nothing. The organisation is
        looked up unless given; "" is none.

        After ``ttl_s`` without :meth:`renew` it is free again, and that is told.

        Raises:
            OverBudget: a budget does not allow it; nothing was set aside.
            Conflict: the id is that of a hold that is over, or of another amount.
            BadRequest: an id or an amount is none.
            DatabaseUnavailable: what was used before is not known; nothing was set aside.
            OutcomeUnknown: it may be set aside; ask again with the hold id, or it ends by itself.
            StoreUnavailable, StoreRefused: nothing was set aside.
        """
        ground = self._ground
        check_id(workspace, "workspace")
        scopes = await ground.scopes(user, workspace, organisation)
        amount, tokens = ground.estimate(
            estimated_cost, estimated_micro_usd, estimated_tokens, model
        )
        ttl_ms = self._ttl_ms(ttl_s)
        return await self._reservations.reserve(
            scopes, amount, tokens, new_id() if hold_id is None else hold_id, ttl_ms
        )

    async def extend(
        self,
        hold: Hold | str,
        more_cost: Usd | None = None,
        *,
        more_micro_usd: int | None = None,
        more_tokens: int = 0,
        op_id: str | None = None,
        ttl_s: float | None = None,
        user: str = "",
    ) -> Hold:
        """Set more aside for a hold that is under way, and have it live ``ttl_s`` from now.

        Of a hold that expired all is asked for anew. With an ``op_id`` the call may be
        repeated. ``hold`` is a hold, its name, or its id and ``user``.

        Raises:
            OverBudget: a budget does not allow it; the hold is as it was.
            Conflict: it was committed or released.
            NotFound: there is no such hold.
            Others as :meth:`reserve`.
        """
        if more_micro_usd is None:
            more_micro_usd = 0 if more_cost is None else micro_usd(more_cost, "more_cost")
        check_amount(more_micro_usd, "more_micro_usd")
        check_amount(more_tokens, "more_tokens")
        known = await self._known(hold, user)
        return await self._reservations.extend(
            known,
            more_micro_usd,
            more_tokens,
            new_id() if op_id is None else op_id,
            self._ttl_ms(ttl_s),
        )

    async def renew(self, hold: Hold | str, *, ttl_s: float | None = None, user: str = "") -> Hold:
        """Have a hold live ``ttl_s`` from now, or longer if it does; costs three commands.

        Raises:
            Conflict: it is over; :meth:`extend` makes one that expired live again.
            NotFound: there is no such hold.
            StoreError: it may not be renewed.
        """
        owner, hold_id = hold_name(hold, user)
        return await self._reservations.renew(owner, hold_id, self._ttl_ms(ttl_s))

    async def release(self, hold: Hold | str, *, user: str = "") -> bool:
        """Set free what a hold has, uncharged; return whether it was set aside until now.

        Raises:
            StoreError: it may still be set aside; call it again, or it ends by itself.
        """
        return await self._reservations.release(hold, user)

    async def get_hold(self, hold: Hold | str, *, user: str = "") -> Hold | None:
        """Return a hold as it is now; None if it is not known, or ended two days ago."""
        owner, hold_id = hold_name(hold, user)
        return await self._reservations.find(owner, hold_id)

    def let_go(self, hold: str) -> asyncio.Task[None]:
        """Release a hold by its name in the background, if there is one; else it ends by itself."""

        async def release() -> None:
            with contextlib.suppress(FanwireError):
                await self.release(hold)

        task = asyncio.create_task(release(), name="fanwire-let-go")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- charging ----------------------------------------------------------------------------

    async def commit(
        self,
        hold: Hold | str,
        actual_cost: Usd | None = None,
        *,
        actual_micro_usd: int | None = None,
        tokens_input: int = 0,
        tokens_output: int = 0,
        agent: str = "",
        model: str = "",
        event_id: str | None = None,
        occurred_at: datetime | None = None,
        requests: int = 1,
        user: str = "",
    ) -> Committed:
        """Charge what was used, tell it as ``usage.recorded``, and settle the hold: one script.

        Once for each hold and each ``event_id``, however often it is called. More than was set
        aside is charged and said (``overage``); less gives the rest back. A hold that is over
        is charged all the same (``late``). It counts in the month and day in which it was used
        (``occurred_at``, now by default); what was set aside is taken from the period in which
        it was reserved. A cost that is not given is the price of the tokens, else what was set
        aside.

        Raises:
            NotFound: only a name was given, and nothing is known of it.
            Conflict: the event id is that of something else, by its amounts; nothing was charged.
            BadRequest, LimitExceeded: an amount is none, or a sum would be too large.
            StoreUnavailable, StoreRefused: nothing was charged.
            OutcomeUnknown: it may be charged; call it again, it is charged once.
        """
        if actual_micro_usd is None and actual_cost is not None:
            actual_micro_usd = micro_usd(actual_cost, "actual_cost")
        return await self._charging.commit(
            await self._known(hold, user),
            given=isinstance(hold, Hold),
            amount=actual_micro_usd,
            tokens_input=tokens_input,
            tokens_output=tokens_output,
            agent=agent,
            model=model,
            event_id=event_id,
            occurred_at=occurred_at,
            requests=requests,
        )

    def spending(
        self,
        user: str,
        workspace: str,
        *,
        organisation: str | None = None,
        estimated_cost: Usd | None = None,
        estimated_tokens: int | None = None,
        agent: str = "",
        model: str = "",
        hold_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Spending:
        """Return what reserves on entry, charges what was used on exit, and lives in between.

        See :class:`~services.budgets.spending.Spending`; entering raises as :meth:`reserve`.
        """
        return Spending(
            self,
            user,
            workspace,
            organisation=organisation,
            estimated_cost=estimated_cost,
            estimated_tokens=estimated_tokens,
            agent=agent,
            model=model,
            hold_id=hold_id,
            ttl_s=self._ttl_ms(ttl_s) / 1000,
        )

    def price_of(self, model: str, tokens_input: int, tokens_output: int) -> int | None:
        """Return what tokens cost in micro-USD; None where nobody knows."""
        return self._ground.priced(model, tokens_input, tokens_output)

    # -- asking ------------------------------------------------------------------------------

    async def check_budget(
        self,
        user_id: str,
        estimated_cost: Usd | None = None,
        *,
        workspace: str = "",
        organisation: str | None = None,
        estimated_tokens: int | None = None,
        model: str = "",
    ) -> BudgetCheck:
        """Tell whether something could be afforded now; sets nothing aside.

        Between the answer and the call others may spend: only :meth:`reserve` makes sure.

        Raises:
            BadRequest: an id or an amount is none.
            StoreError, DatabaseUnavailable: it cannot be told.
        """
        ground = self._ground
        scopes = await ground.scopes(user_id, workspace, organisation)
        amount, tokens = ground.estimate(estimated_cost, None, estimated_tokens, model)
        budgets = await self._asking.read(scopes)
        # What was used without a hold is noticed here.
        await ground.tell(budgets, self._period(), user_id)
        rules = [ground.rule(scope) for scope in scopes]
        return BudgetCheck.of(budgets, rules, amount, tokens)

    async def enforce_budget(
        self,
        user_id: str,
        estimated_cost: Usd | None = None,
        *,
        workspace: str = "",
        organisation: str | None = None,
        estimated_tokens: int | None = None,
        model: str = "",
    ) -> BudgetCheck:
        """Return the check if it can be afforded.

        Raises:
            OverBudget: it cannot.
            Others as :meth:`check_budget`.
        """
        check = await self.check_budget(
            user_id,
            estimated_cost,
            workspace=workspace,
            organisation=organisation,
            estimated_tokens=estimated_tokens,
            model=model,
        )
        if not check.can_afford:
            raise self._asking.denial(check)
        return check

    async def get_budget(self, scope: Scope | str) -> Budget:
        """Return where a budget stands: limits, used, set aside, left, and what was told.

        Raises:
            BadRequest: it is no scope.
            StoreError, DatabaseUnavailable: it cannot be told.
        """
        return (await self._asking.read((_scope(scope),)))[0]

    async def set_limit(
        self,
        scope: Scope | str,
        *,
        monthly: Usd | None = _KEEP,
        monthly_micro_usd: int | None = _KEEP,
        daily_tokens: int | None = _KEEP,
    ) -> Budget:
        """Change limits, in the database and at once; return how the budget stands then.

        What is not named stays as it is; None is the limit of the rules again; 0 allows
        nothing. A limit that is raised takes back what was told of it: a share that is reached
        again is told again. See :mod:`~services.budgets.limits` for what a crash leaves.

        Raises:
            BadRequest: an amount is none, or nothing is changed.
            NotAvailable: there is no database to keep it.
            DatabaseUnavailable, StoreError: it may have been changed; call it again.
        """
        ground, scope = self._ground, _scope(scope)
        changes: dict[str, int | None] = {}
        if monthly is None or monthly != _KEEP:
            monthly_micro_usd = None if monthly is None else micro_usd(monthly, "monthly")
        if monthly_micro_usd is None or monthly_micro_usd != _KEEP:
            if monthly_micro_usd is not None:
                check_amount(monthly_micro_usd, "monthly_micro_usd")
            changes["budget_limit_monthly_micro_usd"] = monthly_micro_usd
        if daily_tokens is None or daily_tokens != _KEEP:
            if daily_tokens is not None:
                check_amount(daily_tokens, "daily_tokens")
            changes["token_limit_daily"] = daily_tokens
        if not changes:
            raise BadRequest("expected a limit: monthly, monthly_micro_usd or daily_tokens")
        period = self._period()
        await ground.limits.change(scope, period, changes)
        # Accounts of the next month may be there minutes before it begins: clocks differ.
        coming = ground.period(ground.context.clock.now_ms() + AHEAD_MS)
        if coming.month != period.month:
            await ground.limits.change(scope, coming, changes)
        budget = await self.get_budget(scope)
        await ground.tell((budget,), period, scope.id if scope.kind == "user" else "")
        return budget

    # -- inside ------------------------------------------------------------------------------

    async def _known(self, hold: Hold | str, user: str) -> Hold:
        if isinstance(hold, Hold):
            return hold
        owner, hold_id = hold_name(hold, user)
        found = await self._reservations.find(owner, hold_id)
        if found is None:
            raise NotFound(f"user {owner!r} has no hold {hold_id!r}, or it ended days ago")
        return found

    def _period(self) -> Period:
        return self._ground.period(self._ground.context.clock.now_ms())

    def _ttl_ms(self, ttl_s: float | None) -> int:
        least, most = _TTL_S
        if ttl_s is None:
            ttl_s = self.settings.hold_ttl_s
        if not least <= ttl_s <= most:
            raise BadRequest(f"ttl_s is {least:g} to {most:g} s; got {ttl_s!r}")
        return round(ttl_s * 1000)

    def _limits(self, scope: Scope) -> tuple[int | None, int | None]:
        """Return what holds where the database names no limit."""
        rule = self._ground.rule(scope)
        return rule.monthly_micro_usd, rule.daily_tokens

    async def _expire(self, root: str, hold_id: str) -> None:
        await self._reservations.expire(root, hold_id)


def install(
    context: Context,
    usage: UsageTracker,
    settings: BudgetSettings | None = None,
    *,
    price: Price | None = None,
) -> Budgets:
    """Return the budgets of an application; once for each context.

    Holds end whose time is up, and thresholds are told that others reach by counting usage.
    """
    budgets = Budgets(context, usage, settings, price=price)
    context.sweeper.handle(FAMILY, budgets._expire)  # noqa: SLF001
    context.thresholds.use(budgets._teller.tell, budgets._limits)  # noqa: SLF001
    return budgets


def _scope(scope: Scope | str) -> Scope:
    # A scope that a caller made has an id that nobody checked.
    return Scope.parse(str(scope))
