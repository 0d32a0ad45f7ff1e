"""Seeding: an account that is not in Redis begins with what the database has, never with zero.

Three things may happen at the same time: usage is counted, the writer brings it into the
database, and accounts are lost (evicted, flushed, a failover) and seeded. Each event is to be
in an account once. So the database numbers its batches, an account remembers the batch that it
was seeded with and has a random name (its generation), and an entry that waits for the database
remembers the generations it was counted in. When the entry was written, :mod:`.settling` can
tell for each account whether it is in by having been counted, by the seed, by both or not at
all, and adds or takes away the difference.

While the database is away an account begins without it (batch -1), so that nothing that is
used goes uncounted; what the database has is added when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from channels.errors import DatabaseUnavailable
from channels.ids import new_id
from channels.scope import Scope, ScopeKind
from services.context import Context
from services.database import Database
from services.store.port import Argument
from services.store.script import load_script
from services.sweeper import Sweeper
from services.usage.settings import UsageSettings
from services.usage.stats import UsageStats
from services.usage.sums import Amounts, Stored, read_account

__all__ = ["ACCOUNT_TTL_MS", "NO_BATCH", "Seeder", "account_fields"]

_log = logging.getLogger(__name__)

#: From an account's last change of a day.
ACCOUNT_TTL_MS = 100 * 86_400_000
#: The batch of an account that was begun while the database was away.
NO_BATCH = -1
#: Seconds after a failure in which the database is not asked again.
_PAUSE_S = 2.0
_ATTEMPTS = 16
#: Accounts that the database is missing in, among what is due under their root; how often
#: it is tried.
_FAMILY = "usage_account"
_LOOK_MS = 2_500
#: When it is tried again; at the latest, for whoever needs the account completes it at once.
#: Thousands of them must not keep the sweeper from all else that is due.
_AGAIN_MS = 15_000


class Seeder:
    """Begins accounts; one of them at a time."""

    __slots__ = ("_context", "_retry_at", "_running", "_settings", "_stats")

    def __init__(self, context: Context, settings: UsageSettings, stats: UsageStats) -> None:
        self._context = context
        self._settings = settings
        self._stats = stats
        self._running: dict[tuple[Scope, str], asyncio.Event] = {}
        #: By the loop's clock.
        self._retry_at = 0.0
        context.sweeper.handle(_FAMILY, self._complete)

    async def seed(self, scope: Scope, month: str) -> None:
        """Have the account of ``month`` (``YYYY-MM``) in Redis, begun from the database.

        Any number of calls do it once. Returns when there is one, or when somebody else who
        was at it failed: look again. It begins without the database, as provisional, while
        that is away; one that did is completed when it is back.

        Raises:
            StoreError: it may not be there.
        """
        key = (scope, month)
        running = self._running.get(key)
        if running is not None:
            await running.wait()
            return
        done = self._running[key] = asyncio.Event()
        try:
            await self._seed(scope, month)
        finally:
            del self._running[key]
            done.set()

    async def _seed(self, scope: Scope, month: str) -> None:
        account = self._context.keys.account(scope, month)
        database = self._context.database
        if database is None:
            await self._begin(account, "", 0, [])
            return
        for _ in range(_ATTEMPTS):
            code, word = cast(
                "tuple[int, bytes]",
                await self._context.store.run(
                    load_script("usage_claim"), [account], [new_id(), ACCOUNT_TTL_MS]
                ),
            )
            expected = word.decode()
            if code == 0 and int(expected.split()[1]) != NO_BATCH:
                return
            stored = await self._read(database, scope, month)
            if stored is None:
                if code:
                    await self._have_completed(scope, month)
                    self._stats.provisional += await self._begin(account, expected, NO_BATCH, [])
                return
            fields = account_fields(stored, self._settings.names)
            if await self._begin(account, expected, stored.batch, fields):
                return
        _log.warning(
            "the %s account of %s could not be seeded: it changes all the time", month, scope
        )

    async def _have_completed(self, scope: Scope, month: str) -> None:
        """Have somebody look, until the database is back, whether it is."""
        at_ms = self._context.clock.now_ms() + _LOOK_MS
        await self._context.sweeper.register(scope.id, at_ms)
        member = Sweeper.member(_FAMILY, f"{scope.kind}.{month}")
        await self._context.store.execute("ZADD", self._context.keys.due(scope.id), at_ms, member)

    async def _complete(self, root: str, id: str) -> None:
        """Complete an account that was begun without the database."""
        kind, _, month = id.partition(".")
        scope = Scope(cast(ScopeKind, kind), root)
        account, due = self._context.keys.account(scope, month), self._context.keys.due(root)
        if await self._is_provisional(account):
            await self.seed(scope, month)
        command: tuple[Argument, ...] = ("ZREM", due, Sweeper.member(_FAMILY, id))
        if await self._is_provisional(account):
            later_ms = self._context.clock.now_ms() + _AGAIN_MS + hash(root) % _AGAIN_MS
            command = ("ZADD", due, "XX", later_ms, Sweeper.member(_FAMILY, id))
        await self._context.store.execute(*command)

    async def _is_provisional(self, account: str) -> bool:
        seeded = await self._context.store.execute("HGET", account, "seeded")
        return isinstance(seeded, bytes) and int(seeded.split()[1]) == NO_BATCH

    async def _begin(self, account: str, expected: str, batch: int, fields: list[Argument]) -> bool:
        generation = expected.split(maxsplit=1)[0] if " " in expected else new_id()
        reply = await self._context.store.run(
            load_script("usage_seed"),
            [account],
            [expected, f"{generation} {batch}", batch, ACCOUNT_TTL_MS, *fields],
        )
        self._stats.seeds += reply == 1
        return reply == 1

    async def _read(self, database: Database, scope: Scope, month: str) -> Stored | None:
        """Return what the database has, None if it is away."""
        time = asyncio.get_running_loop().time
        if time() < self._retry_at:
            return None
        try:
            async with asyncio.timeout(self._settings.database_patience_s):
                return await read_account(database, scope, month)
        except (DatabaseUnavailable, TimeoutError) as error:
            self._retry_at = time() + _PAUSE_S
            _log.warning(
                "accounts begin without the database: %s", str(error) or "it took too long"
            )
            return None


def account_fields(stored: Stored, names: int) -> list[Argument]:
    """Return the fields and values of an account with these sums and limits."""
    fields: list[Argument] = []
    month = 0
    for day, sums in stored.days.items():
        month += sums.total[0]
        fields += _sums(f"{day[-2:]}:", sums.total)
        for sort in ("a", "m", "w"):
            kept = sums.bounded(sort, names)
            if kept:
                fields += (f"{day[-2:]}:{sort}", len(kept))
            for name, amounts in kept.items():
                fields += (f"{day[-2:]}:{sort}:{name}", " ".join(map(str, amounts)))
    fields += ("c", month)
    if stored.monthly_limit is not None:
        fields += ("L", stored.monthly_limit)
    if stored.daily_limit is not None:
        fields += ("D", stored.daily_limit)
    return fields


def _sums(prefix: str, amounts: Amounts) -> list[Argument]:
    fields: list[Argument] = []
    for name, amount in zip("cion", amounts, strict=True):
        fields += (prefix + name, amount)
    return fields
