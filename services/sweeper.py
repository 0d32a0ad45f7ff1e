"""What ends by itself: sessions, approval gates, whatever else has a deadline.

An end is a change like any other and tells of itself, so Redis' own expiry will not do. Two
levels of sorted sets, because the keys of one script share a Cluster slot:

    due        under each root (workspace, user): ``family:id`` by when it ends, written in the
               same script as the state itself
    due_roots  one for all: roots by when somebody must look there

A service registers the root *before* it runs the script that makes something end: a crash in
between leaves a root too many, never one too few. A node claims a root for a few seconds, ends
what is due there, and puts it back with its next deadline. Whoever registered just before a
node looked, and wrote just after, is found by a second look ten seconds later. Several nodes
sweep at once; handlers are idempotent, so that a claim that ran out does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, cast

from channels.errors import StoreError
from services.clock import Clock
from services.store.keys import Keys
from services.store.port import Argument, Reply, Store
from services.store.script import load_script

__all__ = ["Handler", "Sweeper"]

_log = logging.getLogger(__name__)

#: Ends one thing, ``handler(root, id)``, if its time is up by the clock; removes it from the
#: root's set in the same script, or moves it there to its new deadline.
Handler: TypeAlias = Callable[[str, str], Awaitable[None]]

#: Marks a root that is looked at a second time. No id contains it.
_AGAIN = "?"
#: When: longer than a script that was sent can still be on its way (deadlines are 2 s).
_AGAIN_MS: Final = 10_000
#: A node ends what it claimed well within this, or another one does.
_CLAIM_MS: Final = 10_000
_ROOTS_A_CLAIM = 64
_ENDS_A_LOOK = 100
#: Seconds between looks when nothing is known to be due earlier.
_EVERY_S = 1.0


class Sweeper:
    """Ends what is due, on every node that runs it."""

    __slots__ = ("_claim", "_clock", "_handlers", "_keys", "_sooner", "_store", "every_s")

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, *, every_s: float = _EVERY_S
    ) -> None:
        """Make one; ``every_s`` bounds how late another node's deadlines are noticed."""
        self._store = store
        self._keys = keys
        self._clock = clock
        #: Seconds between looks when nothing is known to be due earlier.
        self.every_s = every_s
        self._claim = load_script("claim_due")
        self._handlers: dict[str, Handler] = {}
        self._sooner = asyncio.Event()

    def handle(self, family: str, handler: Handler) -> None:
        """Have what ends under ``family:...`` ended by ``handler``."""
        self._handlers[family] = handler

    @staticmethod
    def member(family: str, id: str) -> str:
        """Return what stands in a root's sorted set."""
        return f"{family}:{id}"

    async def register(self, root: str, at_ms: int, *, timeout_s: float | None = None) -> None:
        """Have somebody look at ``root`` at ``at_ms`` or earlier.

        Call it before the script that makes something end there. Not needed for what only
        ends later than before: it is found where it was.

        Raises:
            StoreError: it may not be registered; do not go on.
        """
        await self._store.execute(
            "ZADD", self._keys.due_roots(), "LT", at_ms, root, timeout_s=timeout_s
        )
        self._sooner.set()

    async def run(self) -> None:
        """Sweep until cancelled; while Redis is away nothing ends."""
        while True:
            self._sooner.clear()
            pause_s = self.every_s
            try:
                next_ms = await self.sweep()
                if next_ms is not None:
                    left_s = (next_ms - self._clock.now_ms() + 1) / 1000
                    pause_s = min(pause_s, max(left_s, 0.0))
            except StoreError as error:
                _log.info("nothing ends by itself for now: %s", error)
            except Exception:  # noqa: BLE001 - a bug in one end must not stop all others
                _log.exception("ending what is due failed")
            if pause_s > 0:
                await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        """Wait; but look again when this process registers something."""
        try:
            async with asyncio.timeout(pause_s):
                await self._sooner.wait()
        except TimeoutError:
            return

    async def sweep(self) -> int | None:
        """End what is due now; return when to look again (ms), None for nothing known.

        Raises:
            StoreError: some of it is still due.
        """
        reply = await self._store.run(
            self._claim,
            [self._keys.due_roots(), self._keys.due_claimed()],
            [self._clock.now_ms(), _CLAIM_MS, _ROOTS_A_CLAIM],
        )
        claimed, next_ms = cast("tuple[list[bytes], bytes]", reply)
        for root in claimed:
            await self._sweep_root(root.decode())
        if len(claimed) == _ROOTS_A_CLAIM:
            return self._clock.now_ms()  # there may be more
        return int(float(next_ms)) if next_ms else None

    async def _sweep_root(self, claimed: str) -> None:
        root = claimed.removeprefix(_AGAIN)
        due, now_ms = self._keys.due(root), self._clock.now_ms()
        members = await self._store.execute(
            "ZRANGEBYSCORE", due, "-inf", now_ms, "LIMIT", 0, _ENDS_A_LOOK
        )
        for member in cast("list[bytes]", members):
            await self._end(root, member.decode())
        first = cast("list[Reply]", await self._store.execute("ZRANGE", due, 0, 0, "WITHSCORES"))
        commands: list[list[Argument]] = []
        roots = self._keys.due_roots()
        if first:
            commands.append(["ZADD", roots, "LT", int(_score(first)), root])
        if claimed == root:
            commands.append(["ZADD", roots, "LT", now_ms + _AGAIN_MS, _AGAIN + root])
        # Last: until then the claim brings it back.
        commands.append(["ZREM", self._keys.due_claimed(), claimed])
        for command in commands:
            await self._store.execute(*command)

    async def _end(self, root: str, member: str) -> None:
        family, _, id_ = member.partition(":")
        handler = self._handlers.get(family)
        if handler is None:
            # A newer version of ours knows it; a minute later it may be that one's turn.
            _log.warning("nobody ends %r: another version wrote it", family)
            later = self._clock.now_ms() + 60_000
            await self._store.execute("ZADD", self._keys.due(root), "XX", later, member)
            return
        try:
            await handler(root, id_)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - one that cannot be ended must not keep others alive
            _log.exception("could not end %s of %s", member, root)
            later = self._clock.now_ms() + 60_000
            await self._store.execute("ZADD", self._keys.due(root), "XX", later, member)


def _score(first: list[Reply]) -> float:
    """Return the score in a reply of ZRANGE WITHSCORES: flat in RESP2, pairs in RESP3."""
    entry = first[0]
    return float(cast("bytes | float", entry[1] if isinstance(entry, list) else first[1]))
