"""Functions behind a gate: they run with what was approved, once, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import date

import msgspec
import pytest

from channels.canonical import digest
from channels.errors import BadRequest, UsageError, VersionConflict
from services import Services
from services.approvals import Approvals
from services.gate import AlreadyDecided
from services.requires_approval import (
    ApprovalCancelled,
    ApprovalExpired,
    ApprovalRejected,
    gate_of_key,
    requires_approval,
)


@pytest.fixture
async def services(valkey):
    """Services whose hub does not run: whoever waits is enough."""
    async with Services.connect(valkey.url) as opened:
        yield opened


@pytest.fixture
def approvals(services):
    """Those of one workspace."""
    return services.for_workspace("w1").approvals


async def open_gate(approvals):
    """Return the gate that is open, when one is."""
    async with asyncio.timeout(10):
        while not (items := (await approvals.list_open()).items):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    (gate,) = items
    return gate


async def answer(approvals, verdict="approve", **options):
    """Decide the gate that is open."""
    gate = await open_gate(approvals)
    return await approvals.decide(gate.gate, verdict, actor="ann", decision_id="d", **options)


class Order(msgspec.Struct):
    """An argument with a type of its own."""

    id: str
    day: date


async def test_it_runs_with_what_was_approved(approvals):
    """The arguments of the call, under their names, defaults too."""
    runs = []

    @requires_approval(approvals, requested_by="agent", reason="refunds cost money")
    async def refund(order: Order, amount: int = 5, *, note: str = "") -> str:
        """Refund an order."""
        runs.append((order, amount, note))
        return "done"

    assert (refund.__name__, refund.__doc__) == ("refund", "Refund an order.")
    order = Order("o1", date(2026, 11, 25))
    call = asyncio.create_task(refund(order, note="n"))
    gate = await answer(approvals)
    assert await call == "done"
    assert runs == [(order, 5, "n")]
    assert (gate.tool, gate.reason, gate.requested_by) == ("refund", "refunds cost money", "agent")
    assert gate.args == {"order": {"id": "o1", "day": "2026-11-25"}, "amount": 5, "note": "n"}
    assert gate.args_sha256 == digest(gate.args)
    assert (await approvals.get(gate.gate)).status == "consumed"


async def test_it_runs_with_what_was_edited(approvals):
    """Converted to the function's types; what was left out has its default."""
    runs = []

    @requires_approval(approvals)
    async def refund(order: Order, amount: int = 5, *more: int, note: str = "x") -> None:
        runs.append((order, amount, more, note))

    call = asyncio.create_task(refund(Order("o1", date(2026, 1, 1)), 7, note="n"))
    edited = {"order": {"id": "o2", "day": "2026-02-02"}, "more": [1, 2]}
    await answer(approvals, "edit", payload=edited)
    await call
    assert runs == [(Order("o2", date(2026, 2, 2)), 5, (1, 2), "x")]


@pytest.mark.parametrize("payload", [{}, {"amount": "much"}, {"amount": 1, "extra": 2}])
async def test_an_edit_that_does_not_fit_runs_nothing(approvals, payload):
    """And the approval is not used up."""
    runs = []

    @requires_approval(approvals)
    async def refund(amount: int) -> None:
        runs.append(amount)

    call = asyncio.create_task(refund(7))
    gate = await answer(approvals, "edit", payload=payload)
    with pytest.raises(BadRequest):
        await call
    assert not runs
    assert (await approvals.get(gate.gate)).status == "edited"


async def test_it_does_not_run_when_refused(approvals):
    """Each way of it has an error of its own, which has the gate."""

    @requires_approval(approvals, expires_in_s=0.05, key=lambda how: how)
    async def act(how: str) -> None:
        raise AssertionError(how)

    @requires_approval(approvals, tool="act")
    async def slow(how: str) -> None:
        raise AssertionError(how)

    with pytest.raises(ApprovalExpired):
        await act("late")
    call = asyncio.create_task(slow("no"))
    await answer(approvals, "reject", comment="not today")
    with pytest.raises(ApprovalRejected, match="rejected by 'ann': not today") as told:
        await call
    assert told.value.gate.status == "rejected"
    call = asyncio.create_task(slow("never mind"))
    gate = await open_gate(approvals)
    await approvals.cancel(gate.gate, reason="other plans")
    with pytest.raises(ApprovalCancelled, match="other plans"):
        await call


async def test_a_restarted_process_finds_its_gate(services, valkey):
    """The first process dies waiting; the second asks nobody again and runs."""
    runs = []

    def pay_of(opened):
        @requires_approval(lambda: opened.for_workspace("w1").approvals)
        async def pay(amount: int) -> str:
            runs.append(amount)
            return f"paid {amount}"

        return pay

    approvals = services.for_workspace("w1").approvals
    async with Services.connect(valkey.url) as first:
        call = asyncio.create_task(pay_of(first).keyed("o7")(5))
        gate = await open_gate(approvals)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
    assert gate.gate == gate_of_key("pay", "o7")
    await answer(approvals)
    async with Services.connect(valkey.url) as second:
        assert await pay_of(second).keyed("o7")(5) == "paid 5"
        with pytest.raises(AlreadyDecided, match="was used"):
            await pay_of(second).keyed("o7")(5)
        assert runs == [5]


async def test_a_run_may_run_it_again(approvals):
    """Who names its run gets at least once instead of at most once."""
    runs = []

    @requires_approval(approvals, key=lambda amount: f"k{amount}")
    async def pay(amount: int) -> None:
        runs.append(amount)
        if len(runs) == 1:
            raise ConnectionError

    call = asyncio.create_task(pay.keyed("k5", run="r1")(5))
    await answer(approvals)
    with pytest.raises(ConnectionError):
        await call
    await pay.keyed("k5", run="r1")(5)
    assert runs == [5, 5]
    with pytest.raises(AlreadyDecided):
        await pay.keyed("k5", run="r2")(5)


async def test_who_is_cancelled_takes_the_request_back(approvals):
    """Nobody is asked to decide what nobody waits for."""

    @requires_approval(approvals)
    async def pay(amount: int) -> None:
        raise AssertionError(amount)

    call = asyncio.create_task(pay(5))
    gate = await open_gate(approvals)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await approvals.get(gate.gate)).status == "cancelled"


async def test_two_callers_with_one_key_run_it_once(approvals):
    """Both wait at one gate, and one of them uses it."""
    runs = []

    @requires_approval(approvals)
    async def pay(amount: int) -> None:
        runs.append(amount)

    calls = [asyncio.create_task(pay.keyed("k")(5)) for _ in range(5)]
    await answer(approvals)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert runs == [5]
    assert sum(isinstance(result, AlreadyDecided) for result in results) == 4


async def test_what_cannot_be_asked_is_refused_early(approvals):
    """A plain function, a key that is none, arguments that JSON does not know."""
    with pytest.raises(UsageError, match="not async"):
        requires_approval(approvals)(lambda: None)

    @requires_approval(approvals)
    async def pay(amount: object) -> None:
        raise AssertionError(amount)

    with pytest.raises(BadRequest):
        pay.keyed("")
    with pytest.raises(BadRequest, match="cannot be told in JSON"):
        await pay(object())
    with pytest.raises(TypeError, match="amoun"):
        await pay(amoun=1)


async def test_what_was_changed_meanwhile_does_not_run(approvals):
    """The approval is for the arguments that were shown, not for what became of the list."""
    runs = []

    @requires_approval(approvals)
    async def pay(people: list[str]) -> None:
        runs.append(people)

    people = ["ann"]
    call = asyncio.create_task(pay(people))
    gate = await open_gate(approvals)
    people.append("mal")
    await approvals.decide(gate.gate, "approve", actor="ann", decision_id="d")
    with pytest.raises(VersionConflict, match="was approved for arguments"):
        await call
    assert runs == []
    assert (await approvals.get(gate.gate)).status == "approved"


async def test_what_is_changed_at_the_last_moment_does_not_run(approvals, monkeypatch):
    """Nor what is changed while the approval is being used."""
    runs, people = [], ["ann"]

    @requires_approval(approvals)
    async def pay(people: list[str]) -> None:
        runs.append(people)

    consume = Approvals.consume

    async def slow(self: Approvals, *args: object, **options: object) -> object:
        gate = await consume(self, *args, **options)
        people.append("mal")
        return gate

    monkeypatch.setattr(Approvals, "consume", slow)
    call = asyncio.create_task(pay(people))
    await answer(approvals)
    with pytest.raises(VersionConflict, match="changed after they were approved"):
        await call
    assert runs == []
