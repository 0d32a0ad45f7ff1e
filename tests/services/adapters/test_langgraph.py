"""LangGraph: nodes that interrupt for gates, drivers that are cut off and come back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TypedDict

import msgspec
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from channels.errors import Conflict, UsageError
from services import Services
from services.adapters import langgraph as adapter
from services.gate import AlreadyDecided
from services.requires_approval import ApprovalRejected


class State(TypedDict, total=False):
    """What the graphs here know."""

    amount: int
    result: str
    results: list


@pytest.fixture
async def approvals(valkey):
    """Approvals that can wait."""
    async with Services.connect(valkey.url) as services:
        yield services.for_workspace("w1").approvals


def config(thread="t1"):
    """Return the config of a thread."""
    return {"configurable": {"thread_id": thread}}


def graph_of(node, **options):
    """Return a graph of one node."""
    builder = StateGraph(State)
    builder.add_node("act", node)
    builder.add_edge(START, "act")
    builder.add_edge("act", END)
    return builder.compile(checkpointer=InMemorySaver(), **options)


def pay(state: State) -> State:
    """Ask, then act."""
    gate = adapter.ask("pay", {"amount": state["amount"]}, requested_by="agent", reason="why")
    return {"result": f"paid {gate.approved_args['amount']}"}


async def open_gates(approvals, count=1):
    """Return the open gates when there are so many."""
    async with asyncio.timeout(10):
        while len(items := (await approvals.list_open()).items) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return items


async def say(approvals, verdict="approve", gate=None, **options):
    """Decide the one open gate."""
    gate = gate or (await open_gates(approvals))[0]
    return await approvals.decide(gate.gate, verdict, actor="ann", decision_id="d", **options)


async def test_a_node_goes_on_when_its_gate_is_approved(approvals):
    """The gate says what the node asked, where it stands, and is used up."""
    graph = graph_of(pay)
    running = asyncio.create_task(adapter.run(graph, {"amount": 5}, config(), approvals))
    (gate,) = await open_gates(approvals)
    assert (gate.tool, gate.args, gate.reason, gate.thread_id) == (
        "pay",
        {"amount": 5},
        "why",
        "t1",
    )
    assert gate.interrupt_id == (await graph.aget_state(config())).interrupts[0].id
    await say(approvals)
    assert (await running)["result"] == "paid 5"
    gate = await approvals.get(gate.gate)
    assert (gate.status, gate.consumed_by) == ("consumed", "t1")


async def test_a_node_acts_on_edited_arguments(approvals):
    """They are what was approved."""
    running = asyncio.create_task(adapter.run(graph_of(pay), {"amount": 5}, config(), approvals))
    await say(approvals, "edit", payload={"amount": 3})
    assert (await running)["result"] == "paid 3"


async def test_an_async_node_asks_as_well(approvals):
    """Whatever runs it."""

    async def node(state: State) -> State:
        gate = adapter.ask("pay", {"amount": state["amount"]})
        return {"result": gate.status}

    running = asyncio.create_task(adapter.run(graph_of(node), {"amount": 5}, config(), approvals))
    await say(approvals)
    assert (await running)["result"] == "consumed"


async def test_a_rejection_is_raised_in_the_node(approvals):
    """Which may do something else then, or let the graph fail."""

    def careful(state: State) -> State:
        try:
            return pay(state)
        except ApprovalRejected as rejected:
            return {"result": f"not paid: {rejected.gate.decision.comment}"}

    for node, expected in ((careful, "not paid: too much"), (pay, None)):
        thread = node.__name__
        graph = graph_of(node)
        running = asyncio.create_task(adapter.run(graph, {"amount": 5}, config(thread), approvals))
        await say(approvals, "reject", comment="too much")
        if expected:
            assert (await running)["result"] == expected
        else:
            with pytest.raises(ApprovalRejected):
                await running


async def test_a_driver_that_is_cut_off_finds_its_gate(approvals):
    """Also after the answer came, and after the approval was used."""
    graph = graph_of(pay)
    for start in ({"amount": 5}, None, None):
        running = asyncio.create_task(adapter.run(graph, start, config(), approvals))
        await open_gates(approvals)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    await say(approvals)
    state = await graph.aget_state(config())
    command = await adapter.answers(approvals, state.interrupts, thread_id="t1")
    assert command is not None  # and the driver dies before it could go on
    final = await adapter.run(graph, None, config(), approvals)
    assert final["result"] == "paid 5"
    assert len((await approvals.list()).items) == 1
    assert await adapter.run(graph, None, config(), approvals) == final


async def test_a_second_thread_asks_for_itself(approvals):
    """An approval of one conversation is none of another."""
    graph = graph_of(pay)
    tasks = [
        asyncio.create_task(adapter.run(graph, {"amount": 5}, config(thread), approvals))
        for thread in ("a", "b")
    ]
    gates = await open_gates(approvals, 2)
    assert {gate.thread_id for gate in gates} == {"a", "b"}
    for gate in gates:
        await say(approvals, gate=gate)
    assert [state["result"] for state in await asyncio.gather(*tasks)] == ["paid 5"] * 2


async def test_several_at_once_and_one_after_another(approvals):
    """Parallel tasks, each asking twice: every question is a gate of its own."""

    def two(state: State) -> State:
        first = adapter.ask("pay", {"amount": state["amount"]})
        second = adapter.ask("book", {"after": first.approved_args["amount"]})
        return {"results": [second.approved_args["after"]]}

    builder = StateGraph(State)
    builder.add_node("work", lambda state: (two(state), None)[1])
    builder.add_conditional_edges(
        START, lambda state: [Send("work", {"amount": n}) for n in range(3)], ["work"]
    )
    graph = builder.compile(checkpointer=InMemorySaver())
    running = asyncio.create_task(adapter.run(graph, {"amount": 0}, config(), approvals))
    decided = set()
    async with asyncio.timeout(20):
        while len(decided) < 6:
            for gate in (await approvals.list_open()).items:
                await say(approvals, gate=gate)
                decided.add(gate.gate)
            await asyncio.sleep(0.005)
    await running
    tools = sorted(gate.tool for gate in (await approvals.list()).items)
    assert tools == ["book"] * 3 + ["pay"] * 3


async def test_other_interrupts_are_left_alone(approvals):
    """The caller gets them as from the graph itself."""

    def node(state: State) -> State:
        return {"result": interrupt("how old are you?")}

    graph = graph_of(node)
    state = await adapter.run(graph, {"amount": 1}, config(), approvals)
    assert state["__interrupt__"][0].value == "how old are you?"
    assert (await approvals.list()).items == []
    assert (await graph.ainvoke(Command(resume="7"), config()))["result"] == "7"


@pytest.mark.parametrize("outcome", ["yes", {"approved": True}, None])
async def test_only_a_gate_is_an_answer(approvals, outcome):
    """Whoever resumes by hand with something else is refused."""
    graph = graph_of(pay)
    await graph.ainvoke({"amount": 5}, config())
    if outcome is None:
        gate = await approvals.request("pay", {"amount": 500}, gate_id="other")
        outcome = msgspec.to_builtins(gate)
    with pytest.raises(Conflict):
        await graph.ainvoke(Command(resume=outcome), config())


async def test_an_approval_that_somebody_used_is_not_used_again(approvals):
    """The graph does not go on with it."""
    graph = graph_of(pay)
    running = asyncio.create_task(adapter.run(graph, {"amount": 5}, config(), approvals))
    (gate,) = await open_gates(approvals)
    running.cancel()
    await asyncio.wait([running])
    gate = await say(approvals)
    await approvals.consume(gate.gate, run="somebody", args_sha256=gate.digest)
    with pytest.raises(AlreadyDecided):
        await adapter.run(graph, None, config(), approvals)


async def test_a_thread_must_have_a_name(approvals):
    """Nothing could be found again without."""
    with pytest.raises(UsageError):
        await adapter.run(graph_of(pay), {"amount": 5}, {}, approvals)
