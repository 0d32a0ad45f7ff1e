"""Looks at how Redis is set up, each time it was reached, and warns of what breaks promises."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from channels.errors import StoreError
from services.store.inspection import Finding, inspect_server
from services.store.port import Store

__all__ = ["Inspector"]

_log = logging.getLogger(__name__)


class Inspector:
    """Keeps what is wrong with the server in :attr:`findings`, and logs it once a connection.

    The hub works all the same: whoever runs an evicting Redis on purpose is told, not stopped.
    """

    __slots__ = ("_connected", "_store", "findings")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connected = asyncio.Event()
        self.findings: list[Finding] = []

    def on_state(self, ready: bool) -> None:  # noqa: FBT001 - the store's callback
        """Learn that the store became usable, or not."""
        if ready:
            self._connected.set()

    async def run(self) -> None:
        """Look after every connect, for ever."""
        while True:
            await self._connected.wait()
            self._connected.clear()
            with contextlib.suppress(StoreError):  # away again: it is looked at when it is back
                self.findings = await inspect_server(self._store)
                for finding in self.findings:
                    _log.warning("Redis: %s", finding)
