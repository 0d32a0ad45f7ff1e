"""A session followed over a WebSocket of a real hub, joined with a snapshot, to its end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from channels.position import Position
from channels.reduce_session import reduce_session
from clients import Delivery, Subscriber
from services.door import Services
from services.snapshots import Snapshot
from tests.hub.cli.process import real_hub
from tests.servers import ValkeyServer
from tests.services.test_session_processes import answer, writer


async def follow(url: str, taken: Snapshot) -> list[tuple[Position, Any]]:
    """Apply to a snapshot what comes after it; return every state until the session's end."""
    state = json.loads(taken.data)
    states = [(taken.position, state)]
    async with Subscriber(url) as hub, hub.subscribe("session:w1:s1", since=taken.position) as feed:
        async for item in feed:
            assert isinstance(item, Delivery), item
            state = reduce_session(state, json.loads(item.raw))
            states.append((item.position, state))
            if state is None:
                break
    return states


async def test_readers_know_what_the_store_knows(valkey: ValkeyServer, tmp_path: Path) -> None:
    """Whenever they join, while another process writes; and the hub itself ends the session."""
    redis_url = {"FANWIRE_REDIS_URL": valkey.url}
    async with (
        real_hub(tmp_path, "--insecure", **redis_url) as url,
        Services.connect(valkey.url) as services,
    ):
        sessions = services.for_workspace("w1").sessions
        await sessions.create_session("s1", "ada", max_age_s=10_000)
        process = await writer("churn", valkey.url, 1.5, 200)
        ended = asyncio.create_task(answer(process))
        readers = []
        while not ended.done():
            readers.append(asyncio.create_task(follow(url, await sessions.snapshot("s1"))))
            await asyncio.wait([ended], timeout=0.25)
        await sessions.delete_session("s1")
        states = await asyncio.gather(*readers)
        nothing = await sessions.snapshot("s1")
        await sessions.create_session("s1", "ada", idle_ttl_s=1)
        last = await follow(url, nothing)
    known = dict(max(states, key=len))
    assert len(known) > 100
    for seen in states:
        for position, state in seen:
            assert known.setdefault(position, state) == state
        assert seen[-1][1] is None
    # Nobody here runs a sweeper: the hub does.
    assert [state and state["version"] for _, state in last] == [None, 1, None]
