"""Waiting for gates: everybody in a process who waits, on one follow a channel.

An event that names a gate wakes those who wait for it; they read the gate and see for
themselves. So nothing depends on the event: one that is lost costs a delay, not an answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from channels.catalogue import Channel
from channels.errors import StoreError, StoreUnavailable
from channels.position import Position
from channels.publication import Publication
from services.event_log import Gap
from services.gate import Gate
from services.shared_follower import SharedFollower

__all__ = ["GateWaits"]

_log = logging.getLogger(__name__)

#: Seconds between reads when nothing is told: events may be lost, or history cut.
_FALLBACK_S: Final = 30.0
#: Pause before a gate that could not be read is read again, doubled from the first to the last.
_PAUSE_S: Final = (0.05, 2.0)


class _Named(msgspec.Struct):
    gate: str = ""


class _Told(msgspec.Struct):
    data: _Named


_decode = msgspec.json.Decoder(_Told).decode


class _Bell:
    """One channel's waiters by gate. A sink that knows no positions: it only wakes."""

    __slots__ = ("_waiters", "channel", "count", "lock", "tapped")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.lock = asyncio.Lock()
        #: Whether the channel is followed for this bell.
        self.tapped = False
        self.count = 0
        self._waiters: dict[str, set[asyncio.Event]] = {}

    def add(self, gate: str, waiter: asyncio.Event) -> None:
        self._waiters.setdefault(gate, set()).add(waiter)
        self.count += 1

    def remove(self, gate: str, waiter: asyncio.Event) -> None:
        self.count -= 1
        of_gate = self._waiters[gate]
        of_gate.discard(waiter)
        if not of_gate:
            del self._waiters[gate]

    def ring_all(self) -> None:
        for of_gate in self._waiters.values():
            for waiter in of_gate:
                waiter.set()

    def on_publication(self, publication: Publication) -> None:
        """Wake those whose gate it is."""
        try:
            gate = _decode(publication.data).data.gate
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self.ring_all()
        for waiter in self._waiters.get(gate, ()):
            waiter.set()
        return None

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:  # noqa: ARG002 - all look
        """Wake everybody: whatever was missed may have been for them."""
        self.ring_all()


class GateWaits:
    """Who waits for which gate in this process."""

    __slots__ = ("_bells", "_closed", "_fallback_s", "_follower")

    def __init__(self, *, fallback_s: float = _FALLBACK_S) -> None:
        self._bells: dict[str, _Bell] = {}
        self._fallback_s = fallback_s
        self._follower: SharedFollower | None = None
        self._closed = False

    def use(self, follower: SharedFollower) -> None:
        """Have channels followed by ``follower``; without one gates are only read."""
        self._follower = follower

    def close(self) -> None:
        """End every wait, now and later, with ``StoreUnavailable``: the store goes away."""
        self._closed = True
        for bell in self._bells.values():
            bell.ring_all()

    async def wait(
        self,
        channel: Channel,
        gate_id: str,
        read: Callable[[], Awaitable[Gate]],
        pause: Callable[[Gate], float | None],
        *,
        timeout_s: float | None = None,
    ) -> Gate:
        """Read the gate until ``pause`` says that it need not be waited for (0).

        ``pause`` returns the seconds until the gate must be looked at again in any case, None
        for no such time.

        Raises:
            TimeoutError: ``timeout_s`` went by.
            StoreUnavailable: the services were closed.
            RequestError: from ``read``.
        """
        bell = self._bells.setdefault(channel.name, _Bell(channel))
        waiter = asyncio.Event()
        bell.add(gate_id, waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._wait(bell, waiter, read, pause)
        finally:
            bell.remove(gate_id, waiter)
            if not bell.count:
                await self._leave(bell)

    async def _wait(
        self,
        bell: _Bell,
        waiter: asyncio.Event,
        read: Callable[[], Awaitable[Gate]],
        pause: Callable[[Gate], float | None],
    ) -> Gate:
        again_s = _PAUSE_S[0]
        while True:
            # Before the read, so that whatever changes after it rings.
            waiter.clear()
            if self._closed:
                raise StoreUnavailable("the services are closed: nobody waits here any more")
            rings = await self._tap(bell)
            try:
                gate = await read()
            except StoreError as error:
                _log.info("waiting for Redis as well: %s", error)
                await _rung(waiter, again_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                again_s = min(again_s * 2, _PAUSE_S[1])
                continue
            again_s = _PAUSE_S[0]
            until_s = pause(gate)
            if until_s == 0:
                return gate
            longest_s = self._fallback_s if rings else min(_PAUSE_S[1], self._fallback_s)
            await _rung(waiter, longest_s if until_s is None else min(longest_s, until_s))

    async def _tap(self, bell: _Bell) -> bool:
        """Have the channel followed; return whether it is."""
        if self._follower is None:
            return False
        async with bell.lock:
            if not (bell.tapped and self._follower.follows(bell.channel)):
                bell.tapped = False
                try:
                    await self._follower.tap(bell.channel, bell)
                except StoreError as error:
                    _log.info("cannot follow %r for now: %s", bell.channel.name, error)
                    return False
                bell.tapped = True
        return True

    async def _leave(self, bell: _Bell) -> None:
        """Stop following for a bell that nobody needs."""
        async with bell.lock:
            if bell.count:
                return
            if self._bells.get(bell.channel.name) is bell:
                del self._bells[bell.channel.name]
            if bell.tapped and self._follower is not None:
                bell.tapped = False
                await self._follower.untap(bell.channel, bell)


async def _rung(waiter: asyncio.Event, longest_s: float) -> None:
    try:
        async with asyncio.timeout(longest_s):
            await waiter.wait()
    except TimeoutError:
        return
