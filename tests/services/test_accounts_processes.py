"""Several processes at once, and processes that are killed: state and log always agree."""

from __future__ import annotations

import asyncio
import json
import random
from functools import partial
from typing import Any

import pytest

from channels.errors import StoreError, Unauthorized
from services.auth_session import AuthSession
from services.auth_sessions import AuthSessions
from services.documents import Document, merge
from services.door import Services
from services.event_log import MAX_PAGE

from .accounts import told
from .waiting_workers import PATIENCE_S, waiting_workers

workers = partial(waiting_workers, "tests.services.accounts_worker")


async def test_eight_processes_patch_and_nothing_is_lost(valkey):
    """Disjoint fields, and one object that all merge into: all there, each told once."""
    rounds = 15
    commands = [("patch", str(number), str(rounds)) for number in range(8)]
    async with workers(valkey.url, *commands) as started, Services.connect(valkey.url) as services:
        for worker in started:
            worker.begin()
        assert [await worker.result() for worker in started] == [rounds * 2] * 8
        state = await services.for_workspace("w1").preferences.get(user="ann")
        expected: dict[str, Any] = {
            f"p{number}_{turn}": turn for number in range(8) for turn in range(rounds)
        }
        assert state.values == {**expected, "shared": expected}
        events = await told(services.context, "workspace:w1")
        assert [event["data"]["version"] for event in events] == list(range(1, 8 * rounds * 2 + 1))
        assert state.version == len(events)
        seen: Any = {}
        for event in events:
            seen = merge(seen, event["data"]["patch"])
        assert seen == state.values


async def test_after_a_revocation_no_process_accepts(valkey):
    """Verified without pause by six processes; once revoke returned, all of them refuse."""
    async with Services.connect(valkey.url) as services:
        sessions = services.auth_sessions
        # Short, so that uses are written too, which must not bring the session back.
        issued = await sessions.create("ann", idle_ttl_s=1, max_age_s=3_600)

        async def keep_alive() -> None:  # processes take their time to start
            while True:
                await sessions.verify(issued.token)
                await asyncio.sleep(0.05)

        alive = asyncio.create_task(keep_alive())
        async with workers(valkey.url, *[("verify", issued.token)] * 6) as started:
            for worker in started:
                worker.begin()
            await asyncio.sleep(0.6)  # uses are written every quarter of a second
            alive.cancel()
            await asyncio.wait([alive])
            assert alive.cancelled()
            assert await sessions.revoke("ann", issued.session.id)
            with pytest.raises(Unauthorized):
                await sessions.verify(issued.token)
            found = [await worker.result() for worker in started]
            assert all(isinstance(good, int) for good in found), found
            assert await sessions.list_sessions("ann") == []


async def test_of_eight_processes_that_rotate_one_wins(valkey):
    """There is exactly one good secret afterwards."""
    async with Services.connect(valkey.url) as services:
        sessions = services.auth_sessions
        issued = await sessions.create("ann")
        async with workers(valkey.url, *[("rotate", issued.token)] * 8) as started:
            for worker in started:
                worker.begin()
            found = [await worker.result() for worker in started]
        (winner,) = [token for token in found if token]
        assert (await sessions.verify(winner)).version == 2
        with pytest.raises(Unauthorized):
            await sessions.verify(issued.token)
        events = await told(services.context, "auth:ann")
        assert [event["type"] for event in events] == [
            "auth.session_created",
            "auth.session_rotated",
        ]


@pytest.mark.parametrize("victim", ["client", "server"])
async def test_whoever_is_killed_state_and_log_agree(valkey_server, victim):
    """kill -9 in the middle of patches: what is stored is what was told, to the last one."""
    server = valkey_server()
    chance = random.Random(7)
    for _ in range(4):
        async with workers(server.url, ("patch", "0", "9999"), ("patch", "1", "9999")) as started:
            for worker in started:
                worker.begin()
            await asyncio.sleep(chance.uniform(0.05, 0.25))
            if victim == "server":
                await asyncio.to_thread(server.crash)
            for worker in started:
                worker.kill()
        async with Services.connect(server.url) as services:
            await _agree(services)


async def _agree(services: Services) -> None:
    """Check the preferences against all that was told of them, and begin anew."""
    context = services.context
    channel = context.catalogue.find("workspace:w1")
    page = await context.log.read(channel, limit=MAX_PAGE, reverse=True)
    key = context.keys.preferences("w1", "ann")
    document = Document.read(await context.store.execute("HGETALL", key))
    assert page.publications, "nothing was done before the end"
    last = json.loads(page.publications[0].object)["data"]["data"]
    assert (document.version, page.top.offset) == (last["version"], last["version"])
    seen: Any = {}
    for publication in reversed(page.publications):
        seen = merge(seen, json.loads(publication.object)["data"]["data"]["patch"])
    for name, value in seen.items():
        if name != "shared":
            assert document.values[name] == value
    await context.store.execute("FLUSHALL")


async def test_revocations_that_meet_a_crash_are_told_or_not_done(valkey_server):
    """kill -9 of the server amid them: a session is over if, and only if, that was told."""
    server = valkey_server()
    async with Services.connect(server.url) as services:
        sessions: AuthSessions = services.auth_sessions
        for _ in range(4):
            made, acknowledged = set(), set()
            # Killed amid a sync of every second it may lose what it acknowledged: not our matter.
            await services.store.execute("CONFIG", "SET", "appendfsync", "always")
            crash = asyncio.create_task(asyncio.to_thread(server.crash))
            while not crash.done():
                try:
                    issued = await sessions.create("ann", limit=100)
                    made.add(issued.session.id)
                    if len(made) % 2 and await sessions.revoke("ann", issued.session.id):
                        acknowledged.add(issued.session.id)
                except StoreError:
                    await asyncio.sleep(0.01)
            await crash
            left = {session.id for session in await eventually(sessions)}
            events = await told(services.context, "auth:ann")
            assert len(events) < MAX_PAGE, "more than the log keeps: nothing to compare with"
            over = {
                session
                for event in events
                if event["type"] == "auth.session_revoked"
                for session in event["data"]["sessions"]
            }
            assert left & over == set()
            assert made <= left | over
            assert acknowledged <= over
            await services.store.execute("FLUSHALL")


async def eventually(sessions: AuthSessions) -> list[AuthSession]:
    """Return the sessions of ann as soon as Redis is there again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await sessions.list_sessions("ann")
            except StoreError:
                await asyncio.sleep(0.01)
