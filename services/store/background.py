"""Tasks that run for as long as their owner and must not die in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

__all__ = ["end", "spawn"]

_log = logging.getLogger(__name__)


def spawn(work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
    """Start ``work``; the caller keeps the task and ends it with :func:`end`.

    An exception that ends it is a bug, and is logged at once: asyncio would wait for the
    task to be collected, which its owner prevents.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_report)
    return task


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel the task, if there is one, and return when it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.wait({task})


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("%s has ended, which is a bug", task.get_name(), exc_info=error)
