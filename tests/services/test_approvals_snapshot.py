"""Snapshots: state and position of one moment, from which events lead to every later state."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from channels.errors import RequestError
from channels.position import Position
from channels.reduce_approvals import OpenApprovals, OpenGate
from services.approval_snapshot import SNAPSHOT_BYTES
from services.approval_store import MAX_OPEN
from services.store.port import Store

from .approval_support import Stage

FIELDS = OpenGate.__struct_fields__


@pytest.fixture
def store(any_store: Store) -> Store:
    """Of each kind: a service must not see a difference."""
    return any_store


async def snapshot(stage, workspace="w1"):
    """Return what the hub would send."""
    channel = stage.of(workspace).channel
    return await stage.context.snapshots.find(channel)(channel)


async def act(stage, chance, n):
    """Do one random thing to one of a few gates; refusals are part of it."""
    approvals, gate = stage.of(), f"g{chance.randrange(12)}"
    actor = chance.choice(["ann", "bob", "cy", "agent"])
    try:
        match chance.randrange(8):
            case 0 | 1 | 2:
                await approvals.request(
                    "pay", {"gate": gate, "n": 1.5}, gate_id=f"{gate}-{n}" if n % 2 else gate,
                    requested_by="agent", quorum=chance.choice([1, 2, 3]), reason='"quoted" \\ ü',
                    expires_in_s=chance.choice([None, 3, 10]),
                    approvers=chance.choice([(), ("ann", "bob", "cy")]),
                )  # fmt: skip
            case 3 | 4:
                await approvals.decide(gate, "approve", actor=actor, decision_id=f"d{n}",
                                       payload=chance.choice([None, {"x": "y"}]))  # fmt: skip
            case 5:
                await approvals.decide(
                    gate, "edit", actor=actor, decision_id=f"d{n}", payload={"gate": gate, "n": n}
                )
            case 6:
                verdict = (
                    approvals.cancel(gate)
                    if n % 2
                    else approvals.decide(gate, "reject", actor=actor, decision_id=f"d{n}")
                )
                await verdict
            case 7:
                stage.hand.move(1)
                await stage.context.sweeper.sweep()
    except RequestError:
        return


def view(gate):
    """Return what a reader of events knows of an open gate."""
    return {name: getattr(gate, name) for name in FIELDS}


@pytest.mark.parametrize("seed", range(6))
async def test_a_snapshot_and_the_events_after_it_are_the_state(store, seed):
    """From every position of a random history, the reducer arrives at what the store has."""
    stage, chance = Stage(store), random.Random(seed)
    taken = [await snapshot(stage)]
    for n in range(120):
        # Several at once, so that snapshots fall between writers.
        await asyncio.gather(act(stage, chance, 2 * n), act(stage, chance, 2 * n + 1))
        if n % 6 == 0:
            taken.append(await snapshot(stage))
    channel = stage.of().channel
    page = await stage.context.log.read(channel, limit=1_000)
    gates = []
    cursor = ""
    while True:
        listed = await stage.of().list_open(limit=7, cursor=cursor)
        gates += listed.items
        if not (cursor := listed.next):
            break
    state = {gate.gate: view(gate) for gate in gates}
    assert len(page.publications) > 50
    assert state
    for one in taken:
        approvals = OpenApprovals(one.data)
        assert b"\n" not in one.data
        assert one.position.epoch == page.top.epoch
        for publication in page.publications:
            if publication.offset > one.position.offset:
                approvals.apply(channel.declaration.check_data(publication.data))
            elif publication.offset == one.position.offset:
                assert publication.id == one.id
        assert {id_: view(gate) for id_, gate in approvals.gates.items()} == state


async def test_a_snapshot_of_nothing_has_a_position(store):
    """To begin from; and another workspace's gates are not in it."""
    stage = Stage(store)
    await stage.of("w2").request("pay", {}, gate_id="g")
    empty = await snapshot(stage)
    told = {"workspace": "w1", "gates": [], "brief": [], "more": 0}
    assert msgspec.json.decode(empty.data) == told
    assert empty.position.offset == 0
    assert empty.position.epoch
    theirs = await snapshot(stage, "w2")
    assert theirs.position == Position(theirs.position.epoch, 1)


async def test_a_snapshot_takes_few_commands(valkey, store):
    """One script: the top of the log, which gates there are, their sizes, and themselves."""
    stage = Stage(store)
    await stage.of().request("pay", {})
    await snapshot(stage)

    def calls() -> dict[str, int]:
        with valkey.client() as client:
            stats = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}

    before = calls()
    await snapshot(stage)
    after = calls()
    used = {name: count - before.get(name, 0) for name, count in after.items()}
    for name in ("info", "hello", "ping", "publish", "client", "client|setinfo", "select"):
        used.pop(name, None)
    told = {name: n for name, n in used.items() if n}
    assert told == {"evalsha": 1, "hmget": 3, "zrevrange": 1}


#: Arguments so large that eight gates with them go into a snapshot, and no ninth.
LARGE = {"text": "x" * 60_000}


async def test_what_has_no_room_is_told_in_brief(store):
    """The newest are whole, those that are too large are named, and nothing is lost."""
    stage = Stage(store)
    for n in range(11):
        args = {} if n in (0, 5) else LARGE
        await stage.of().request("pay", args, gate_id=f"g{n}", requested_by="agent")
        stage.hand.move(1)
    one = await snapshot(stage)
    approvals = OpenApprovals(one.data)
    assert len(one.data) < SNAPSHOT_BYTES + 1_000
    assert list(approvals.gates) == ["g10", "g9", "g8", "g7", "g6", "g5", "g4", "g3", "g2", "g0"]
    assert list(approvals.brief) == ["g1"]
    assert approvals.more == 0
    gate, brief = await stage.of().get("g1"), approvals.brief["g1"]
    names = brief.__struct_fields__
    assert [getattr(gate, name) for name in names] == [getattr(brief, name) for name in names]
    await stage.of().decide("g4", "approve", actor="ann", decision_id="d1")
    approvals = OpenApprovals((await snapshot(stage)).data)
    assert "g1" in approvals.gates
    assert not approvals.brief


async def test_too_many_gates_are_counted(tcp_store):
    """Also when all that may be open have the longest names; what ends is told of them too."""
    stage, text = Stage(tcp_store), "\u2028" * 190

    async def ask(first: int) -> None:
        for n in range(first, MAX_OPEN, 20):
            await stage.of().request(text, {"n": n}, gate_id=f"g{n:063}", run=text)

    await asyncio.gather(*(ask(first) for first in range(20)))
    one = await snapshot(stage)
    assert SNAPSHOT_BYTES - 10_000 < len(one.data) < SNAPSHOT_BYTES + 1_000
    approvals = OpenApprovals(one.data)
    known = {*approvals.gates, *approvals.brief}
    assert len(known) + approvals.more == MAX_OPEN
    assert approvals.more > 0
    unknown = next(id_ for n in range(MAX_OPEN) if (id_ := f"g{n:063}") not in known)
    before = approvals.more
    for gate in (unknown, next(iter(known))):
        await stage.of().cancel(gate)
    page = await stage.context.log.read(stage.of().channel, since=one.position)
    told = [stage.of().channel.declaration.check_data(pub.data) for pub in page.publications]
    assert [approvals.apply(event) for event in told] == [True, True]
    assert approvals.more == before - 1
    assert len({*approvals.gates, *approvals.brief}) == len(known) - 1


async def test_votes_and_escalations_are_told_of_gates_in_brief(store):
    """Snapshot and events lead to what a later snapshot says."""
    stage = Stage(store)
    for n in range(9):
        await stage.of().request(
            "pay", LARGE, gate_id=f"g{n}", quorum=2, expires_in_s=30,
            on_timeout="escalate", escalate_to=["bob", "cy"], escalate_in_s=99,
        )  # fmt: skip
        stage.hand.move(1)
    one = await snapshot(stage)
    approvals = OpenApprovals(one.data)
    assert list(approvals.brief) == ["g0"]
    await stage.of().decide("g0", "approve", actor="ann", decision_id="d1")
    stage.hand.move(21)
    await stage.context.sweeper.sweep()
    for event in (await stage.events())[one.position.offset :]:
        assert approvals.apply(event)
    later = OpenApprovals((await snapshot(stage)).data)
    assert (approvals.gates, approvals.brief) == (later.gates, later.brief)
    assert later.brief["g0"].version == 3
