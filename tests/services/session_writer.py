"""A process of its own that writes sessions, for tests that need several or kill one.

    python -m tests.services.session_writer append URL WRITER TASKS APPENDS
    python -m tests.services.session_writer churn URL SECONDS RATE
    python -m tests.services.session_writer die URL ROUNDS SEED

``append`` and ``churn`` write to session s1 of w1, ``die`` to s1 of each of several workspaces,
from children that are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import uvloop

from channels.errors import FanwireError, NotFound
from services.session_manager import SessionManager
from services.store.tcp import TcpStore

from .session_support import make_context

WORKSPACE = "w1"
SESSIONS = 6
#: Store calls a child may make; it dies before, at or after one of them.
CALLS = 60


def say(report: dict[str, object]) -> None:
    """Tell the test, in one line."""
    sys.stdout.write(json.dumps(report) + "\n")


async def append(url: str, writer: str, tasks: int, appends: int) -> None:
    """Add messages from several tasks; print how many."""
    async with TcpStore(url) as store:
        sessions = SessionManager(make_context(store), WORKSPACE)

        async def write(task: int) -> None:
            for number in range(appends):
                id = f"{writer}-{task}-{number}"
                await sessions.add_message("s1", "user", {"n": number}, message_id=id)

        await asyncio.gather(*(write(task) for task in range(tasks)))
    say({"added": tasks * appends})


async def churn(url: str, seconds: float, rate: float) -> None:
    """Change a session in every way, ``rate`` times a second; print how many."""
    chance = random.Random(1)
    async with TcpStore(url) as store:
        sessions = SessionManager(make_context(store), WORKSPACE)
        started, made = time.monotonic(), 0
        pending: set[asyncio.Task[object]] = set()
        while (passed := time.monotonic() - started) < seconds:
            while made < passed * rate:
                pending.add(asyncio.create_task(change(sessions, "s1", chance, made)))
                made += 1
            _, pending = await asyncio.wait(pending, timeout=0.002)
            pending = set(pending) or {asyncio.create_task(asyncio.sleep(0.001))}
        await asyncio.wait(pending)
    say({"changes": made})


async def change(sessions: SessionManager, id: str, chance: random.Random, number: int) -> object:
    """Make one change of any kind but an end."""
    match chance.randrange(5):
        case 0:
            return await sessions.update_session(id, current_task=f"t{number}")
        case 1:
            return await sessions.update_session(
                id, current_agent=None, last_output={"n": number, "none": None}
            )
        case 2:
            return await sessions.extend_session(id, 1)
        case _:
            return await sessions.add_message(id, "user", number)


class DyingStore:
    """A store whose process dies at its n-th call: before it, as it is sent, or after it."""

    def __init__(self, store: TcpStore, calls: int, when: int) -> None:
        self._store = store
        self._left = calls
        self._when = when

    def __getattr__(self, name: str) -> object:
        found = getattr(self._store, name)
        return self._dying(found) if name in ("run", "execute", "pipeline") else found

    def _dying(self, call):
        async def dying(*args, **options):
            self._left -= 1
            if self._left:
                return await call(*args, **options)
            if self._when == 0:
                die()
            task = asyncio.ensure_future(call(*args, **options))
            if self._when == 1:
                await asyncio.sleep(0)  # it is on its way
                await asyncio.sleep(0)
                die()
            with contextlib.suppress(FanwireError):
                await task
            die()

        return dying


def die() -> NoReturn:
    """End as if the machine lost this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after a SIGKILL")


async def live(url: str, chance: random.Random, acknowledged: int) -> None:
    """Do what services do, until the end; write down each message that was acknowledged."""
    async with TcpStore(url) as store:
        dying = DyingStore(store, 1 + chance.randrange(CALLS), chance.randrange(3))
        context = make_context(dying)
        number = 0
        while True:
            number += 1
            # Each in a workspace of its own, which somebody has to have registered.
            workspace, id = f"w{chance.randrange(SESSIONS)}", "s1"
            sessions = SessionManager(context, workspace)
            with contextlib.suppress(NotFound):
                match chance.randrange(12):
                    case 0:
                        await sessions.delete_session(id)
                    case 1:
                        await context.sweeper.sweep()
                    case 2 | 3:
                        await sessions.create_session(id, "ada", idle_ttl_s=chance.randint(1, 3))
                    case 4:
                        await sessions.get_session(id, touch=True)
                    case 5 | 6 | 7:
                        message = await sessions.add_message(id, "user", number)
                        os.write(acknowledged, f"{workspace} {message.id}\n".encode())
                    case _:
                        await change(sessions, id, chance, number)


def rounds(url: str, count: int, seed: int) -> None:
    """Let ``count`` children die, two at a time; print what they had been told was done."""
    acknowledged = Path(tempfile.mkstemp(prefix="fw-ack-")[1])
    file = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)
    children: set[int] = set()
    killed = 0
    for number in range(count):
        child = os.fork()
        if child == 0:
            try:
                uvloop.run(live(url, random.Random(f"{seed} {number}"), file))
            finally:
                os._exit(3)  # it was to die before this
        children.add(child)
        while len(children) > (1 if number < count - 1 else 0):
            pid, status = os.wait()
            children.discard(pid)
            killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    say({"killed": killed, "acknowledged": acknowledged.read_text().splitlines()})
    acknowledged.unlink()


def main() -> None:
    """Do what the arguments say."""
    mode, url, *rest = sys.argv[1:]
    match mode:
        case "append":
            uvloop.run(append(url, rest[0], int(rest[1]), int(rest[2])))
        case "churn":
            uvloop.run(churn(url, float(rest[0]), float(rest[1])))
        case "die":
            rounds(url, int(rest[0]), int(rest[1]))


if __name__ == "__main__":
    main()
