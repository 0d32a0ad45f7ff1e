"""Checks of one turn of the event loop share one script call.

They are decided one after the other, each by what those before it took, so that sharing changes
nothing but the cost: a key is read and written once, however many checks are about it.
"""

from __future__ import annotations

import asyncio
from typing import cast

from channels.errors import OutcomeUnknown, StoreError
from services.breaker import Breaker
from services.clock import Clock
from services.limits.check import Check
from services.limits.result import LimitResult
from services.limits.stats import LimitStats
from services.store.port import Argument, Store
from services.store.script import load_script

__all__ = ["MAX_BATCH", "Batches"]

#: Checks a call: well below a millisecond on the server, where everybody else waits meanwhile. With
#: more, the server waits until they are packed; with fewer, a key that all share is written more
#: often. Measured with 64 tasks.
MAX_BATCH = 32


class _Batch:
    __slots__ = ("args", "deadline_s", "keys", "numbers", "terms", "waiting")

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.keys: list[str] = []
        #: By key, its number among them.
        self.numbers: dict[str, int] = {}
        self.terms: list[tuple[int, ...]] = []
        self.args: list[Argument] = []
        self.waiting: list[tuple[asyncio.Future[LimitResult | None], Check, int]] = []

    def add(self, check: Check, cost: int, future: asyncio.Future[LimitResult | None]) -> bool:
        """Add a check; False if it does not go with those that are in."""
        numbers, args = self.numbers, self.args
        key = check.one_key
        if key:
            number = numbers.get(key)
            if number is None:
                self.keys.append(key)
                number = numbers[key] = len(self.keys)
                self.terms.append(check.terms[0])
            elif self.terms[number - 1] is not check.terms[0]:
                return False
            args.append(cost)
            args.append(1)
            args.append(number)
        else:
            for key, terms in zip(check.keys, check.terms, strict=True):
                number = numbers.get(key)
                # One key on two plans: one after the other.
                if number is not None and self.terms[number - 1] is not terms:
                    return False
            args.append(cost)
            args.append(len(check.keys))
            for key, terms in zip(check.keys, check.terms, strict=True):
                number = numbers.get(key)
                if number is None:
                    self.keys.append(key)
                    number = numbers[key] = len(self.keys)
                    self.terms.append(terms)
                args.append(number)
        self.waiting.append((future, check, cost))
        return True

    def arguments(self, now_us: int) -> list[Argument]:
        """Return the arguments of the script: most limits share their terms."""
        different: dict[tuple[int, ...], int] = {}
        numbers = [different.setdefault(terms, len(different) + 1) for terms in self.terms]
        args: list[Argument] = [now_us, len(different)]
        for terms in different:
            args += terms
        return args + numbers + self.args


class Batches:
    """Sends checks to Redis. Checks with another deadline go in a call of their own."""

    __slots__ = ("_breaker", "_clock", "_loop", "_open", "_script", "_stats", "_store", "_tasks")

    def __init__(self, store: Store, clock: Clock, breaker: Breaker, stats: LimitStats) -> None:
        self._store = store
        self._clock = clock
        self._breaker = breaker
        self._stats = stats
        self._script = load_script("limit_check")
        self._open: dict[float, _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def ask(self, check: Check, cost: int) -> asyncio.Future[LimitResult | None]:
        """Return what becomes the result; None when Redis did not say, within the deadline."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[LimitResult | None] = loop.create_future()
        deadline_s = check.deadline_s
        batch = self._open.get(deadline_s)
        if batch is not None:
            if len(batch.waiting) < MAX_BATCH and batch.add(check, cost, future):
                return future
            self._send(batch)
        batch = self._open[deadline_s] = _Batch(deadline_s)
        batch.add(check, cost, future)
        loop.call_soon(self._send, batch)
        return future

    def _send(self, batch: _Batch) -> None:
        if self._open.get(batch.deadline_s) is not batch:
            return  # it was full, and left
        del self._open[batch.deadline_s]
        task = asyncio.create_task(self._run(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: _Batch) -> None:
        now_us = self._clock.now_ms() * 1000
        args = batch.arguments(now_us)
        self._stats.calls += 1
        try:
            reply = await self._store.run(
                self._script, batch.keys, args, timeout_s=batch.deadline_s
            )
            self._breaker.succeeded()
            _settle(batch, cast("list[int]", reply), now_us)
        except StoreError as error:
            self._fail(error)
            _answer(batch, None)
            return
        except BaseException as error:
            _answer(batch, error)
            raise

    def _fail(self, error: StoreError) -> None:
        breaker = self._breaker
        was_open = breaker.is_open
        # A time-out may be this machine's; anything else says that Redis does not do it.
        surely = not isinstance(error, OutcomeUnknown)
        breaker.failed(surely=surely)
        self._stats.failures += 1
        self._stats.outages += breaker.is_open and not was_open

    async def close(self) -> None:
        """Wait for what is on its way."""
        while self._open or self._tasks:
            for batch in list(self._open.values()):
                self._send(batch)
            await asyncio.wait(set(self._tasks))


def _settle(batch: _Batch, values: list[int], now_us: int) -> None:
    """Give everybody the result that the script returned."""
    at = 0
    for future, check, cost in batch.waiting:
        if not future.done():
            verdict = values[at]
            result = LimitResult(check.rules, values, at + 1, allowed=verdict == 1, cost=cost)
            if verdict != 1:
                result.learn(now_us, -verdict)
            future.set_result(result)
        at += check.width


def _answer(batch: _Batch, error: BaseException | None) -> None:
    """Tell who waits that there is no result, and why if that is a bug of ours."""
    for future, _, _ in batch.waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        elif isinstance(error, Exception):
            future.set_exception(error)
        else:
            future.cancel()
