"""Waiting until another process has loaded a value: told by pub/sub, not by asking.

What is told is no more than a reason to look. A message that is lost costs the rest of the
holder's lease.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from channels.errors import StoreError
from services.store.port import Store

__all__ = ["FillWaits"]

_log = logging.getLogger(__name__)

#: Seconds a subscription stays after the last who waited: the next one may come soon.
_LINGER_S: Final = 5.0


class _Bell:
    """One workspace's waiters, by key."""

    __slots__ = ("count", "leaving", "lock", "stands", "waiters")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.stands = False
        self.count = 0
        self.leaving: asyncio.TimerHandle | None = None
        self.waiters: dict[bytes, set[asyncio.Event]] = {}

    def on_message(self, payload: bytes) -> None:
        """Wake those who wait for a key; all of them for none."""
        if not payload:
            return self.on_interrupted()
        for waiter in self.waiters.get(payload, ()):
            waiter.set()
        return None

    def on_interrupted(self) -> None:
        """Wake everybody: some message may have been missed."""
        for waiters in self.waiters.values():
            for waiter in waiters:
                waiter.set()


class FillWaits:
    """Who waits for which key in this process."""

    __slots__ = ("_bells", "_closed", "_store", "_tasks")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bells: dict[str, _Bell] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def listen(self, channel: str, key: str) -> asyncio.Event | None:
        """Return an event that is set when ``key`` was filled after this returned.

        None where the store has no subscriptions, or cannot have one now. Give it back with
        :meth:`leave`.
        """
        if not self._store.traits.subscriptions or self._closed:
            return None
        bell = self._bells.setdefault(channel, _Bell())
        if bell.leaving is not None:
            bell.leaving.cancel()
            bell.leaving = None
        waiter = asyncio.Event()
        bell.waiters.setdefault(key.encode(), set()).add(waiter)
        bell.count += 1
        try:
            async with bell.lock:
                if not bell.stands:
                    await self._store.listen(channel, bell)
                    bell.stands = True
        except StoreError as error:
            _log.info("cannot hear of loads for now: %s", error)
            self.leave(channel, key, waiter)
            return None
        except BaseException:
            self.leave(channel, key, waiter)
            raise
        return waiter

    def leave(self, channel: str, key: str, waiter: asyncio.Event) -> None:
        """Wait no longer."""
        bell, name = self._bells.get(channel), key.encode()
        if bell is None:
            return  # closed
        waiters = bell.waiters[name]
        waiters.discard(waiter)
        if not waiters:
            del bell.waiters[name]
        bell.count -= 1
        if not bell.count and not self._closed:
            loop = asyncio.get_running_loop()
            bell.leaving = loop.call_later(_LINGER_S, self._leave_soon, channel, bell)

    def _leave_soon(self, channel: str, bell: _Bell) -> None:
        task = asyncio.create_task(self._unlisten(channel, bell), name="fanwire-cache-unlisten")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _unlisten(self, channel: str, bell: _Bell) -> None:
        async with bell.lock:
            if bell.count or self._bells.get(channel) is not bell:
                return
            if bell.stands:
                bell.stands = False
                try:
                    await self._store.unlisten(channel)
                except StoreError as error:
                    _log.info("a subscription was not ended: %s", error)
            # Whoever came meanwhile waits for the lock, and listens anew.
            if not bell.count and self._bells.get(channel) is bell:
                del self._bells[channel]

    async def close(self) -> None:
        """Wake everybody; nobody waits any more."""
        self._closed = True
        bells, self._bells = list(self._bells.values()), {}
        for bell in bells:
            if bell.leaving is not None:
                bell.leaving.cancel()
            bell.on_interrupted()
        if self._tasks:
            await asyncio.wait(self._tasks)
