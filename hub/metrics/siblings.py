"""The workers of one port ask each other for their metrics, so that one scrape shows all.

Which worker answers a scrape is the kernel's choice. Each listens on a Unix socket in a
directory that only their user may enter; whoever connects gets a snapshot and the end of the
stream. So the figures are as fresh as the scrape, nothing is written while nobody asks, and a
worker that died or stands still is missing instead of looking alive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from hub.metrics.snapshot import Snapshot

__all__ = ["ALONE", "Siblings", "Slot"]

_log = logging.getLogger(__name__)

#: A loop that is later than this is as good as down, and Prometheus waits for 10 s.
_PATIENCE_S = 1.0


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's place among the ``count`` that share a port; its successor has the same.

    ``directory`` is where their sockets are.
    """

    number: int
    count: int
    directory: str

    def path(self, number: int) -> Path:
        """Return where the worker ``number`` can be asked."""
        return Path(self.directory, f"{number}.sock")


#: The place of a process that has the port for itself.
ALONE = Slot(number=0, count=1, directory="")


class Siblings:
    """Answers the other workers while entered, and asks them."""

    __slots__ = ("_server", "_slot", "_take")

    def __init__(self, slot: Slot, take: Callable[[], Snapshot]) -> None:
        self._slot = slot
        self._take = take
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        if self._slot.count > 1:
            path = self._slot.path(self._slot.number)
            try:
                # In the place of what a predecessor left that was killed.
                self._server = await asyncio.start_unix_server(self._answer, path)
            except (OSError, AttributeError) as error:  # no such sockets, or too long a path
                # Clients can be served all the same.
                _log.warning("the metrics of this worker are seen only by itself: %s", error)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
            self._slot.path(self._slot.number).unlink(missing_ok=True)

    def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._take().encode())
        writer.close()

    async def ask(self) -> dict[int, Snapshot | None]:
        """Return how every worker of the port is now, by number; None for one that is down."""
        numbers = range(self._slot.count)
        # Encoded too, our own is a copy of one moment like the others.
        ours = self._take().encode()
        theirs = (n for n in numbers if n != self._slot.number)
        asked = {n: asyncio.ensure_future(_ask(self._slot.path(n))) for n in theirs}
        texts = dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))
        texts[self._slot.number] = ours
        return {n: _decode(texts[n]) for n in numbers}


async def _ask(path: Path) -> bytes:
    """Return what the worker behind ``path`` tells, nothing when it does not."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return await reader.read()
            finally:
                writer.close()
    except (OSError, AttributeError):  # TimeoutError is one too
        return b""


def _decode(text: bytes) -> Snapshot | None:
    try:
        return Snapshot.decode(text)
    except msgspec.DecodeError:  # it ended in the middle of it
        return None
