"""What the tests of login sessions, preferences and onboarding share."""

from __future__ import annotations

from typing import Any

import msgspec

from channels.catalogue import Catalogue
from services.clock import Clock
from services.context import Context
from services.event_log import MAX_PAGE
from services.store.keys import Keys
from services.store.port import Store

from ..servers import ValkeyServer

__all__ = ["COUNTED", "HandClock", "calls", "context_of", "told"]

#: Commands that are counted: all that a script of ours may send, and the scripts themselves.
_NAMES = """
evalsha eval get set del exists expire pexpire pttl publish hget hmget hset hdel hexists hgetall
hkeys hlen xadd zadd zrem zremrangebyrank sadd incr persist hincrby
"""
COUNTED = frozenset(_NAMES.split())


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self, at_s: float = 1_800_000_000.0) -> None:
        self.at_s = at_s

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.at_s

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.at_s += seconds


def context_of(store: Store, keys: Keys, now: HandClock) -> Context:
    """Return the ground of services whose time is ``now``."""
    return Context(store, keys, Catalogue(), clock=Clock(store, now=now))


async def told(context: Context, channel: str) -> list[dict[str, Any]]:
    """Return the events in the log of ``channel``, oldest first."""
    page = await context.log.read(context.catalogue.find(channel), limit=MAX_PAGE)
    return [msgspec.json.decode(one.object)["data"] for one in page.publications]


def calls(server: ValkeyServer) -> dict[str, int]:
    """Return how often each command was called since the server started."""
    with server.client() as client:
        stats = client.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: count for name, count in counts.items() if name in COUNTED}
