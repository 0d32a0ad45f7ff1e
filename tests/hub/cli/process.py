"""The command as a process of its own, as people run it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).parents[3]


@contextlib.asynccontextmanager
async def fanwire(
    *arguments: str, stdin: int = asyncio.subprocess.PIPE, **environ: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``fanwire`` with these arguments; it does not outlive the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FANWIRE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-m",
        "hub.cli",
        *arguments,
        cwd=ROOT,
        env={**clean, "PYTHONUNBUFFERED": "1", **environ},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(*arguments: str, text: bytes = b"", **environ: str) -> tuple[int, str, str]:
    """Run the command to its end and return its exit status and what it said."""
    async with fanwire(*arguments, **environ) as process:
        out, errors = await process.communicate(text)
        return process.returncode or 0, out.decode(), errors.decode()


async def line(process: asyncio.subprocess.Process) -> str:
    """Return the next line of standard output."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().removesuffix("\n")


@contextlib.asynccontextmanager
async def real_hub(data_dir: Path, *options: str, **environ: str) -> AsyncIterator[str]:
    """Run ``fanwire serve`` with an embedded server on a free port; yield its address."""
    arguments = ["serve", "--port", "0", "--data-dir", str(data_dir), "--log-level", "error"]
    async with fanwire(*arguments, *options, **environ) as process:
        said = await line(process)
        assert "http://" in said, said
        yield said.split(" on ")[1].split(" ")[0].rstrip("/")
        process.terminate()
        assert await process.wait() == 0
