"""``ratelimit.exceeded``: told when a user goes from allowed to denied, not at each denial."""

from __future__ import annotations

from datetime import UTC, datetime

from channels.catalogue import Channel
from channels.errors import RequestError, StoreError
from channels.event import encode_event
from channels.events import RateLimitExceeded, RateLimitExceededData
from channels.ids import new_id
from channels.publication import encode_body
from services.context import Context
from services.limits.rule import Rule
from services.limits.stats import LimitStats
from services.store.port import Argument
from services.store.script import Script, load_script

__all__ = ["Teller"]


class Teller:
    """Tells on ``usage:{user}``. What it cannot tell is told by the next denial."""

    __slots__ = ("_context", "_limit", "_slots", "_stats", "_telling")

    def __init__(self, context: Context, stats: LimitStats) -> None:
        self._context = context
        self._stats = stats
        self._limit = load_script("limit_tell")
        self._slots = load_script("slots_tell")
        #: Keys whose denial is being told by this process.
        self._telling: set[str] = set()

    async def tell(
        self, user: str, key: str, rule: Rule, cost: int, retry_after_ms: int, timeout_s: float
    ) -> bool:
        """Tell ``user`` of a limit; return whether it is told now, by us or somebody else."""
        now_us = self._context.clock.now_ms() * 1000
        own: list[Argument] = [now_us, *rule.terms, cost]
        return await self._run(self._limit, user, key, rule, own, retry_after_ms, timeout_s)

    async def tell_slots(
        self, user: str, key: str, rule: Rule, retry_after_ms: int, timeout_s: float
    ) -> bool:
        """Tell ``user`` that all slots are taken."""
        own: list[Argument] = [self._context.clock.now_ms(), rule.quota]
        return await self._run(self._slots, user, key, rule, own, retry_after_ms, timeout_s)

    async def _run(
        self,
        script: Script,
        user: str,
        key: str,
        rule: Rule,
        own: list[Argument],
        retry_after_ms: int,
        timeout_s: float,
    ) -> bool:
        if key in self._telling:
            return False
        self._telling.add(key)
        try:
            channel: Channel = self._context.catalogue.find(f"usage:{user}")
            now_ms = self._context.clock.now_ms()
            event = RateLimitExceeded(
                data=RateLimitExceededData(
                    user=user, policy=rule.name, limit=rule.quota, retry_after_ms=retry_after_ms
                ),
                id=new_id(),
                time=datetime.fromtimestamp(now_ms / 1000, UTC),
                subject=rule.name,
            )
            outcome = await self._context.changes.run(
                script,
                channel,
                [key],
                [*own, encode_body(encode_event(event))],
                event=event.id,
                now_ms=now_ms,
                timeout_s=timeout_s,
            )
        except (StoreError, RequestError):
            # The decision stands; the mark is not there, so that the next denial comes here again.
            self._stats.untold += 1
            return False
        finally:
            self._telling.discard(key)
        self._stats.told += outcome.code
        return True
