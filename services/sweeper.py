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

One root that cannot be swept, and one end that hangs or fails, holds up nothing else: roots are
swept side by side, an end has five seconds, and what failed is tried again a minute later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias, cast

from channels.errors import OutcomeUnknown, StoreError, StoreRefused, StoreUnavailable
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
#: Roots that a node sweeps side by side.
_AT_ONCE = 16
#: Seconds one end may take, and all ends of one look at a root: within a claim.
_END_S = 5.0
_LOOK_S = 8.0
#: Seconds after which a node looks for more although some roots are not swept yet.
_PATIENCE_S = 1.0
#: When what could not be ended is tried again.
_LATER_MS: Final = 60_000
#: Seconds between looks when nothing is known to be due earlier.
_EVERY_S = 1.0


class Sweeper:
    """Ends what is due, on every node that runs it."""

    __slots__ = (
        "_claim",
        "_clock",
        "_handlers",
        "_keys",
        "_slots",
        "_sooner",
        "_store",
        "_sweeping",
        "every_s",
    )

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
        self._slots = asyncio.Semaphore(_AT_ONCE)
        #: Roots that are being swept.
        self._sweeping: set[asyncio.Task[int | None]] = set()

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
        """Sweep until cancelled; while Redis is away nothing ends, nor before its time is known."""
        try:
            await self._know_the_time()
            while True:
                self._sooner.clear()
                pause_s = self.every_s
                try:
                    next_ms = await self._look(_PATIENCE_S)
                    if next_ms is not None:
                        left_s = (next_ms - self._clock.now_ms() + 1) / 1000
                        pause_s = min(pause_s, max(left_s, 0.0))
                except StoreError as error:
                    _log.info("nothing ends by itself for now: %s", error)
                    # What was claimed comes back then.
                    pause_s = min(pause_s, _CLAIM_MS / 1000)
                except Exception:  # noqa: BLE001 - a bug in one end must not stop all others
                    _log.exception("ending what is due failed")
                if pause_s > 0:
                    await self._pause(pause_s)
                if len(self._sweeping) >= _ROOTS_A_CLAIM:
                    await asyncio.wait(self._sweeping, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end_all(self._sweeping)

    async def _know_the_time(self) -> None:
        """Wait until the server's time is known: by a wrong clock the wrong things would end."""
        while not self._clock.measured:
            try:
                await self._clock.measure()
            except StoreError:
                await asyncio.sleep(min(self.every_s, _PATIENCE_S))

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
        return await self._look(None)

    async def _look(self, patience_s: float | None) -> int | None:
        """Sweep; after ``patience_s`` leave those that take longer to themselves."""
        reply = await self._store.run(
            self._claim,
            [self._keys.due_roots(), self._keys.due_claimed()],
            [self._clock.now_ms(), _CLAIM_MS, _ROOTS_A_CLAIM],
        )
        claimed, first_ms = cast("tuple[list[bytes], bytes]", reply)
        times = [int(float(first_ms))] if first_ms else []
        tasks = {asyncio.create_task(self._in_turn(root.decode())) for root in claimed}
        self._sweeping |= tasks
        for task in tasks:
            task.add_done_callback(self._sweeping.discard)
        if not tasks:
            return min(times, default=None)
        try:
            done, slow = await asyncio.wait(tasks, timeout=patience_s)
        except asyncio.CancelledError:
            await _end_all(tasks)
            raise
        for task in slow:
            task.add_done_callback(self._slow_one)
        failed = [error for error in (task.exception() for task in done) if error is not None]
        if failed:
            raise failed[0]
        if len(claimed) == _ROOTS_A_CLAIM:
            return self._clock.now_ms()  # there may be more
        times += [next_ms for next_ms in (task.result() for task in done) if next_ms is not None]
        return min(times, default=None)

    def _slow_one(self, task: asyncio.Task[int | None]) -> None:
        """Look again at once: the root may have more."""
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._sooner.set()
        elif isinstance(error, StoreError):
            _log.info("nothing ends by itself for now: %s", error)
        else:
            _log.error("ending what is due failed", exc_info=error)

    async def _in_turn(self, claimed: str) -> int | None:
        async with self._slots:
            return await self._sweep_root(claimed)

    async def _sweep_root(self, claimed: str) -> int | None:
        """End what is due under a root; return when the next is, None for nothing."""
        root = claimed.removeprefix(_AGAIN)
        due, now_ms = self._keys.due(root), self._clock.now_ms()
        time = asyncio.get_running_loop().time
        until, tried = time() + _LOOK_S, set()
        members = await self._store.execute(
            "ZRANGEBYSCORE", due, "-inf", now_ms, "LIMIT", 0, _ENDS_A_LOOK
        )
        for member in cast("list[bytes]", members):
            if time() >= until:
                break
            tried.add(member)
            await self._end(root, member.decode())
        reply = cast("list[Reply]", await self._store.execute("ZRANGE", due, 0, 0, "WITHSCORES"))
        first = _first(reply)
        if first is not None and first[0] in tried and first[1] <= now_ms:
            # Its handler neither ended nor moved it: nothing must spin around it.
            _log.error("%r of %s is still due after its end", first[0].decode(), root)
            first = first[0], await self._put_off(root, first[0].decode())
        commands: list[list[Argument]] = []
        roots = self._keys.due_roots()
        if first is not None:
            commands.append(["ZADD", roots, "LT", first[1], root])
        if claimed == root:
            commands.append(["ZADD", roots, "LT", now_ms + _AGAIN_MS, _AGAIN + root])
        # Last: until then the claim brings it back.
        commands.append(["ZREM", self._keys.due_claimed(), claimed])
        for command in commands:
            await self._store.execute(*command)
        return None if first is None else first[1]

    async def _end(self, root: str, member: str) -> None:
        family, _, id_ = member.partition(":")
        handler = self._handlers.get(family)
        if handler is None:
            # A newer version of ours knows it; a minute later it may be that one's turn.
            _log.warning("nobody ends %r: another version wrote it", family)
            await self._put_off(root, member)
            return
        try:
            async with asyncio.timeout(_END_S):
                await handler(root, id_)
        except (StoreUnavailable, OutcomeUnknown):
            raise
        except TimeoutError:
            await self._put_off(root, member)
            _log.warning("ending %s of %s took longer than %g s", member, root, _END_S)
        except StoreRefused as error:
            # Refused where nothing can be written, this is too, and the root comes back.
            await self._put_off(root, member)
            _log.warning("could not end %s of %s: %s", member, root, error)
        except Exception:  # noqa: BLE001 - one that cannot be ended must not keep others alive
            _log.exception("could not end %s of %s", member, root)
            await self._put_off(root, member)

    async def _put_off(self, root: str, member: str) -> int:
        """Have ``member``, if it is there, looked at a minute later; return when."""
        later = self._clock.now_ms() + _LATER_MS
        await self._store.execute("ZADD", self._keys.due(root), "XX", later, member)
        return later


async def _end_all(tasks: Iterable[asyncio.Task[int | None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _first(reply: list[Reply]) -> tuple[bytes, int] | None:
    """Return what ZRANGE WITHSCORES found first: flat in RESP2, pairs in RESP3."""
    if not reply:
        return None
    member, score = reply[0] if isinstance(reply[0], list) else reply[:2]
    return cast(bytes, member), int(float(cast("bytes | float", score)))
