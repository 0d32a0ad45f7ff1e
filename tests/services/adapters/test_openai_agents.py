"""OpenAI Agents SDK: tools that wait, states that survive, edits that the model follows."""

from __future__ import annotations

import asyncio
import json

import pytest
from agents import Agent, Model, ModelResponse, RunConfig, Runner, RunState, Usage, function_tool
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from services import Services
from services.adapters.openai_agents import answer, run

QUIET = RunConfig(tracing_disabled=True)


class Scripted(Model):
    """Says its lines: lists of tool calls ``(call id, arguments)``, then what the tools said."""

    def __init__(self, *lines) -> None:
        self.lines = list(lines)
        self.heard: list[str] = []

    async def get_response(self, system_instructions, input, *rest, **more):  # noqa: A002
        """Return the next line."""
        said = (
            [one["output"] for one in input if one.get("type") == "function_call_output"]
            if (isinstance(input, list))
            else []
        )
        self.heard = said
        if self.lines:
            output = [
                ResponseFunctionToolCall(
                    arguments=json.dumps(args), call_id=call, name="pay", type="function_call"
                )
                for call, args in self.lines.pop(0)
            ]
        else:
            text = ResponseOutputText(annotations=[], text=" | ".join(said), type="output_text")
            output = [
                ResponseOutputMessage(
                    id="m", content=[text], role="assistant", status="completed", type="message"
                )
            ]
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    def stream_response(self, *rest, **more):
        """Not used here."""
        raise NotImplementedError


@pytest.fixture
async def approvals(valkey):
    """Approvals that can wait."""
    async with Services.connect(valkey.url) as services:
        yield services.for_workspace("w1").approvals


@pytest.fixture
def paid():
    """What the tool paid."""
    return []


@pytest.fixture
def agent_of(paid):
    """Return an agent with one tool and these lines."""

    @function_tool(needs_approval=True)
    async def pay(amount: int) -> str:
        paid.append(amount)
        return f"paid {amount}"

    return lambda *lines: Agent(name="desk", model=Scripted(*lines), tools=[pay])


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


def start(agent, approvals, text="go", **options):
    """Run an agent in a task."""
    return asyncio.create_task(
        run(agent, text, approvals, run_config=QUIET, **{"thread": "t1"} | options)
    )


async def test_a_tool_runs_when_its_gate_is_approved(approvals, agent_of, paid):
    """Once; the gate says what it is for and is used up."""
    running = start(
        agent_of([("c1", {"amount": 5})]), approvals, requested_by="agent", reason="why"
    )
    (gate,) = await open_gates(approvals)
    assert (gate.tool, gate.args, gate.interrupt_id, gate.thread_id, gate.reason) == (
        "pay", {"amount": 5}, "c1", "t1", "why",
    )  # fmt: skip
    assert not paid
    await say(approvals)
    assert (await running).final_output == "paid 5"
    assert paid == [5]
    assert (await approvals.get(gate.gate)).status == "consumed"


@pytest.mark.parametrize("how", ["reject", "cancel", "expire"])
async def test_a_tool_does_not_run_when_refused(approvals, agent_of, paid, how):
    """The model learns why."""
    running = start(agent_of([("c1", {"amount": 5})]), approvals,
                    expires_in_s=0.1 if how == "expire" else 60)  # fmt: skip
    (gate,) = await open_gates(approvals)
    if how == "reject":
        await say(approvals, "reject", comment="too much")
    elif how == "cancel":
        await approvals.cancel(gate.gate, reason="other plans")
    said = (await running).final_output
    assert {"reject": "too much", "cancel": "other plans", "expire": "in time"}[how] in said
    assert not paid


async def test_a_state_is_answered_in_another_process(approvals, agent_of, paid):
    """The first dies waiting; its state is JSON, and its gate is found again."""
    kept = asyncio.Queue()
    running = start(agent_of([("c1", {"amount": 5})]), approvals, save=kept.put)
    state = json.dumps(await asyncio.wait_for(kept.get(), 10))
    await open_gates(approvals)
    running.cancel()
    await asyncio.wait([running])
    await say(approvals)
    agent = agent_of()
    for _ in range(2):  # and that one dies after it had used the approval
        again = await RunState.from_json(agent, json.loads(state))
        (gate,) = await answer(approvals, again, thread="t1")
        assert gate.status == "consumed"
    result = await Runner.run(agent, again, run_config=QUIET)
    assert result.final_output == "paid 5"
    assert paid == [5]
    assert len((await approvals.list()).items) == 1


async def test_a_model_follows_an_edit_without_asking_again(approvals, agent_of, paid):
    """It is told which arguments were approved, and with exactly these the tool runs, once."""
    agent = agent_of([("c1", {"amount": 50})], [("c2", {"amount": 20})], [("c3", {"amount": 20})])
    running = start(agent, approvals)
    await say(approvals, "edit", payload={"amount": 20})
    # The third call has the same arguments, and needs a yes of its own.
    (gate,) = await open_gates(approvals)
    assert paid == [20]
    assert (gate.args, gate.interrupt_id) == ({"amount": 20}, "c3")
    await say(approvals, "reject", gate=gate)
    result = await running
    assert 'exactly these instead, and needs no further approval with them: {"amount":20}' in (
        result.final_output
    )
    assert paid == [20]


async def test_an_edit_is_for_its_thread(approvals, agent_of, paid):
    """Another conversation with the same arguments asks."""
    edited = await approvals.request("pay", {"amount": 50}, thread_id="t1")
    await approvals.decide(
        edited.gate, "edit", actor="ann", decision_id="d", payload={"amount": 20}
    )
    running = start(agent_of([("c1", {"amount": 20})]), approvals, thread="t2")
    await say(approvals, "reject")
    await running
    assert not paid


async def test_several_calls_of_one_turn(approvals, agent_of, paid):
    """Each has its own gate and its own answer, also with the same arguments."""
    calls = [("c1", {"amount": 1}), ("c2", {"amount": 2}), ("c3", {"amount": 2})]
    running = start(agent_of(calls), approvals)
    gates = {gate.interrupt_id: gate for gate in await open_gates(approvals, 3)}
    await say(approvals, "reject", gates["c2"])
    await say(approvals, gate=gates["c1"])
    await say(approvals, gate=gates["c3"])
    await running
    assert sorted(paid) == [1, 2]


async def test_two_calls_do_not_share_one_edit(approvals, agent_of, paid):
    """One uses it; the other one asks."""
    edited = await approvals.request("pay", {"amount": 50}, thread_id="t1")
    await approvals.decide(edited.gate, "edit", actor="ann", decision_id="d", payload={"amount": 2})
    running = start(agent_of([("c1", {"amount": 2}), ("c2", {"amount": 2})]), approvals)
    await say(approvals, "reject")
    await running
    assert paid == [2]


async def test_arguments_that_are_no_object_are_shown(approvals, agent_of, paid):
    """A model may say anything."""
    running = start(agent_of([("c1", [1, 2])]), approvals)
    (gate,) = await open_gates(approvals)
    assert gate.args == {"arguments": [1, 2]}
    await say(approvals, "reject")
    await running
    assert not paid
