"""What the tests of approval gates share: gates on a clock that a test moves."""

from __future__ import annotations

import time

from channels.catalogue import Catalogue
from services.approvals import Approvals, install
from services.clock import Clock
from services.context import Context
from services.store.keys import Keys
from services.store.port import Store

__all__ = ["Hand", "Stage"]


class Hand:
    """A clock's hand: seconds since 1970, moved by the test."""

    def __init__(self) -> None:
        self.seconds = float(int(time.time()))

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds

    def move(self, seconds: float) -> None:
        """Let time go by."""
        self.seconds += seconds


class Stage:
    """Approvals of any workspace on one store, and the time."""

    def __init__(self, store: Store) -> None:
        self.hand = Hand()
        self.store = store
        self.context = Context(store, Keys("fw"), Catalogue(), clock=Clock(store, now=self.hand))
        install(self.context)

    def of(self, workspace: str = "w1") -> Approvals:
        """Return the approvals of a workspace."""
        return Approvals(self.context, workspace)

    async def events(self, workspace: str = "w1") -> list:
        """Return the events that were told, in order."""
        channel = self.of(workspace).channel
        page = await self.context.log.read(channel, limit=1_000)
        return [channel.declaration.check_data(pub.data) for pub in page.publications]

    async def types(self, workspace: str = "w1") -> list[str]:
        """Return their types, without the family's name."""
        tag = "approval."
        return [
            type(event).__struct_config__.tag.removeprefix(tag)
            for event in await self.events(workspace)
        ]
