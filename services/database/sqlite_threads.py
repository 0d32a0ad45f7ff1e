"""SQLite's threads: aiosqlite has one a connection, and they outlive what they were for.

One that could not connect, or was cut off, ends a moment later and then calls the event loop.
Whoever closes a database closes the loop soon after, so the threads are waited for.
"""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import Any

import aiosqlite

__all__ = ["SqliteThreads"]

#: Seconds; a thread that is still in a long statement then is left to itself.
_PATIENCE_S = 5.0


class SqliteThreads:
    """Makes connections, and knows their threads."""

    __slots__ = ("_threads",)

    def __init__(self) -> None:
        self._threads: list[Thread] = []

    def connect(self, *args: Any, **options: Any) -> aiosqlite.Connection:  # noqa: ANN401 - as the driver takes them
        """Return a connection that is being made."""
        connection = aiosqlite.connect(*args, **options)
        thread = connection._thread  # noqa: SLF001 - there is no other way to it
        thread.daemon = True  # one that hangs must not keep the process
        self._threads = [known for known in self._threads if known.is_alive()]
        self._threads.append(thread)
        return connection

    async def join(self) -> None:
        """Return when the threads of closed connections have ended."""
        for thread in self._threads:
            await asyncio.to_thread(thread.join, _PATIENCE_S)
        self._threads.clear()
