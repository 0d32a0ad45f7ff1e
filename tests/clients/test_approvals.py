"""Waiting for decisions over the hub: pushed, whatever happens to connections and hubs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from channels import events as e
from channels.catalogue import Channel
from channels.errors import (
    BadRequest,
    HubUnavailable,
    NotFound,
    PermissionDenied,
    UsageError,
)
from clients import ApprovalWaits, Backoff, Decision, wait_for_decision
from services.snapshots import Snapshot
from tests.e2e.processes import free_port
from tests.hub.serving import Served, open_settings, served, strict_settings, token
from tests.servers import ValkeyServer

NAME = "approvals:w1"
PATIENCE_S = 10


def quick() -> Backoff:
    """Return short pauses."""
    return Backoff(0.01, 0.05)


class Gates:
    """The gates of a workspace, as far as those who wait can see: events, snapshot, reading."""

    def __init__(self) -> None:
        self.all: dict[str, dict[str, Any]] = {}
        self.reads: list[str] = []
        self.hub: Served | None = None

    def serve(self, hub: Served) -> None:
        """Tell of them through ``hub`` from now on."""
        self.hub = hub
        hub.hub.services.context.snapshots.offer("approvals", self.snapshot)

    async def snapshot(self, channel: Channel) -> Snapshot:
        """Return the open gates. (Not in one script: nothing else goes on in these tests.)"""
        assert self.hub is not None
        page = await self.hub.hub.services.events.log.read(channel, limit=0)
        gates = [gate for gate in self.all.values() if gate.get("status", "pending") == "pending"]
        data = json.dumps({"workspace": "w1", "gates": gates}).encode()
        return Snapshot(data, page.top, page.top_id)

    async def read(self, workspace: str, gate: str) -> bytes:
        """Return a gate as the hub would over HTTP."""
        assert workspace == "w1"
        self.reads.append(gate)
        if gate not in self.all:
            raise NotFound(f"there is no gate {gate!r}")
        return json.dumps(self.all[gate]).encode()

    async def tell(self, event: e.Event, **changes: Any) -> None:
        """Change a gate and tell of it."""
        assert self.hub is not None
        gate = event.data.gate  # type: ignore[attr-defined]  # an event of approvals
        self.all[gate] = {**self.all.get(gate, {"gate": gate}), **changes}
        await self.hub.hub.services.events.publish(NAME, event)

    async def request(self, gate: str) -> None:
        """Open a gate."""
        data = e.ApprovalRequestedData(workspace="w1", gate=gate, tool="send")
        await self.tell(e.ApprovalRequested(data=data))

    async def approve(self, gate: str, **fields: Any) -> None:
        """Approve it."""
        data = e.ApprovalDecisionData(
            workspace="w1", gate=gate, decision="d1", actor="ann", **fields
        )
        vote = {"decision": "d1", "actor": "ann", "verdict": "approve", **fields}
        await self.tell(e.ApprovalApproved(data=data), status="approved", decision=vote)


@pytest.fixture
def gates() -> Gates:
    """Gates that nobody asked for yet."""
    return Gates()


@pytest.fixture
async def hub(valkey: ValkeyServer, gates: Gates) -> AsyncIterator[Served]:
    """A hub that tells of them."""
    async with served(open_settings(valkey.url)) as at:
        gates.serve(at)
        yield at


@asynccontextmanager
async def waits(hub: Served, gates: Gates) -> AsyncIterator[ApprovalWaits]:
    """Open a connection to wait over."""
    async with ApprovalWaits(hub.url, backoff=quick, read_gate=gates.read) as approvals:
        yield approvals


async def begun(hub: Served, approvals: ApprovalWaits, workspace: str = "w1") -> None:
    """Return when the open gates of the workspace are known."""
    async with asyncio.timeout(PATIENCE_S):
        while (  # noqa: ASYNC110 - what is known sends no event
            watch := approvals._watches.get(workspace)
        ) is None or watch.gates is None:
            await asyncio.sleep(0.005)


async def test_a_decision_is_pushed(hub: Served, gates: Gates) -> None:
    """Whoever waits has it at once, without reading anything."""
    await gates.request("g1")
    async with waits(hub, gates) as approvals:
        waiting = asyncio.create_task(approvals.wait("w1", "g1"))
        await begun(hub, approvals)
        await gates.approve("g1", comment="fine", payload={"n": 1})
        decision = await waiting
        assert decision == Decision(
            workspace="w1",
            gate="g1",
            outcome="approved",
            actor="ann",
            comment="fine",
            payload={"n": 1},
            decision="d1",
        )
        assert decision.approved
        assert gates.reads == []


_OF = {"workspace": "w1", "gate": "g1"}
_BY = {"decision": "d1", "actor": "ann"}
ENDINGS: dict[str, tuple[e.Event, str, bool]] = {
    "edited": (
        e.ApprovalEdited(data=e.ApprovalDecisionData(**_OF, **_BY, payload={"a": 1})),
        "edited",
        True,
    ),
    "rejected": (e.ApprovalRejected(data=e.ApprovalDecisionData(**_OF, **_BY)), "rejected", False),
    "cancelled": (
        e.ApprovalCancelled(data=e.ApprovalCancelledData(**_OF, actor="bob", reason="no need")),
        "cancelled",
        False,
    ),
    "expired": (e.ApprovalExpired(data=e.ApprovalExpiredData(**_OF)), "expired", False),
    "expired, approved": (
        e.ApprovalExpired(data=e.ApprovalExpiredData(**_OF, outcome="approved")),
        "approved",
        True,
    ),
    "consumed": (
        e.ApprovalConsumed(data=e.ApprovalConsumedData(**_OF, run="r1")),
        "consumed",
        False,
    ),
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_every_end_of_a_gate_is_one(hub: Served, gates: Gates, how: str) -> None:
    """And says whether the action may be carried out."""
    event, outcome, approved = ENDINGS[how]
    await gates.request("g1")
    async with waits(hub, gates) as approvals:
        waiting = asyncio.create_task(approvals.wait("w1", "g1"))
        await begun(hub, approvals)
        await gates.tell(event)
        decision = await waiting
        assert (decision.outcome, decision.approved) == (outcome, approved)


async def test_what_leaves_a_gate_open_is_no_decision(hub: Served, gates: Gates) -> None:
    """Others may decide now; another gate is another's."""
    await gates.request("g1")
    await gates.request("g2")
    async with waits(hub, gates) as approvals:
        waiting = asyncio.create_task(approvals.wait("w1", "g1"))
        await begun(hub, approvals)
        data = e.ApprovalExpiredData(**_OF, outcome="escalated")
        await gates.tell(e.ApprovalExpired(data=data))
        await gates.approve("g2")
        assert (await approvals.wait("w1", "g2")).approved
        assert not waiting.done()
        await gates.approve("g1")
        assert (await waiting).gate == "g1"


@pytest.mark.parametrize("first", [True, False])
async def test_what_was_decided_before_is_read(hub: Served, gates: Gates, first: bool) -> None:
    """A gate that is not among the open ones, at the beginning or later."""
    await gates.request("g1")
    await gates.approve("g1", payload=[1])
    await gates.request("open")
    async with waits(hub, gates) as approvals:
        other = asyncio.create_task(approvals.wait("w1", "open"))
        if not first:
            await begun(hub, approvals)
        decision = await approvals.wait("w1", "g1")
        assert (decision.outcome, decision.actor, decision.payload) == ("approved", "ann", [1])
        assert gates.reads == ["g1"]
        other.cancel()


async def test_edited_arguments_are_the_payload(hub: Served, gates: Gates) -> None:
    """Whoever said the last word: what was approved is what was proposed."""
    gates.all["g1"] = {
        "gate": "g1",
        "status": "edited",
        "version": 3,
        "decision": {"decision": "d2", "actor": "bob", "verdict": "approve"},
        "args_sha256": "a",
        "proposed": {"to": "x"},
        "proposed_sha256": "b",
    }
    async with waits(hub, gates) as approvals:
        decision = await approvals.wait("w1", "g1")
        assert (decision.outcome, decision.actor, decision.version) == ("edited", "bob", 3)
        assert (decision.payload, decision.args_sha256) == ({"to": "x"}, "b")


async def test_a_gate_that_is_not_there(hub: Served, gates: Gates) -> None:
    """Is told to whoever waits for it, and to nobody else."""
    await gates.request("g1")
    async with waits(hub, gates) as approvals:
        waiting = asyncio.create_task(approvals.wait("w1", "g1"))
        with pytest.raises(NotFound, match="nobody"):
            await approvals.wait("w1", "nobody")
        await gates.approve("g1")
        assert (await waiting).approved


async def test_a_gate_that_is_asked_for_meanwhile(hub: Served, gates: Gates) -> None:
    """What is open when it is read will be told."""
    await gates.request("other")
    async with waits(hub, gates) as approvals:
        other = asyncio.create_task(approvals.wait("w1", "other"))
        await begun(hub, approvals)
        gates.all["g1"] = {"gate": "g1"}  # whose request is still to be told
        waiting = asyncio.create_task(approvals.wait("w1", "g1"))
        while not gates.reads:  # noqa: ASYNC110 - turns are all there is to wait for
            await asyncio.sleep(0)
        await gates.request("g1")
        await gates.approve("g1")
        assert (await waiting).approved
        other.cancel()


async def test_a_read_that_fails_is_tried_again(hub: Served, gates: Gates) -> None:
    """Until the hub can tell."""
    await gates.request("g1")
    await gates.approve("g1")
    failures = 3

    async def read(workspace: str, gate: str) -> bytes:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise HubUnavailable("not now")
        return await gates.read(workspace, gate)

    async with ApprovalWaits(hub.url, backoff=quick, read_gate=read) as approvals:
        assert (await approvals.wait("w1", "g1")).approved


async def test_many_wait_over_one_subscription(hub: Served, gates: Gates) -> None:
    """For the same gate and for others; the channel is left when nobody waits, and met again."""
    for number in range(20):
        await gates.request(f"g{number}")
    async with waits(hub, gates) as approvals:
        for _ in range(2):
            waiting = [
                asyncio.create_task(approvals.wait("w1", f"g{number % 20}")) for number in range(40)
            ]
            await begun(hub, approvals)
            assert len(hub.hub.engine.rooms[NAME]) == 1
            for task in waiting[:10]:
                task.cancel()
            await asyncio.gather(*(gates.approve(f"g{number}") for number in range(20)))
            decisions = await asyncio.gather(*waiting[10:])
            assert {decision.gate for decision in decisions} == set(gates.all)
            assert approvals._watches == {}
            for gate in list(gates.all):
                gates.all[gate].pop("status")
        assert gates.reads == []


async def test_the_decision_survives_a_hub(valkey: ValkeyServer, gates: Gates) -> None:
    """Made while the hub is away, it is there when the next one is; history or not."""
    settings = msgspec.structs.replace(open_settings(valkey.url), port=free_port())
    async with served(settings) as first:
        gates.serve(first)
        await gates.request("g1")
        await gates.request("g2")
        approvals = ApprovalWaits(first.url, backoff=quick, read_gate=gates.read)
        await approvals.__aenter__()
        waiting = [asyncio.create_task(approvals.wait("w1", gate)) for gate in ("g1", "g2")]
        await begun(first, approvals)
    async with served(open_settings(valkey.url)) as elsewhere:
        gates.serve(elsewhere)
        await gates.approve("g1")
    async with served(settings) as second:
        gates.serve(second)
        assert (await waiting[0]).approved
        assert gates.reads == []
    async with served(open_settings(valkey.url)) as elsewhere:
        gates.serve(elsewhere)
        await gates.approve("g2")
        await elsewhere.hub.services.events.remove_history(NAME)
    async with served(settings) as third:
        gates.serve(third)
        assert (await waiting[1]).approved
        assert gates.reads == ["g2"]
        await approvals.aclose()


async def test_a_wait_has_an_end(hub: Served, gates: Gates) -> None:
    """After its time-out, and with the connection."""
    await gates.request("g1")
    async with waits(hub, gates) as approvals:
        with pytest.raises(TimeoutError):
            await approvals.wait("w1", "g1", timeout_s=0.05)
        with pytest.raises(BadRequest):
            await approvals.wait("w1:w2", "g1")
        waiting = asyncio.create_task(approvals.wait("w1", "g1"))
        await begun(hub, approvals)
    with pytest.raises(UsageError, match="closed"):
        await waiting
    left = [task for task in asyncio.all_tasks() if "waits" in task.get_name()]
    assert left == []


async def test_other_workspaces_are_out_of_reach(valkey: ValkeyServer, gates: Gates) -> None:
    """The hub says no, and waiting would not help."""
    async with served(strict_settings(valkey.url)) as hub:
        gates.serve(hub)
        async with ApprovalWaits(
            hub.url, token=token(workspaces=["w1"]), backoff=quick, read_gate=gates.read
        ) as approvals:
            with pytest.raises(PermissionDenied):
                await approvals.wait("w2", "g1")
            gates.all["g1"] = {"gate": "g1", "status": "rejected"}
            assert (await approvals.wait("w1", "g1")).outcome == "rejected"


class Rest:
    """Answers ``GET /v1/approvals/...`` as told, and notes who asked."""

    def __init__(self, *answers: tuple[int, object]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        self.requests.append(request)
        status, body = self.answers.pop(0)
        return httpx.Response(status, json=body)

    async def wait(self, hub: Served, **options: Any) -> Decision:
        """Wait for a gate that has to be read."""
        transport = httpx.MockTransport(self)
        async with ApprovalWaits(
            hub.url, backoff=quick, transport=transport, **options
        ) as approvals:
            return await approvals.wait("w1", "g1", timeout_s=PATIENCE_S)


GATE = {"gate": "g1", "status": "rejected", "decision": {"actor": "ann", "comment": "no"}}


async def test_a_gate_is_read_over_http(hub: Served) -> None:
    """From where the hub has it, as who waits for it."""
    rest = Rest((503, {"detail": "not now", "code": 100}), (200, GATE))
    decision = await rest.wait(hub)
    assert (decision.outcome, decision.comment) == ("rejected", "no")
    assert str(rest.requests[0].url) == f"{hub.url}/v1/approvals/g1?workspace=w1"
    assert "Authorization" not in rest.requests[0].headers


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"detail": "there is no gate", "code": 404}, NotFound),
        (404, {}, NotFound),
        (403, {"detail": "not yours", "code": 103}, PermissionDenied),
        (400, {"detail": "no", "code": 107}, BadRequest),
    ],
)
async def test_a_refusal_over_http_is_told(
    hub: Served, status: int, body: object, kind: type[Exception]
) -> None:
    """What no retry helps is raised."""
    with pytest.raises(kind):
        await Rest((status, body)).wait(hub)


async def test_an_expired_token_is_replaced_over_http(valkey: ValkeyServer, gates: Gates) -> None:
    """As it is over the WebSocket."""
    async with served(strict_settings(valkey.url)) as hub:
        gates.serve(hub)
        given: list[str] = []

        async def get_token() -> str:
            given.append(token(workspaces=["w1"], ttl_s=60 + len(given)))
            return given[-1]

        rest = Rest((401, {"detail": "ended", "code": 109}), (200, GATE))
        assert (await rest.wait(hub, get_token=get_token)).outcome == "rejected"
        sent = [request.headers["Authorization"] for request in rest.requests]
        assert len(set(sent)) == 2
        assert set(sent) <= {f"Bearer {one}" for one in given}


async def test_one_decision_by_one_call(hub: Served, gates: Gates) -> None:
    """The function opens, waits and closes."""
    await gates.request("g1")
    waiting = asyncio.create_task(wait_for_decision(hub.url, "w1", "g1", timeout_s=PATIENCE_S))
    async with asyncio.timeout(PATIENCE_S):
        rooms = hub.hub.engine.rooms
        while not (NAME in rooms and rooms[NAME]._settled):  # noqa: ASYNC110 - nor do rooms
            await asyncio.sleep(0.005)
    await gates.approve("g1")
    assert (await waiting).approved
