"""Changes: scripts that change state and tell of it, both or neither.

The contract of such a script, in ``services/store/lua/``:

    KEYS     1 log stream, 2 meta hash of the channel that is told, then its own
    ARGV     1-9 terms of the channel (``lib/event_log.lua``), then its own
    returns  {code, 1 first of its hour | 0, ...}: a business outcome is a code, never an error

It calls ``append_event`` before any other write, so that an error means that nothing
changed. It is idempotent by an id of the operation wherever its outcome can be unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from channels.catalogue import Channel
from channels.ids import new_id
from services.clock import Clock
from services.event_log import EventLog
from services.store.port import Argument, Reply, Store
from services.store.script import Script

__all__ = ["Changes", "Outcome"]


class Outcome(NamedTuple):
    """What a script returned: its code, and what follows it."""

    code: int
    values: list[Reply]


class Changes:
    """Runs scripts that keep the contract."""

    __slots__ = ("_clock", "_log", "_store")

    def __init__(self, store: Store, log: EventLog, clock: Clock) -> None:
        self._store = store
        self._log = log
        self._clock = clock

    async def run(
        self,
        script: Script,
        channel: Channel,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        event: str = "",
        now_ms: int | None = None,
        timeout_s: float | None = None,
    ) -> Outcome:
        """Run ``script``, which may append the event with id ``event`` to ``channel``.

        ``keys`` and ``args`` are its own, after those of the contract. ``now_ms`` is the time
        it goes by, the clock's unless given.

        Raises:
            StoreUnavailable, StoreRefused: nothing changed.
            OutcomeUnknown: it may have changed.
        """
        if now_ms is None:
            now_ms = self._clock.now_ms()
        reply = await self._store.run(
            script,
            [*self._log.keys_of(channel), *keys],
            [*self._log.terms(channel, event or new_id(), now_ms=now_ms), *args],
            timeout_s=timeout_s,
        )
        code, hourly, *values = cast("list[Reply]", reply)
        if hourly:
            await self._log.index(channel, now_ms, timeout_s=timeout_s)
        return Outcome(cast(int, code), values)
