"""What the tests of sessions share: a clock to turn, and a replay to hold the state against."""

from __future__ import annotations

from typing import Any

import msgspec

from channels.catalogue import BUILT_IN, SESSION, Catalogue
from channels.declaration import ChannelDeclaration, History
from channels.publication import Publication
from channels.reduce_session import reduce_session
from services.clock import Clock
from services.context import Context
from services.session_manager import install
from services.snapshots import Snapshot
from services.store.keys import Keys
from services.store.port import Store

__all__ = [
    "NOON_MS",
    "Hand",
    "events_of",
    "make_context",
    "publications",
    "replay",
    "snapshot",
    "stored",
    "types_of",
]

#: 2026-01-02T03:04:05.678Z
NOON_MS = 1_767_323_045_678


class Hand:
    """The hand of a clock that moves only when it is told."""

    def __init__(self, ms: int = NOON_MS) -> None:
        self.ms = ms

    def __call__(self) -> float:
        """Return the time in seconds, as ``time.time`` does; a bit over for rounding."""
        return (self.ms + 0.25) / 1000

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.ms += round(seconds * 1000)


#: The declared channels, but the log of a session keeps everything a test does to it.
_CATALOGUE = Catalogue(
    [
        ChannelDeclaration(
            SESSION.pattern,
            root="workspace",
            events=SESSION.events,
            history=History(size=100_000, ttl_s=3_600),
        )
        if one is SESSION
        else one
        for one in BUILT_IN
    ]
)


def make_context(store: Store, hand: Hand | None = None) -> Context:
    """Return the ground of services on ``store``, with sessions; its clock shows ``hand``."""
    clock = Clock(store, now=hand) if hand else None
    context = Context(store, Keys("fw"), _CATALOGUE, clock=clock)
    install(context)
    return context


async def publications(context: Context, workspace: str, session: str) -> list[Publication]:
    """Return everything in the log of a session's channel, the oldest first."""
    channel = context.catalogue.find(f"session:{workspace}:{session}")
    found: list[Publication] = []
    while True:
        since = found[-1].position if found else None
        page = await context.log.read(channel, since=since)
        found += page.publications
        if not page.publications:
            return found


async def events_of(context: Context, workspace: str, session: str) -> list[dict[str, Any]]:
    """Return the events of a session, the oldest first."""
    found = await publications(context, workspace, session)
    return [msgspec.json.decode(publication.data) for publication in found]


async def types_of(context: Context, workspace: str, session: str) -> list[str]:
    """Return the types of a session's events, without the part they share."""
    events = await events_of(context, workspace, session)
    return [event["type"].removeprefix("session.") for event in events]


async def snapshot(context: Context, workspace: str, session: str) -> Snapshot:
    """Return the snapshot that the session's channel offers."""
    channel = context.catalogue.find(f"session:{workspace}:{session}")
    read = context.snapshots.find(channel)
    assert read is not None
    return await read(channel)


async def stored(context: Context, workspace: str, session: str) -> Any:
    """Return the state in the store, as the snapshot tells it."""
    return msgspec.json.decode((await snapshot(context, workspace, session)).data)


async def replay(context: Context, workspace: str, session: str) -> Any:
    """Return the state that the events of a session make, from its beginning."""
    state = None
    for event in await events_of(context, workspace, session):
        state = reduce_session(state, event)
    return state
