"""What the tests of approval gates share: gates on a clock that a test moves."""

from __future__ import annotations

import time

from channels.catalogue import Catalogue
from channels.reduce_approvals import OpenApprovals
from services.approvals import Approvals, install
from services.clock import Clock
from services.context import Context
from services.store.keys import Keys
from services.store.port import Store

__all__ = ["Hand", "Stage", "assert_agreement"]


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


async def assert_agreement(stage: Stage, workspace: str) -> list:
    """Check that gates, lists, audit and event log say the same; return the gates."""
    approvals, events = stage.of(workspace), await stage.events(workspace)
    page = await stage.context.log.read(approvals.channel, limit=1)
    assert page.top.offset == len(events)
    audit, cursor = [], ""
    while True:
        found = await approvals.audit(limit=500, cursor=cursor)
        audit += found.items
        if not (cursor := found.next):
            break
    assert [entry.event for entry in audit] == [event.id for event in events]
    for entry, event in zip(audit, events, strict=True):
        assert entry.what == type(event).__struct_config__.tag
        assert (entry.gate, entry.version, entry.at) == (
            event.data.gate,
            event.data.version,
            event.time,
        )
    by_gate: dict[str, list] = {}
    for entry in audit:
        by_gate.setdefault(entry.gate, []).append(entry)
    gates = []
    for id_, entries in by_gate.items():
        gate = await stage.of(workspace)._store.read(id_)
        gates.append(gate)
        assert [entry.version for entry in entries] == list(range(1, gate.version + 1)), id_
        assert entries[-1].status == gate.status
        decided = [
            entry
            for entry in entries
            if entry.what.partition(".")[2] in {"approved", "edited", "rejected"}
        ]
        assert len(decided) == (gate.decision is not None)
        for entry in decided:
            assert (entry.decision, entry.actor) == (gate.decision.decision, gate.decision.actor)
    keys, store = stage.context.keys, stage.store

    async def members(key: str) -> set[str]:
        return {name.decode() for name in await store.execute("ZRANGE", key, 0, -1)}

    opened = {gate.gate for gate in gates if gate.open}
    assert await members(keys.approvals(workspace)) == set(by_gate)
    assert await members(keys.approvals_open(workspace)) == opened
    ready = {gate.gate for gate in gates if gate.dispatchable}
    assert await members(keys.approvals_ready(workspace)) == ready
    due = {f"approval:{gate.gate}" for gate in gates if gate.open and gate.expires_at is not None}
    assert await members(keys.due(workspace)) == due
    snapshot = await stage.context.snapshots.find(approvals.channel)(approvals.channel)
    assert set(OpenApprovals(snapshot.data).gates) == opened
    return gates
