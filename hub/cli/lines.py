"""Standard input as events: one line, one event; batches that are full or old enough.

A line that is JSON is published as it is. Any other line is text and becomes
``{"line": "..."}``, so that a log file reads the same as what a program writes. Blank lines
are skipped. Bytes that are not UTF-8 are replaced (U+FFFD) and counted: a pipe that stops at
one odd byte of a log would be worse, and JSON cannot carry them.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
from msgspec import Raw

from channels.errors import BadRequest, FanwireError, LimitExceeded
from channels.publication import MAX_DATA_BYTES, check_json

__all__ = ["Line", "LineReader", "read_batches"]

#: Events in one request, and how long the first of them waits for the others: a file goes
#: through at full speed, and a live log is not held up noticeably.
BATCH_LINES = 100
BATCH_WAIT_S = 0.05

_CHUNK_BYTES = 64 * 1024


class Line(NamedTuple):
    """One line that is an event, or why it cannot be one. Lines are counted from 1."""

    number: int
    data: Raw | None
    error: FanwireError | None = None
    replaced: bool = False


class LineReader:
    """Cuts bytes into lines, without I/O. Keeps at most one unfinished line."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0
        self._too_long = False

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Yield the lines that ``chunk`` completes."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for text in whole:
            yield from self._line(text)
        if len(self._rest) > MAX_DATA_BYTES:
            # Enough to know that it is too long; the rest of it need not be kept.
            self._too_long = True
            self._rest = b""

    def finish(self) -> Iterator[Line]:
        """Yield the last line where the input does not end with a line end."""
        rest, self._rest = self._rest, b""
        if rest or self._too_long:
            yield from self._line(rest)

    def _line(self, text: bytes) -> Iterator[Line]:
        self._number += 1
        too_long, self._too_long = self._too_long, False
        text = text.removesuffix(b"\r")
        if too_long or len(text) > MAX_DATA_BYTES:
            yield Line(self._number, None, _too_long())
        elif text.strip():
            yield _event_of(self._number, text)


def _event_of(number: int, text: bytes) -> Line:
    try:
        return Line(number, Raw(check_json(text)))
    except BadRequest:
        pass
    readable = text.decode("utf-8", "replace")
    data = msgspec.json.encode({"line": readable})
    if len(data) > MAX_DATA_BYTES:
        return Line(number, None, _too_long())
    return Line(number, Raw(data), replaced=readable.encode("utf-8") != text)


def _too_long() -> LimitExceeded:
    return LimitExceeded(f"the line is too long: an event has {MAX_DATA_BYTES} bytes at most")


def read_batches(
    fd: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    readable: Callable[[int, float | None], bool] | None = None,
) -> Iterator[list[Line]]:
    """Yield the lines of a file descriptor in batches, until its end.

    A batch is passed on when it is full, when its first line has waited 50 ms, or at the
    end of the input. ``readable`` waits until ``fd`` can be read, or the time is over.
    """
    wait = readable or _wait
    reader = LineReader()
    pending: list[Line] = []
    due = 0.0
    while True:
        if pending and not wait(fd, max(0.0, due - clock())):
            yield pending
            pending = []
            continue
        if not pending:
            wait(fd, None)
        chunk = os.read(fd, _CHUNK_BYTES)
        for line in reader.feed(chunk) if chunk else reader.finish():
            if not pending:
                due = clock() + BATCH_WAIT_S
            pending.append(line)
            if len(pending) == BATCH_LINES:
                yield pending
                pending = []
        if not chunk:
            break
    if pending:
        yield pending


def _wait(fd: int, timeout_s: float | None) -> bool:
    if os.name == "nt":
        # Windows selects sockets only: there a batch waits for its input to go on.
        return True
    return bool(select.select([fd], [], [], timeout_s)[0])
