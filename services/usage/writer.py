"""The writer: brings what waits in Redis into the database, once each.

A root with entries is due in the sweeper, on every node that runs one. Entries are inserted by
their ids and added to the sums of their days in one transaction, that of many users together;
only then do they leave Redis. Whatever dies in between, the entries are found again, and what is
in the database already is seen by its id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, cast

import msgspec
from sqlalchemy.exc import DBAPIError, ProgrammingError

from channels.errors import DatabaseUnavailable
from channels.scope import Scope
from services.context import Context
from services.store.port import Argument, Reply
from services.store.script import load_script
from services.sweeper import Sweeper
from services.usage.batch import Pending, Written, write_batch
from services.usage.counting import FAMILY
from services.usage.entry import UsageEntry, decode_entry
from services.usage.scopes import Organisations
from services.usage.seeding import Seeder
from services.usage.stats import UsageStats

__all__ = ["Writer"]

_log = logging.getLogger(__name__)

#: Entries of one user that are written at a time, and of all users in one transaction.
_PAGE: Final = 400
_BATCH: Final = 2_000
#: Pages of a user in one look, and the seconds it has: less than the five after which the sweeper
#: ends it and comes back a minute later only.
_PAGES: Final = 5
_LOOK_S: Final = 4.0
#: When a root is looked at again that has more.
_SOON_MS: Final = 10
#: While the database is away: for so long nobody tries it, twice as long each time, up to the
#: second. Thousands of users are looked at meanwhile, and what else is due waits behind them.
_AWAY_MS: Final = (2_000, 30_000)
_HOLDS: Final = 3


class _Waiting:
    """What one root has to write, and what became of it."""

    __slots__ = ("entries", "error", "written")

    def __init__(self, entries: list[tuple[str, UsageEntry]]) -> None:
        self.entries = entries
        self.written: list[Written | None] | None = None
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.written is not None or self.error is not None


class Writer:
    """Writes the entries of all users."""

    __slots__ = (
        "_away_ms",
        "_away_until",
        "_context",
        "_lock",
        "_organisations",
        "_seeder",
        "_stats",
        "_waiting",
    )

    def __init__(
        self, context: Context, organisations: Organisations, seeder: Seeder, stats: UsageStats
    ) -> None:
        self._context = context
        self._organisations = organisations
        self._seeder = seeder
        self._stats = stats
        #: One transaction at a time: those who come meanwhile share the next one.
        self._lock = asyncio.Lock()
        self._waiting: deque[_Waiting] = deque()
        #: Until when (ms) the database is not tried, and for how long that is; 0: it was there.
        self._away_until = self._away_ms = 0
        context.sweeper.handle(FAMILY, self._end)

    async def drain(self, user: str) -> int:
        """Write everything that waits of ``user``; return how many entries it was.

        Raises:
            StoreError, DatabaseUnavailable: some of it may still wait.
        """
        total = 0
        while True:
            settled, left = await self._page(user)
            total += settled
            if not left:
                return total

    async def _end(self, root: str, _user: str) -> None:
        """Write what waits of a user, as far as a look allows."""
        now_ms = self._context.clock.now_ms()
        if self._context.database is None:
            await self._put_off(root, now_ms + _AWAY_MS[1])
            return
        trying = self._away_ms > 0
        if trying:
            if now_ms < self._away_until:
                # Not all of them at once when that is over.
                await self._put_off(root, self._away_until + hash(root) % self._away_ms)
                return
            # The others must not hang on it too: the sweeper has other work.
            self._away_until = now_ms + int(_LOOK_S * 1000) + self._away_ms
        time = asyncio.get_running_loop().time
        until = time() + _LOOK_S / 2
        try:
            async with asyncio.timeout(_LOOK_S):
                for _ in range(_PAGES):
                    if not (await self._page(root))[1] or time() >= until:
                        return
        except (DatabaseUnavailable, TimeoutError) as error:
            now_ms = self._context.clock.now_ms()
            if trying or now_ms >= self._away_until:  # else another one said so
                self._away_ms = min(max(2 * self._away_ms, _AWAY_MS[0]), _AWAY_MS[1])
                self._away_until = now_ms + self._away_ms
                _log.warning("usage waits for the database: %s", str(error) or "it took too long")
            await self._put_off(root, self._away_until)

    async def _put_off(self, root: str, until_ms: int) -> None:
        await self._context.store.execute(
            "ZADD", self._context.keys.due(root), "XX", until_ms, Sweeper.member(FAMILY, root)
        )

    async def _page(self, user: str) -> tuple[int, int]:
        """Write the oldest entries of a user; return how many, and how many are left."""
        found = await self._context.store.execute(
            "XRANGE", self._context.keys.usage_pending(user), "-", "+", "COUNT", _PAGE
        )
        page = [_pending(cast("list[Reply]", reply)) for reply in cast("list[Reply]", found)]
        sound: list[tuple[Pending, UsageEntry]] = []
        dead: list[str] = []
        for pending in page:
            if pending.entry is None or pending.entry.user != user:
                dead.append(pending.id)
            else:
                sound.append((pending, await self._placed(pending.entry)))
        settling: list[tuple[Pending, UsageEntry, Written]] = []
        if sound:
            written = await self._write([(pending.id, entry) for pending, entry in sound])
            for (pending, entry), done in zip(sound, written, strict=True):
                if done is None:
                    dead.append(pending.id)
                else:
                    settling.append((pending, entry, done))
        if dead:
            self._stats.dead += len(dead)
            _log.error("%d entries of the usage of %s are set aside: unreadable", len(dead), user)
        return await self._settle(user, dead, settling)

    async def _placed(self, entry: UsageEntry) -> UsageEntry:
        """Return the entry with its organisation."""
        if entry.organisation is not None:
            return entry
        organisation = await self._organisations.find(entry.workspace)
        return msgspec.structs.replace(entry, organisation=organisation)

    # -- into the database -------------------------------------------------------------------

    async def _write(self, entries: list[tuple[str, UsageEntry]]) -> list[Written | None]:
        """Write entries, together with those of others; None for what the database refuses."""
        mine = _Waiting(entries)
        self._waiting.append(mine)
        try:
            async with self._lock:
                while not mine.done:
                    await self._commit(self._take())
        finally:
            if not mine.done and mine in self._waiting:
                self._waiting.remove(mine)
        if mine.written is None:
            raise mine.error or DatabaseUnavailable("writing was broken off")
        return mine.written

    def _take(self) -> list[_Waiting]:
        taken, size = [self._waiting.popleft()], 0
        while self._waiting and size + len(self._waiting[0].entries) <= _BATCH:
            size += len(self._waiting[0].entries)
            taken.append(self._waiting.popleft())
        return taken

    async def _commit(self, taken: list[_Waiting]) -> None:
        entries = [entry for waiting in taken for entry in waiting.entries]
        try:
            written = await self._insert(entries)
        except asyncio.CancelledError:
            for waiting in taken:
                waiting.error = DatabaseUnavailable("writing was broken off")
            raise
        except Exception as error:  # noqa: BLE001 - told to each of those who wait for it
            if isinstance(error, DatabaseUnavailable):
                # Nor does anybody else find it, who would have to wait as long for that.
                taken += self._waiting
                self._waiting.clear()
            for waiting in taken:
                waiting.error = error
            self._stats.write_failures += 1
            return
        at = 0
        for waiting in taken:
            waiting.written = written[at : at + len(waiting.entries)]
            at += len(waiting.entries)

    async def _insert(self, entries: list[tuple[str, UsageEntry]]) -> list[Written | None]:
        database, now_ms = self._context.database, self._context.clock.now_ms()
        if database is None:
            raise DatabaseUnavailable("there is none to write usage to")
        try:
            written = await write_batch(database, entries, now_ms)
        except ProgrammingError as error:
            # Tables of another version, or no permission: no entry is to blame.
            raise DatabaseUnavailable(f"usage cannot be written: {error.orig}") from error
        except DBAPIError as error:
            # The database refuses one of them: the others must not wait for it.
            if len(entries) > 1:
                middle = len(entries) // 2
                return await self._insert(entries[:middle]) + await self._insert(entries[middle:])
            _log.error("the database refuses an entry of usage: %s", error)
            return [None]
        self._away_until = self._away_ms = 0
        self._stats.batches += 1
        self._stats.written += sum(not done.duplicate for done in written)
        oldest_ms = min(entry.recorded_ms for _, entry in entries)
        self._stats.pending_age_s = max(0.0, (now_ms - oldest_ms) / 1000)
        return list(written)

    # -- out of Redis ------------------------------------------------------------------------

    async def _settle(
        self, user: str, dead: list[str], settling: list[tuple[Pending, UsageEntry, Written]]
    ) -> tuple[int, int]:
        keys = self._context.keys
        places: dict[tuple[Scope, str], int] = {}
        terms: list[Argument] = []
        for pending, entry, written in settling:
            terms += (pending.id, written.batch, entry.day[-2:], *entry.amounts)
            terms += (entry.agent, entry.model, entry.workspace, int(written.duplicate))
            scopes = entry.scopes()
            for slot in range(3):
                if slot >= len(scopes):
                    terms += (0, "")
                    continue
                place = places.setdefault((scopes[slot], entry.month), len(places) + 1)
                counted = slot < len(pending.generations)
                terms += (place, pending.generations[slot] if counted else "")
        for _ in range(_HOLDS):
            now_ms = self._context.clock.now_ms()
            code, *values = cast(
                "list[Reply]",
                await self._context.store.run(
                    load_script("usage_settle"),
                    [
                        keys.usage_pending(user),
                        keys.due(user),
                        keys.usage_dead(user),
                        *[keys.account(scope, month) for scope, month in places],
                    ],
                    [
                        Sweeper.member(FAMILY, user),
                        now_ms + _SOON_MS,
                        *(len(dead), len(settling), *dead, *terms),
                    ],
                ),
            )
            if code == 1:
                settled, left, late = cast("list[int]", values)
                self._stats.settled_late += late
                return settled + len(dead), left
            # They were begun while the database was away; it is back.
            accounts = list(places)
            for place in cast("list[int]", values[0]):
                await self._seeder.seed(*accounts[place - 1])
        raise DatabaseUnavailable("accounts could not be completed from the database")


def _pending(reply: list[Reply]) -> Pending:
    """Return an entry of the pending stream."""
    id_, flat = cast(bytes, reply[0]).decode(), cast("list[bytes]", reply[1])
    fields = dict(zip(flat[::2], flat[1::2], strict=False))
    seeds = fields.get(b"g", b"").decode("utf-8", "replace").split(",")
    generations = tuple(seed.partition(" ")[0] for seed in seeds)
    return Pending(id_, decode_entry(fields.get(b"e", b"")), generations)
