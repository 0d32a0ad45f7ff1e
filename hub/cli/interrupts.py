"""Ctrl-C at a better moment."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["finish_first"]


@contextmanager
def finish_first() -> Iterator[None]:
    """Let the block end before the first Ctrl-C counts; the second ends it at once.

    A request that was sent has an outcome, and who interrupts wants to know it.
    """
    interrupted = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt
