"""Sessions that many processes write at once, and processes that die in the middle of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from channels.reduce_session import reduce_session
from services.session_manager import SessionManager
from services.session_settings import SessionSettings

from .session_support import Hand, events_of, make_context, publications, replay, snapshot, stored
from .session_writer import SESSIONS

ROOT = Path(__file__).parents[2]
#: Rounds of processes that die; more by hand: FANWIRE_TEST_DEATHS=3000.
DEATHS = int(os.environ.get("FANWIRE_TEST_DEATHS", "300"))


async def writer(*arguments: object) -> asyncio.subprocess.Process:
    """Start a process of ``session_writer``."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.session_writer", *map(str, arguments)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )


async def answer(process: asyncio.subprocess.Process) -> dict:
    """Return what it printed at its end."""
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


async def test_sixty_four_writers_lose_nothing(store, valkey):
    """From four processes: every message once, one order, a version and an event for each."""
    context = make_context(store)
    context.session_settings = SessionSettings(window=50)
    sessions = SessionManager(context, "w1")
    await sessions.create_session("s1", "ada")
    processes = [await writer("append", valkey.url, f"p{n}", 16, 100) for n in range(4)]
    for process in processes:
        assert await answer(process) == {"added": 1_600}
    state = await sessions.get_session("s1")
    assert (state.message_count, state.version) == (6_400, 6_401)
    events = await events_of(context, "w1", "s1")
    assert [event["data"]["version"] for event in events] == list(range(1, 6_402))
    messages = [event["data"]["message"] for event in events[1:]]
    assert [message["seq"] for message in messages] == list(range(1, 6_401))
    assert {message["id"] for message in messages} == {
        f"p{process}-{task}-{number}"
        for process in range(4)
        for task in range(16)
        for number in range(100)
    }
    by_writer: dict[str, list[int]] = {}
    for message in messages:
        by_writer.setdefault(message["id"].rpartition("-")[0], []).append(message["content"]["n"])
    assert all(numbers == list(range(100)) for numbers in by_writer.values())
    assert await replay(context, "w1", "s1") == await stored(context, "w1", "s1")


async def test_snapshot_and_stream_agree_at_every_position(store, valkey):
    """While another process makes a thousand changes a second."""
    context = make_context(store)
    sessions = SessionManager(context, "w1")
    await sessions.create_session("s1", "ada", max_age_s=10_000)
    process = await writer("churn", valkey.url, 3, 1_000)
    ended = asyncio.create_task(answer(process))
    snapshots = []
    while not ended.done():
        snapshots.append(await snapshot(context, "w1", "s1"))
    made = (await ended)["changes"]
    snapshots.append(await snapshot(context, "w1", "s1"))
    found = {
        publication.offset: msgspec.json.decode(publication.data)
        for publication in await publications(context, "w1", "s1")
    }
    # A change that gains nothing is none, so there may be fewer than were asked for.
    assert made / 2 < len(found) <= made + 1
    by_offset = {0: None}
    for offset, event in found.items():
        by_offset[offset] = reduce_session(by_offset[offset - 1], event)
    seen = {taken.position.offset for taken in snapshots}
    assert len(seen) > 20
    for taken in snapshots:
        assert msgspec.json.decode(taken.data) == by_offset[taken.position.offset]
        assert taken.id == found[taken.position.offset]["id"]
    # Whoever joins with any of them ends up with the same.
    for taken in snapshots[:: max(len(snapshots) // 20, 1)]:
        state = msgspec.json.decode(taken.data)
        for offset in range(taken.position.offset + 1, len(found) + 1):
            state = reduce_session(state, found[offset])
        assert state == by_offset[len(found)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.timeout(60 + DEATHS)
async def test_processes_that_die_leave_state_and_events_in_agreement(store, valkey):
    """Killed before, during or after a command at random: the log replays into the state."""
    process = await writer("die", valkey.url, DEATHS, 7)
    told = await answer(process)
    assert told["killed"] == DEATHS
    hand = Hand(time.time_ns() // 1_000_000)
    context = make_context(store, hand)
    messages: set[str] = set()
    workspaces = [f"w{number}" for number in range(SESSIONS)]
    for workspace in workspaces:
        state = None
        for event in await events_of(context, workspace, "s1"):
            kind, version = event["type"], event["data"]["version"]
            assert (state is None) == (kind == "session.created")
            assert version == (state["version"] + 1 if state else 1)
            state = reduce_session(state, event)
            if kind == "session.message":
                messages.add(f"{workspace} {event['data']['message']['id']}")
        assert state == await stored(context, workspace, "s1")
        # Whatever lives is due.
        due = await store.execute("ZSCORE", context.keys.due(workspace), "session:s1")
        assert (due is not None) == (state is not None)
    assert set(told["acknowledged"]) <= messages
    assert len(messages) > DEATHS
    # And somebody will look: two rounds, for roots that a dead process had claimed.
    for _ in range(2):
        hand.move(60)
        await context.sweeper.sweep()
    for workspace in workspaces:
        assert await replay(context, workspace, "s1") is None
        assert await store.execute("KEYS", f"fw:{{{workspace}}}:wm*") == []
        assert await store.execute("EXISTS", context.keys.due(workspace)) == 0
