"""Waiting for an answer: pushed, shared, and it comes whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest

from channels.catalogue import Catalogue
from channels.errors import NotFound, StoreUnavailable
from services import Services
from services.approval_store import ApprovalStore
from services.approval_wait import GateWaits
from services.approvals import Approvals
from services.store.tcp import TcpStore, TcpStoreOptions

from .support import RecordingSink

#: Longer than any test: what is answered was pushed.
NEVER_S = 1_000.0
QUICK = TcpStoreOptions(backoff_s=(0.001, 0.05))


@pytest.fixture
async def services(valkey):
    """Services whose waiters read again after 1,000 seconds only."""
    async with _services(valkey.url) as opened:
        yield opened


def _services(url: str, *, fallback_s: float = NEVER_S) -> Services:
    opened = Services(TcpStore(url, QUICK))
    opened.context.gate_waits = GateWaits(fallback_s=fallback_s)
    opened.context.gate_waits.use(opened.follower)
    return opened


@pytest.fixture
async def others(valkey):
    """The services of somebody else, who decides."""
    async with Services.connect(valkey.url) as opened:
        yield opened


async def decide(services, gate, verdict="approve", *, workspace="w1", **options):
    """Decide from elsewhere."""
    approvals = services.for_workspace(workspace).approvals
    return await approvals.decide(gate, verdict, actor="ann", decision_id="d", **options)


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """Count the reads of each gate."""
    counted: Counter[str] = Counter()
    read = ApprovalStore.read

    async def count(self, gate):
        counted[gate] += 1
        return await read(self, gate)

    monkeypatch.setattr(ApprovalStore, "read", count)
    return counted


async def _waiting(services, count=1, workspace="w1") -> None:
    """Return when so many wait and the channel is followed."""
    channel = services.for_workspace(workspace).approvals.channel
    bells = services.context.gate_waits._bells
    async with asyncio.timeout(10):
        while True:
            bell = bells.get(channel.name)
            if bell is not None and bell.count == count and bell.tapped:
                break
            await asyncio.sleep(0.001)  # nothing tells of this
        await asyncio.sleep(0.02)  # the read that follows


async def test_an_answer_is_pushed(services, others, reads):
    """Two reads, whatever the time: one at the beginning, one at the event."""
    approvals = services.for_workspace("w1").approvals
    await approvals.request("pay", {}, gate_id="g")
    await approvals.request("pay", {}, gate_id="other")
    waiting = asyncio.create_task(approvals.wait("g"))
    await _waiting(services)
    await others.for_workspace("w1").approvals.cancel("other")
    gate = await decide(others, "g")
    assert await asyncio.wait_for(waiting, 10) == gate
    assert reads["g"] == 3  # the decision reads it, too
    assert reads["other"] == 1


async def test_a_vote_wakes_once(services, others, reads):
    """The gate is read, is still open, and is waited for again."""
    approvals = services.for_workspace("w1").approvals
    await approvals.request("pay", {}, gate_id="g", quorum=2)
    waiting = asyncio.create_task(approvals.wait("g"))
    await _waiting(services)
    await decide(others, "g")
    before = reads["g"]
    await asyncio.sleep(0.1)
    assert reads["g"] <= before + 1
    await others.for_workspace("w1").approvals.decide("g", "reject", actor="b", decision_id="e")
    assert (await asyncio.wait_for(waiting, 10)).status == "rejected"


async def test_what_is_decided_already_is_returned(services, others):
    """Whoever asks late does not wait."""
    approvals = services.for_workspace("w1").approvals
    await approvals.request("pay", {}, gate_id="g")
    gate = await decide(others, "g", "reject")
    assert await approvals.wait("g", timeout_s=10) == gate


async def test_many_share_one_follow_and_leave_nothing(services, others):
    """A thousand waiters on three channels: three subscriptions, none afterwards."""
    tasks = []
    for n in range(1_000):
        approvals = services.for_workspace(f"w{n % 3}").approvals
        await approvals.request("pay", {}, gate_id=f"g{n}")
        tasks.append(asyncio.create_task(approvals.wait(f"g{n}")))
    for n, count in enumerate((334, 333, 333)):
        await _waiting(services, count, f"w{n}")
    assert len(services.follower._followed) == 3
    for n in range(1_000):
        await decide(others, f"g{n}", workspace=f"w{n % 3}")
    gates = await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert {gate.status for gate in gates} == {"approved"}
    assert not services.follower._followed
    assert not services.follower._junctions
    assert not services.context.gate_waits._bells


async def test_waiting_can_be_cancelled_and_repeated(services, others):
    """It changes nothing, and nothing of it stays."""
    approvals = services.for_workspace("w1").approvals
    await approvals.request("pay", {}, gate_id="g")
    for _ in range(20):
        task = asyncio.create_task(approvals.wait("g"))
        await asyncio.sleep(0.001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    with pytest.raises(TimeoutError):
        await approvals.wait("g", timeout_s=0.05)
    assert not services.context.gate_waits._bells
    assert not services.follower._followed
    assert (await approvals.get("g")).version == 1
    task = asyncio.create_task(approvals.wait("g"))
    gate = await decide(others, "g")
    assert await asyncio.wait_for(task, 10) == gate


async def test_what_does_not_exist_is_not_waited_for(services):
    """The caller learns it at once."""
    with pytest.raises(NotFound):
        await services.for_workspace("w1").approvals.wait("g")
    assert not services.context.gate_waits._bells


async def test_a_gate_that_ends_by_itself_needs_no_sweeper(services):
    """Whoever waits looks at the deadline; nobody else is running here."""
    approvals = services.for_workspace("w1").approvals
    await approvals.request("pay", {}, gate_id="g", expires_in_s=0.1)
    gate = await asyncio.wait_for(approvals.wait("g"), 10)
    assert gate.status == "expired"


async def test_an_escalation_is_waited_through(services, others):
    """The new deadline counts then."""
    approvals = services.for_workspace("w1").approvals
    await approvals.request(
        "pay", {}, gate_id="g", expires_in_s=0.05, on_timeout="escalate", escalate_in_s=60
    )
    task = asyncio.create_task(approvals.wait("g"))
    while (await others.for_workspace("w1").approvals.get("g")).version == 1:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    gate = await decide(others, "g")
    assert await asyncio.wait_for(task, 10) == gate


async def test_a_lost_event_costs_a_delay_only(valkey, others, monkeypatch):
    """The slow read finds what no event told."""
    async with _services(valkey.url, fallback_s=0.1) as services:
        approvals = services.for_workspace("w1").approvals
        await approvals.request("pay", {}, gate_id="g")
        task = asyncio.create_task(approvals.wait("g"))
        await _waiting(services)
        (bell,) = services.context.gate_waits._bells.values()
        monkeypatch.setattr(type(bell), "on_publication", lambda *_: None)
        await decide(others, "g")
        assert (await asyncio.wait_for(task, 10)).status == "approved"


async def test_a_gap_has_everybody_look(services, others):
    """History was cut while the subscription was: the gate is read again."""
    approvals = services.for_workspace("w1").approvals
    await approvals.request("pay", {}, gate_id="g")
    task = asyncio.create_task(approvals.wait("g"))
    await _waiting(services)
    (followed,) = services.follower._followed.values()
    followed.held = []  # deaf
    followed.troubled = True
    await decide(others, "g")
    await others.events.remove_history(approvals.channel.name)
    followed.held = None
    followed.on_interrupted()
    assert (await asyncio.wait_for(task, 10)).status == "approved"


async def test_killed_subscribers_are_woken(services, others, valkey):
    """The subscription is cut again and again while gates are decided."""
    approvals = services.for_workspace("w1").approvals
    tasks = []
    for n in range(200):
        await approvals.request("pay", {}, gate_id=f"g{n}")
        tasks.append(asyncio.create_task(approvals.wait(f"g{n}")))
    await _waiting(services, 200)
    with valkey.client() as client:
        for n in range(200):
            if n % 10 == 0:
                client.client_kill_filter(_type="pubsub")
            await decide(others, f"g{n}")
    gates = await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert {gate.status for gate in gates} == {"approved"}


async def test_a_server_that_is_killed_is_waited_through(valkey_server):
    """kill -9 of Valkey between question and answer: the answer comes, once."""
    server = valkey_server()
    async with _services(server.url) as services, Services(TcpStore(server.url, QUICK)) as others:
        approvals = services.for_workspace("w1").approvals
        await approvals.request("pay", {}, gate_id="g")
        tasks = [asyncio.create_task(approvals.wait("g")) for _ in range(5)]
        await _waiting(services, 5)
        for _ in range(3):
            await asyncio.to_thread(server.crash)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(StoreUnavailable):
                    gate = await decide(others, "g")
                    break
                await asyncio.sleep(0.01)
        assert await asyncio.wait_for(asyncio.gather(*tasks), 20) == [gate] * 5


async def test_closing_the_services_ends_the_waits(valkey):
    """Whoever forgot a wait is told, and nothing goes on behind the door."""
    async with _services(valkey.url) as services:
        approvals = services.for_workspace("w1").approvals
        await approvals.request("pay", {}, gate_id="g")
        task = asyncio.create_task(approvals.wait("g"))
        await _waiting(services)
    with pytest.raises(StoreUnavailable, match="closed"):
        await asyncio.wait_for(task, 10)
    with pytest.raises(StoreUnavailable, match="closed"):
        await approvals.wait("g")
    assert not services.context.gate_waits._bells


async def test_waiting_begins_while_the_server_is_away(valkey_server):
    """A process that starts in an outage waits for the server, too."""
    server = valkey_server()
    async with Services(TcpStore(server.url, QUICK)) as others:
        await others.for_workspace("w1").approvals.request("pay", {}, gate_id="g")
        await decide(others, "g")
    await asyncio.to_thread(server.stop)
    services = Services(TcpStore(server.url, QUICK), wait=False)
    async with services:
        task = asyncio.create_task(services.for_workspace("w1").approvals.wait("g"))
        await asyncio.sleep(0.2)
        assert not task.done()
        await asyncio.to_thread(server.start)
        assert (await asyncio.wait_for(task, 20)).status == "approved"


# -- beside a hub ---------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["waiter", "room"])
async def test_a_waiter_and_a_room_share_a_channel(services, others, first):
    """In one process both follow the channel, whoever came first and whoever leaves."""
    approvals = services.for_workspace("w1").approvals
    follower, channel = services.follower, approvals.channel
    for gate in ("g1", "g2", "g3"):
        await approvals.request("pay", {}, gate_id=gate)
    sink = RecordingSink()
    if first == "room":
        await follower.start(channel, sink)
    tasks = [asyncio.create_task(approvals.wait(gate)) for gate in ("g1", "g2", "g3")]
    await _waiting(services, 3)
    if first == "waiter":
        await follower.start(channel, sink)
    await decide(others, "g1")
    assert (await asyncio.wait_for(tasks[0], 10)).status == "approved"
    await sink.wait_for(1)
    await follower.stop(channel)
    sink.ended = True
    await decide(others, "g2")
    assert (await asyncio.wait_for(tasks[1], 10)).status == "approved"
    again = RecordingSink()
    position, _ = await follower.start(channel, again)
    assert position.offset == 5
    await decide(others, "g3")
    assert (await asyncio.wait_for(tasks[2], 10)).status == "approved"
    await again.wait_for(1)
    # Nobody waits any more; the room stays.
    await approvals.request("pay", {}, gate_id="g4")
    await again.wait_for(2)
    assert len(sink.publications) == 1
    assert not sink.faults + again.faults
    await follower.stop(channel)
    assert not follower._followed


async def test_a_room_begins_where_the_log_is(services, others):
    """Also where the waiters' follow was behind: nothing in the log is told to it again."""
    approvals = services.for_workspace("w1").approvals
    follower, channel = services.follower, approvals.channel
    await approvals.request("pay", {}, gate_id="g")
    task = asyncio.create_task(approvals.wait("g"))
    await _waiting(services)
    await services.store.unlisten(services.keys.pubsub(channel))  # messages stop coming
    await decide(others, "g")
    sink = RecordingSink()
    position, _ = await follower.start(channel, sink)
    assert position.offset == 2
    assert (await asyncio.wait_for(task, 10)).status == "approved"
    assert not sink.publications


async def test_a_room_may_come_and_go_under_traffic(services, others):
    """Each time it is told every publication after its position; no waiter misses its answer."""
    approvals = services.for_workspace("w1").approvals
    follower, channel = services.follower, approvals.channel
    tasks = []
    for n in range(60):
        await approvals.request("pay", {}, gate_id=f"g{n}")
        tasks.append(asyncio.create_task(approvals.wait(f"g{n}")))
    await _waiting(services, 60)

    async def come_and_go() -> None:
        while not all(task.done() for task in tasks):
            sink = RecordingSink()
            position, _ = await follower.start(channel, sink)
            assert sink.position is None or sink.position == position
            sink.position = position
            await asyncio.sleep(0.003)
            await follower.stop(channel)
            assert not sink.faults

    async def answer() -> None:
        for n in range(60):
            await decide(others, f"g{n}")
            await asyncio.sleep(0.001)

    async with asyncio.timeout(30):
        await asyncio.gather(come_and_go(), answer(), *tasks)
    assert not follower._junctions


async def test_without_a_follower_gates_are_read(store, keys):
    """A context on its own has nobody who follows: it looks every two seconds or sooner."""
    from services.context import Context  # noqa: PLC0415

    context = Context(store, keys, Catalogue())
    context.gate_waits = GateWaits(fallback_s=0.02)
    approvals = Approvals(context, "w1")
    await approvals.request("pay", {}, gate_id="g")
    task = asyncio.create_task(approvals.wait("g"))
    await asyncio.sleep(0.05)
    await approvals.decide("g", "approve", actor="ann", decision_id="d")
    assert (await asyncio.wait_for(task, 10)).status == "approved"
