"""Processes of a test that say they are ready, and wait for the word to begin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

__all__ = ["PATIENCE_S", "Worker", "waiting_workers"]

ROOT = Path(__file__).parents[2]
#: A process of a test says its next word within this, on a busy machine too.
PATIENCE_S = 60


class Worker:
    """One process that waits for the word."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def begin(self) -> None:
        """Give the word."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    async def line(self) -> str:
        """Return the next line it says."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return (await self._process.stdout.readline()).decode().strip()

    async def result(self) -> Any:
        """Return what it found."""
        return json.loads(await self.line())

    def kill(self) -> None:
        """Kill -9."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


@contextlib.asynccontextmanager
async def waiting_workers(
    module: str, url: str, *commands: tuple[str, ...]
) -> AsyncIterator[list[Worker]]:
    """Start processes; all are ready, and none has begun."""
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, url, *command),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for command in commands
    ]
    ready = [Worker(process) for process in started]
    try:
        assert [await worker.line() for worker in ready] == ["ready"] * len(ready)
        yield ready
    finally:
        for process, worker in zip(started, ready, strict=True):
            worker.kill()
            await process.communicate()
