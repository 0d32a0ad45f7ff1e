"""The demonstration: a hub with its own Valkey, and a demo agent that keeps it busy.

    python -m examples.demo [--port 8000] [any other option of fanwire serve]

Prints the address once. Ends both processes on Ctrl-C or SIGTERM, and when either ends by
itself; on Linux they end even where this one is killed. Exit status: 0 after a signal, that
of the hub when it did not start, else 1.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Ends the program that it becomes when we end, even where we are killed.
LAUNCHER = ROOT / "services" / "store" / "launch.py"
#: How long a process has to end after it was told to, before it is killed.
PATIENCE_S = 15.0
#: The last is sent where the terminal is closed.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_address = re.compile(r"https?://\S+").search


async def _start(module: str, *arguments: str, stdout: int | None = None) -> Process:
    command = [sys.executable, "-m", module, *arguments]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command]
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdout=stdout,
        # Ctrl-C on the terminal is for us; a process that only begins would answer with a
        # traceback.
        start_new_session=True,
    )


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _ready_url(hub: Process, told: asyncio.Event) -> str:
    """Return where the hub listens once it says so, empty when it or we end before."""
    saying = asyncio.create_task(_said_url(hub), name="the hub's address")
    telling = asyncio.create_task(told.wait(), name="a signal")
    await asyncio.wait({saying, telling}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if saying.cancel():
        return ""
    return saying.result()


async def _said_url(hub: Process) -> str:
    assert hub.stdout is not None
    while line := (await hub.stdout.readline()).decode():
        if found := _address(line):
            return found[0].rstrip("/")
    return ""


async def _pass_on(hub: Process) -> None:
    assert hub.stdout is not None
    while line := await hub.stdout.readline():
        sys.stdout.write(line.decode("utf-8", "replace"))


async def _until_one_ends(hub: Process, agent: Process, told: asyncio.Event) -> int:
    waiting = {
        asyncio.create_task(hub.wait(), name="the hub"),
        asyncio.create_task(agent.wait(), name="the demo agent"),
        asyncio.create_task(told.wait(), name="a signal"),
    }
    passing = asyncio.create_task(_pass_on(hub))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*waiting, passing):
            task.cancel()
        await asyncio.gather(*waiting, passing, return_exceptions=True)
    if told.is_set():
        return 0
    name, process = ("hub", hub) if hub.returncode is not None else ("demo agent", agent)
    print(f"the {name} ended by itself with status {process.returncode}", file=sys.stderr)
    return 1


async def run(options: list[str]) -> int:
    """Run both until something ends, and return the exit status."""
    told = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    quiet = [] if "--log-level" in options else ["--log-level", "warning"]
    hub = await _start("hub.cli", "serve", "--insecure", *quiet, *options, stdout=PIPE)
    try:
        url = await _ready_url(hub, told)
        if told.is_set():
            return 0
        if not url:
            # It said why itself: a port in use, a directory that cannot be written.
            return await hub.wait()
        agent = await _start("examples.demo_agent", "--url", url)
        try:
            print(f"Fanwire is live at {url}/ (Ctrl-C ends it)", flush=True)
            return await _until_one_ends(hub, agent, told)
        finally:
            await _end(agent)
    finally:
        await _end(hub)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1:])))
