"""Makes the tables when the hub starts, and knows whether the database is there."""

from __future__ import annotations

import asyncio
import logging

from channels.errors import DatabaseUnavailable
from services.database import Database
from services.store.backoff import Backoff

__all__ = ["DatabaseWatch"]

_log = logging.getLogger(__name__)

#: Seconds between attempts while the database is away, and between looks while it is there.
_AGAIN_S = (0.5, 30.0)
_EVERY_S = 30.0


class DatabaseWatch:
    """Keeps why the database is no good in :attr:`trouble`, and logs what changed.

    A hub streams and counts without its database: what is to be written waits in Redis. So
    its absence is told and is no reason to send clients elsewhere.
    """

    __slots__ = ("_again_s", "_database", "_every_s", "_migrate", "trouble")

    def __init__(
        self,
        database: Database,
        *,
        migrate: bool,
        again_s: tuple[float, float] = _AGAIN_S,
        every_s: float = _EVERY_S,
    ) -> None:
        self._database = database
        self._migrate = migrate
        self._again_s = again_s
        self._every_s = every_s
        #: Empty while it answers.
        self.trouble = "the database was not reached yet"

    async def run(self) -> None:
        """Migrate once, then look every half minute, until cancelled."""
        backoff = Backoff(*self._again_s)
        while True:
            if await self._look():
                backoff = Backoff(*self._again_s)
                await asyncio.sleep(self._every_s)
            else:
                await asyncio.sleep(backoff.next_s())

    async def _look(self) -> bool:
        try:
            if self._migrate:
                await self._database.migrate()
                self._migrate = False
            else:
                await self._database.ping()
        except DatabaseUnavailable as error:
            self._tell(error.message)
        except Exception as error:  # noqa: BLE001 - a broken migration must not end the watch
            self._tell(f"its tables could not be made: {type(error).__name__}: {error}")
        else:
            self._tell("")
        return not self.trouble

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            if trouble:
                _log.warning("%s", trouble)
            else:
                _log.info("the database answers")
        self.trouble = trouble
