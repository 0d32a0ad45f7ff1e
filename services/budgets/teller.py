"""Tells, once a period, that a share of a budget is used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from channels.catalogue import NOTIFICATIONS, ORGANISATION, USAGE, WORKSPACE, Channel
from channels.errors import OutcomeUnknown
from channels.ids import new_id
from channels.scope import Scope
from services.budgets.bodies import notices, threshold
from services.budgets.ground import Ground
from services.context import Context
from services.store.port import Argument
from services.store.script import load_script

__all__ = ["Teller"]


class Teller:
    """What ``context.thresholds`` asks when a share of a limit is reached.

    The event on the owner's channel, the notification of the user who reached it, and the mark
    that it was told are one script: all or nothing, however often it is called and whoever
    dies. Where one call reaches several shares, the highest is told. A limit that is raised
    lowers the mark (``budget_limit.lua``), so that what is reached again is told again.
    """

    __slots__ = ("_context", "_ground", "_script")

    def __init__(self, context: Context, ground: Ground) -> None:
        self._context = context
        self._ground = ground
        self._script = load_script("budget_tell")

    async def tell(self, scope: Scope, month: str, day: str, user: str) -> None:
        """Tell what the account of ``scope`` has to tell; ``user`` reached it, if not empty.

        Raises:
            StoreError: it may not have been told; whoever counts next has it told.
        """
        context, thresholds = self._context, self._ground.usage.settings.thresholds
        channel = self._channel(scope)
        now_ms = context.clock.now_ms()
        time = datetime.fromtimestamp(now_ms / 1000, UTC)
        ids = [new_id() for _ in range(4)]
        keys = [context.keys.account(scope, month)]
        feed = context.catalogue.find(NOTIFICATIONS.name(user=user)) if user else None
        if feed is not None:
            keys += context.log.keys_of(feed)
        # Without a feed its terms stand for nothing.
        to = feed or channel
        rule = self._ground.rule(scope)
        limits = (rule.monthly_micro_usd, rule.daily_tokens)
        args: list[Argument] = [
            *context.log.terms(channel, ids[1], now_ms=now_ms),
            *context.log.terms(to, ids[2], now_ms=now_ms),
            *context.log.terms(to, ids[3], now_ms=now_ms),
            day[-2:],
            " ".join(map(str, sorted(thresholds, reverse=True))),
            *("" if limit is None else limit for limit in limits),
        ]
        for pieces in (
            *threshold(scope, "micro_usd", month, ids[0], time),
            *threshold(scope, "tokens", day, ids[1], time),
            *notices(scope, "micro_usd", month, user or "-", channel.name, ids[2], time),
            *notices(scope, "tokens", day, user or "-", channel.name, ids[3], time),
        ):
            args += pieces

        async def attempt() -> tuple[int, list[int]]:
            outcome = await context.changes.run(
                self._script, channel, keys, args, event=ids[0], now_ms=now_ms
            )
            return outcome.code, cast("list[int]", outcome.values)

        try:
            code, values = await attempt()
        except OutcomeUnknown:
            code, values = await attempt()
        if code:
            self._ground.stats.told += sum(1 for percent in values[:2] if percent)
            if feed is not None and values[2]:
                await context.log.index(feed, now_ms)

    def _channel(self, scope: Scope) -> Channel:
        if scope.kind == "user":
            name = USAGE.name(user=scope.id)
        elif scope.kind == "workspace":
            name = WORKSPACE.name(workspace=scope.id)
        else:
            name = ORGANISATION.name(organisation=scope.id)
        return self._context.catalogue.find(name)
