"""Spending: a hold that lives as long as a block of code, and is charged what that used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from msgspec import structs

from channels.errors import (
    BadRequest,
    Conflict,
    FanwireError,
    NotFound,
    OutcomeUnknown,
    OverBudget,
    StoreError,
    UsageError,
)
from channels.ids import new_id
from services.budgets.hold import Committed, Hold
from services.usage.amounts import Usd, check_amount, micro_usd

if TYPE_CHECKING:
    from services.budgets.budgets import Budgets

__all__ = ["Spending"]

_log = logging.getLogger(__name__)

#: A hold is extended when so much of it is used: asking takes a moment.
_EARLY: Final = 0.8
#: What a pause between two attempts to charge is, and for how long they go on.
_PAUSE_S: Final = 0.25
_PATIENCE_S: Final = 20.0


class Spending:
    """Reserves on entry, renews while it lives, extends as it is used, charges on exit.

        async with services.budgets.spending("ann", "w1", estimated_cost="0.05") as spend:
            async for piece in model.stream(...):
                spend.add(tokens_output=piece.tokens, cost_usd=piece.cost)

    :meth:`add` counts and never waits. When most of the hold is used, as much again is asked
    for; where that is denied, ``add`` raises ``OverBudget`` once more was used than is set
    aside. :meth:`use` does the same and waits until what was used is covered.

    On exit what was used is charged, also after an exception or a cancel, and the rest is free
    again; an exception before anything was used frees all. A block that ends well without
    saying what it used is charged what was set aside: unknown is never nothing
    (:meth:`nothing_used` says that it is). A process that dies charges nothing: its hold
    ends after ``ttl_s`` without renewal, and that is told.
    """

    def __init__(
        self,
        budgets: Budgets,
        user: str,
        workspace: str,
        *,
        organisation: str | None,
        estimated_cost: Usd | None,
        estimated_tokens: int | None,
        agent: str,
        model: str,
        hold_id: str | None,
        ttl_s: float,
    ) -> None:
        self._budgets = budgets
        self._who = (user, workspace, organisation)
        self._estimate = (estimated_cost, estimated_tokens)
        self._agent = agent
        self._model = model
        self._hold_id = hold_id
        self._ttl_s = ttl_s
        self._hold: Hold | None = None
        #: As much again was denied: from now on no more is asked for than was used.
        self._tight = False
        #: That was denied too.
        self._denied: OverBudget | None = None
        #: The extension that is asked for, until it is answered.
        self._op_id, self._more = "", (0, 0)
        self._keeper: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._used = False
        self._nothing = False
        self._said_micro_usd: int | None = None
        self.tokens_input = 0
        self.tokens_output = 0
        self.requests = 0
        #: What was charged; None until the block is over.
        self.committed: Committed | None = None

    @property
    def hold(self) -> Hold:
        """What is set aside now.

        Raises:
            UsageError: the block was not entered.
        """
        if self._hold is None:
            raise UsageError("spending begins with: async with ... as spend")
        return self._hold

    @property
    def cost_micro_usd(self) -> int | None:
        """What was used until now: as it was said, or the price of the tokens; None: unknown."""
        if self._said_micro_usd is not None:
            return self._said_micro_usd
        return self._budgets.price_of(self._model, self.tokens_input, self.tokens_output)

    def add(
        self,
        *,
        tokens_input: int = 0,
        tokens_output: int = 0,
        cost_usd: Usd | None = None,
        cost_micro_usd: int | None = None,
        requests: int = 0,
    ) -> None:
        """Count what was used. It is charged whatever this raises.

        Raises:
            OverBudget: more was used than is set aside, and no more is to be had: stop.
            BadRequest: an amount is none.
        """
        check_amount(tokens_input, "tokens_input")
        check_amount(tokens_output, "tokens_output")
        if cost_usd is not None:
            if cost_micro_usd is not None:
                raise BadRequest("expected cost_usd or cost_micro_usd; got both")
            cost_micro_usd = micro_usd(cost_usd, "cost_usd")
        if cost_micro_usd is not None:
            check_amount(cost_micro_usd, "cost_micro_usd")
            self._said_micro_usd = (self._said_micro_usd or 0) + cost_micro_usd
        self.tokens_input += tokens_input
        self.tokens_output += tokens_output
        self.requests += check_amount(requests, "requests")
        self._used = True
        if self._lacks() != (0, 0):
            if self._denied is not None:
                raise self._denied
            self._wake.set()

    async def use(
        self,
        *,
        tokens_input: int = 0,
        tokens_output: int = 0,
        cost_usd: Usd | None = None,
        cost_micro_usd: int | None = None,
        requests: int = 0,
    ) -> None:
        """Count what was used, and wait until it is set aside; raises like :meth:`add`."""
        self.add(
            tokens_input=tokens_input,
            tokens_output=tokens_output,
            cost_usd=cost_usd,
            cost_micro_usd=cost_micro_usd,
            requests=requests,
        )
        while self._over() != (0, 0):
            if self._denied is not None:
                raise self._denied
            if self._keeper is None or self._keeper.done():
                return  # nobody looks after the hold any more; what was used is charged late
            self._moved.clear()
            self._wake.set()
            await self._moved.wait()

    def nothing_used(self) -> None:
        """Say that the block used nothing, so that it is charged nothing."""
        self._nothing = True

    async def __aenter__(self) -> Self:
        user, workspace, organisation = self._who
        cost, tokens = self._estimate
        hold_id = self._hold_id or new_id()
        try:
            self._hold = await self._budgets.reserve(
                user,
                workspace,
                organisation=organisation,
                estimated_cost=cost,
                estimated_tokens=tokens,
                model=self._model,
                hold_id=hold_id,
                ttl_s=self._ttl_s,
            )
        except (OutcomeUnknown, asyncio.CancelledError):
            # It may be set aside, for a block that does not run.
            self._budgets.let_go(f"{user}:{hold_id}")
            raise
        self._keeper = asyncio.create_task(self._keep(), name="fanwire-spending")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        settle = asyncio.create_task(self._settle(failed=error is not None))
        cancelled: asyncio.CancelledError | None = None
        while not settle.done():
            try:
                await asyncio.wait((settle,))
            except asyncio.CancelledError as cancel:
                # Whoever cancels must not keep what was used from being charged.
                cancelled = cancel
        failure = settle.exception()
        if failure is not None:
            if error is None and cancelled is None:
                raise failure
            _log.error("what hold %s used could not be charged: %s", self.hold.name, failure)
        if cancelled is not None:
            raise cancelled

    async def _settle(self, *, failed: bool) -> None:
        """Charge or release, again and again for a while: both are done once."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,))
        time = asyncio.get_running_loop().time
        until = time() + _PATIENCE_S
        while True:
            try:
                if not self._used and (self._nothing or failed):
                    await self._budgets.release(self.hold)
                else:
                    self.committed = await self._budgets.commit(
                        self.hold,
                        actual_micro_usd=self.cost_micro_usd if self._used else None,
                        tokens_input=self.tokens_input,
                        tokens_output=self.tokens_output,
                        agent=self._agent,
                        model=self._model,
                        requests=self.requests or 1,
                    )
            except StoreError:  # refused as well: a failover, a Redis that loads
                if time() >= until:
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    def _over(self) -> tuple[int, int]:
        """Return how much more was used than is set aside, micro-USD and tokens."""
        hold, tokens = self.hold, self.tokens_input + self.tokens_output
        return (
            max(0, (self.cost_micro_usd or 0) - hold.amount_micro_usd),
            max(0, tokens - hold.amount_tokens) if self._counts_tokens() else 0,
        )

    def _lacks(self) -> tuple[int, int]:
        """Return how much more should be set aside by now."""
        if self._tight:
            return self._over()
        hold, tokens = self.hold, self.tokens_input + self.tokens_output
        return (
            _lack(self.cost_micro_usd or 0, hold.amount_micro_usd),
            _lack(tokens, hold.amount_tokens) if self._counts_tokens() else 0,
        )

    def _counts_tokens(self) -> bool:
        # Tokens that nobody estimated are held by a floor; they are followed where it matters.
        return any(one.day.limit is not None for one in self.hold.budgets) or bool(
            self._estimate[1]
        )

    async def _keep(self) -> None:
        """Renew and extend until cancelled; what fails is tried again."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ttl_s / 3):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._look_after()
            except OverBudget as error:
                self._op_id = ""
                if self._tight:
                    self._denied = error
                self._tight = True
            except Conflict:
                if not await self._revive():
                    return
            except NotFound:
                return  # Redis lost it; what was used is charged all the same
            except FanwireError as error:
                _log.info("hold %s is not renewed yet: %s", self.hold.name, error)
                await asyncio.sleep(min(_PAUSE_S, self._ttl_s / 10))
                self._wake.set()
                continue
            finally:
                self._moved.set()
            if self._denied is None and self._lacks() != (0, 0):
                self._wake.set()

    async def _look_after(self) -> None:
        """Extend the hold if it should have more, renew it otherwise."""
        lacks = self._lacks()
        if self._denied is not None or lacks == (0, 0):
            held = await self._budgets.renew(self.hold, ttl_s=self._ttl_s)
            self._hold = structs.replace(held, budgets=self.hold.budgets)
            return
        if not self._op_id:  # the same question until it is answered
            self._op_id, self._more = new_id(), lacks
        self._hold = await self._budgets.extend(
            self.hold,
            more_micro_usd=self._more[0],
            more_tokens=self._more[1],
            op_id=self._op_id,
            ttl_s=self._ttl_s,
        )
        self._op_id = ""

    async def _revive(self) -> bool:
        """Have a hold that expired live again; False where it was ended on purpose."""
        try:
            self._hold = await self._budgets.extend(self.hold, ttl_s=self._ttl_s)
        except OverBudget as error:
            self._denied = error
        except Conflict:
            return False
        except FanwireError as error:
            _log.info("hold %s is not renewed yet: %s", self.hold.name, error)
        return True


def _lack(used: int, held: int) -> int:
    """Return how often to double what is held until most of it covers what was used."""
    wanted = held
    while used > wanted * _EARLY:
        wanted = max(2 * wanted, 1)
    return wanted - held
