"""A listener that remembers."""

from __future__ import annotations

import asyncio


class Recorder:
    """Keeps what it was told and lets a test wait for it."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.interruptions = 0
        #: ``None`` stands for an interruption, in order with the messages.
        self.log: list[bytes | None] = []
        self._told = asyncio.Event()

    def on_message(self, payload: bytes) -> None:
        """Remember a message."""
        self.messages.append(payload)
        self.log.append(payload)
        self._told.set()

    def on_interrupted(self) -> None:
        """Remember an interruption."""
        self.interruptions += 1
        self.log.append(None)
        self._told.set()

    async def wait_for(self, messages: int = 0, *, interruptions: int = 0) -> None:
        """Return when at least so much was heard."""
        while len(self.messages) < messages or self.interruptions < interruptions:
            self._told.clear()
            await self._told.wait()

    async def wait_for_message(self, message: bytes) -> None:
        """Return when ``message`` was the last one heard."""
        while not self.messages or self.messages[-1] != message:
            self._told.clear()
            await self._told.wait()
