"""An agent of the OpenAI Agents SDK whose tool needs a yes; its state survives as JSON.

Needs Redis or Valkey (``FANWIRE_REDIS_URL``) and ``fanwire[openai-agents]``; no key and no
network: a model of ours plays the part of the real one. Prints:

    waiting for: refund {"order":"o7","amount":50}
    ann allows 20
    the tool ran: 20 of o7
    Done: refunded 20 of o7
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Coroutine
from typing import Any
from uuid import uuid4

from agents import Agent, Model, ModelResponse, RunConfig, RunState, Usage, function_tool
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from services import Services
from services.adapters.openai_agents import run
from services.approvals import Approvals
from services.gate import Gate

REDIS = os.environ.get("FANWIRE_REDIS_URL", "redis://127.0.0.1:6379")
#: Where an approval names other arguments, the model is told so in these words.
ALLOWED = "no further approval with them: "


@function_tool(needs_approval=True)
async def refund(order: str, amount: int) -> str:
    """Refund an order."""
    print(f"the tool ran: {amount} of {order}")
    return f"refunded {amount} of {order}"


class Scripted(Model):
    """Calls the tool, with the arguments that were allowed if it is told of any."""

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:
        """Return the next step."""
        last = input[-1] if isinstance(input, list) else {}
        output = last.get("output", "") if last.get("type") == "function_call_output" else None
        if output is None:
            return self._call('{"order":"o7","amount":50}')
        if ALLOWED in output:
            return self._call(output.partition(ALLOWED)[2])
        text = ResponseOutputText(annotations=[], text=f"Done: {output}", type="output_text")
        message = ResponseOutputMessage(
            id="m", content=[text], role="assistant", status="completed", type="message"
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def _call(self, arguments: str) -> ModelResponse:
        call = ResponseFunctionToolCall(
            arguments=arguments, call_id=f"c-{uuid4()}", name="refund", type="function_call"
        )
        return ModelResponse(output=[call], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        """Not used here."""
        raise NotImplementedError


async def asked(approvals: Approvals, thread: str) -> Gate:
    """Return the gate at which the thread waits, when it does."""
    while True:
        for gate in (await approvals.list_open()).items:
            if gate.thread_id == thread:
                return gate
        await asyncio.sleep(0.01)


async def first_of(wanted: Coroutine[Any, Any, str], running: asyncio.Task[Any]) -> str:
    """Return what is wanted, unless what should bring it ends before."""
    task = asyncio.ensure_future(wanted)
    await asyncio.wait({task, running}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        task.cancel()
        running.result()
    return await task


async def main() -> None:
    """Stop at the tool, keep the state, and go on from it as another process would."""
    agent = Agent(name="desk", model=Scripted(), tools=[refund])
    config = RunConfig(tracing_disabled=True)
    thread, kept = f"thread-{uuid4()}", asyncio.Queue[str]()

    async def save(state: dict[str, Any]) -> None:
        await kept.put(json.dumps(state))

    async with Services.connect(REDIS) as services:
        approvals = services.for_workspace("examples").approvals
        first = asyncio.create_task(
            run(agent, "Refund order o7", approvals, thread=thread, save=save, run_config=config)
        )
        state = await first_of(kept.get(), first)
        gate = await asked(approvals, thread)
        first.cancel()  # as by a crash
        await asyncio.wait([first])
        print(f"waiting for: {gate.tool} {json.dumps(gate.args, separators=(',', ':'))}")

        edited = gate.args | {"amount": 20}
        await approvals.decide(
            gate.gate, "edit", actor="ann", decision_id=f"d-{uuid4()}", payload=edited
        )
        print("ann allows 20")
        again = await RunState.from_json(agent, json.loads(state))
        result = await run(agent, again, approvals, thread=thread, run_config=config)
        print(result.final_output)


if __name__ == "__main__":
    asyncio.run(main())
