"""All services at once, in processes that are killed, on a server that is: all of it agrees.

``FANWIRE_TEST_CRASHES`` is how many kills there are (60 unless told otherwise, of which a tenth
are made here).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.context import Context
from services.documents import Document, merge
from services.store import embedded
from services.store.port import Store
from services.store.tcp import TcpStore

from ..servers import PATIENCE_S
from .accounts import told
from .approval_support import Stage, assert_agreement
from .conftest import QUICK
from .everything_worker import SESSIONS, Ground, user_of
from .session_support import replay, stored

ROOT = Path(__file__).parents[2]
KILLS = max(6, int(os.environ.get("FANWIRE_TEST_CRASHES", "60")) // 10)


class OnlyGates:
    """A store on which nothing but gates is due."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def execute(self, *command: Any, **options: Any) -> Any:
        """Leave out what other services have there."""
        reply: Any = await self._store.execute(*command, **options)
        if command[0] == "ZRANGE" and command[1].endswith(":due"):
            return [member for member in reply if member.startswith(b"approval:")]
        return reply


async def gates_agree(store: Store, workspace: str) -> int:
    """Check the gates; return how many there are."""
    stage = Stage(store)
    stage.store = OnlyGates(store)  # type: ignore[assignment]  # all the rest is the store's
    return len(await assert_agreement(stage, workspace))


async def logins_agree(context: Context, user: str) -> None:
    """Check who is logged in against what was told."""
    versions: dict[str, int] = {}
    for event in await told(context, f"auth:{user}"):
        data = event["data"]
        match event["type"]:
            case "auth.session_created":
                versions[data["session"]] = 1
            case "auth.session_rotated":
                versions[data["session"]] = data["version"]
            case "auth.session_revoked":
                for session in data["sessions"]:
                    del versions[session]
            case "auth.session_expired":
                del versions[data["session"]]
    found: Any = await context.store.execute("HGETALL", context.keys.auth_sessions(user))
    pairs = found.items() if isinstance(found, dict) else zip(*[iter(found)] * 2, strict=True)
    there = {id_.decode(): int(text.split()[1]) for id_, text in pairs}
    assert there == versions


async def documents_agree(context: Context, workspace: str) -> None:
    """Check preferences and onboarding against what was told; no version is left out."""
    preferences: Any = {}
    onboarding: Any = None
    versions: Counter[str] = Counter()
    for event in await told(context, f"workspace:{workspace}"):
        family, _, what = event["type"].partition(".")
        data = event["data"]
        versions[family] += 1
        assert data["version"] == versions[family]
        if family == "preferences":
            preferences = merge(preferences, data["patch"])
        elif what == "started":
            onboarding = (data["step"], data["patch"])
        elif what == "updated":
            onboarding = (data["step"], merge(onboarding[1], data["patch"]))
        else:
            onboarding = None
    keys, read = context.keys, context.store.execute
    document = Document.read(await read("HGETALL", keys.preferences(workspace, user_of(workspace))))
    assert (document.values, document.version) == (preferences, versions["preferences"])
    document = Document.read(await read("HGETALL", keys.onboarding(workspace)))
    there = (document.meta["s"], document.values) if "z" in document.meta else None
    assert (there, document.version) == (onboarding, versions["onboarding"])


async def all_ended(context: Context, roots: list[str]) -> None:
    """Sweep until nothing is overdue: what the dead had claimed comes back in ten seconds."""
    sweeping = asyncio.create_task(context.sweeper.run())
    now_ms = context.clock.now_ms()
    async with asyncio.timeout(2 * PATIENCE_S):
        for root in roots:
            # Whatever ended within seconds, ended; a minute's are not waited for.
            while await context.store.execute(  # noqa: ASYNC110 - another node may end it
                "ZCOUNT", context.keys.due(root), "-inf", now_ms + 3_000
            ):
                await asyncio.sleep(0.05)
    sweeping.cancel()
    await asyncio.wait({sweeping})


@pytest.mark.timeout(120 + 2 * KILLS)
async def test_everything_agrees_whoever_is_killed(valkey_server, monkeypatch):
    """Sessions, gates, logins, preferences, onboardings: state is what was told, all of it."""
    monkeypatch.setattr(embedded, "_BACKOFF_S", (0.001, 0.002))
    server, chance = valkey_server(), random.Random()
    workspaces: list[str] = []
    workers: list[tuple[asyncio.subprocess.Process, asyncio.Task[None]]] = []
    ended: list[asyncio.Task[None]] = []

    async def start(name: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.services.everything_worker", server.url, name),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )

        works = asyncio.Event()

        async def listen() -> None:
            async for line in process.stdout:
                workspaces.append(line.decode().strip())
                works.set()

        workers.append((process, asyncio.create_task(listen())))
        # One that is killed while it starts proves nothing.
        async with asyncio.timeout(30):
            await works.wait()

    async def kill() -> None:
        process, listening = workers.pop(chance.randrange(len(workers)))
        process.kill()
        await process.wait()
        ended.append(listening)

    try:
        for number in range(2):
            await start(f"first{number}")
        for number in range(KILLS):
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            if number % 2:
                await asyncio.to_thread(server.crash)
            else:
                await kill()
                await start(f"next{number}")
    finally:
        while workers:
            await kill()
    await asyncio.gather(*ended)
    assert workspaces
    async with TcpStore(server.url, QUICK) as store:
        context = Ground.context(store)
        await all_ended(context, [*workspaces, *map(user_of, workspaces)])
        gates = sessions = 0
        for workspace in workspaces:
            for number in range(SESSIONS):
                state = await stored(context, workspace, f"s{number}")
                assert state == await replay(context, workspace, f"s{number}")
                sessions += state is not None
            gates += await gates_agree(store, workspace)
            await logins_agree(context, user_of(workspace))
            await documents_agree(context, workspace)
        assert gates
        assert sessions
