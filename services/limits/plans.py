"""Which plan somebody is on: asked for once a minute."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

__all__ = ["PLAN_TTL_S", "PlanOf", "Plans"]

_log = logging.getLogger(__name__)

#: ``plan_of(user, workspace)``: the plan's name, empty for none; either may be empty.
PlanOf: TypeAlias = Callable[[str, str], "str | Awaitable[str]"]

#: Seconds a plan is remembered. Who changes a plan calls ``RateLimiter.forget_plan``.
PLAN_TTL_S = 60.0
#: After a question that failed the usual limits hold, and it is asked again.
_AGAIN_S = 5.0
_MAX_KNOWN = 50_000
#: Everybody's checks wait for the answer; later it counts as one that failed.
_LONGEST_S = 5.0


class Plans:
    """Remembers what the application says; callers who ask at the same time share an answer."""

    __slots__ = ("_asking", "_known", "_plan_of", "_ttl_s")

    def __init__(self, plan_of: PlanOf, *, ttl_s: float = PLAN_TTL_S) -> None:
        self._plan_of = plan_of
        self._ttl_s = ttl_s
        #: The plan, and until when it is known.
        self._known: dict[tuple[str, str], tuple[str, float]] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[tuple[str, float]]] = {}

    async def find(self, user: str, workspace: str) -> tuple[str, float]:
        """Return the plan and until when it holds (``time.monotonic``).

        One that cannot be found out now is none: the usual limits hold.
        """
        who = user, workspace
        known = self._known.get(who)
        if known is not None and known[1] > time.monotonic():
            return known
        task = self._asking.get(who)
        if task is None:
            task = self._asking[who] = asyncio.create_task(self._ask(who))
        return await asyncio.shield(task)

    def forget(self, user: str, workspace: str | None) -> None:
        """Ask again: for one workspace, or for all of a user's."""
        for who in [*self._known, *self._asking]:
            if who[0] == user and workspace in (None, who[1]):
                self._known.pop(who, None)
                # Who asks from now on does not take the answer that is on its way.
                self._asking.pop(who, None)

    async def _ask(self, who: tuple[str, str]) -> tuple[str, float]:
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(_LONGEST_S):
                found = self._plan_of(*who)
                plan = await found if inspect.isawaitable(found) else found
            known = str(plan or ""), time.monotonic() + self._ttl_s
        except Exception:  # noqa: BLE001 - the application's bug must not stop its requests
            _log.exception("the plan of %s could not be found out", who)
            known = "", time.monotonic() + _AGAIN_S
        if self._asking.get(who) is task:
            del self._asking[who]
            if len(self._known) >= _MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[who] = known
        return known
