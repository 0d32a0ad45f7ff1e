"""An AG-UI agent that must not refund without a yes: two runs, and a gate between them.

Needs Redis or Valkey (``FANWIRE_REDIS_URL``) and ``fanwire[ag-ui]``. Prints the events that the
agent sends; the client of this example says yes, but to a smaller amount:

    RUN_STARTED
    RUN_FINISHED interrupt: Approve refund?
    RUN_STARTED
    TOOL_CALL_RESULT refunded 20 of o7
    RUN_FINISHED success
"""

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import uuid4

from ag_ui.core import (
    BaseEvent,
    ResumeEntry,
    RunAgentInput,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    ToolCallResultEvent,
)

from services import Services
from services.adapters.ag_ui import interrupted, resume
from services.approvals import Approvals

REDIS = os.environ.get("FANWIRE_REDIS_URL", "redis://127.0.0.1:6379")
CALL = "call-1"


async def agent(
    approvals: Approvals, asked: RunAgentInput, *, user: str
) -> AsyncIterator[BaseEvent]:
    """One run of the agent; ``user`` is who is logged in at the other end."""
    thread, run = asked.thread_id, asked.run_id
    yield RunStartedEvent(thread_id=thread, run_id=run)
    if asked.resume:
        gates = await resume(approvals, asked.resume, actor=user, run_id=run)
    else:
        gates = [
            await approvals.request(
                "refund",
                {"order": "o7", "amount": 50},
                requested_by="agent",
                run=run,
                thread_id=thread,
                interrupt_id=CALL,
            )
        ]
    waiting = [gate for gate in gates if gate.open]
    if waiting:
        yield interrupted(waiting, thread_id=thread, run_id=run)
        return
    for gate in gates:
        if gate.dispatchable:
            # Just before the action, so that a run that is sent twice does it once.
            await approvals.consume(gate.gate, run=run, args_sha256=gate.digest)
            result = "refunded {amount} of {order}".format(**gate.approved_args)
        else:
            result = f"not refunded: {gate.status}"
        yield ToolCallResultEvent(message_id=str(uuid4()), tool_call_id=CALL, content=result)
    yield RunFinishedEvent(thread_id=thread, run_id=run, outcome=RunFinishedSuccessOutcome())


def show(event: BaseEvent) -> None:
    """Print an event in a line."""
    detail = ""
    if isinstance(event, ToolCallResultEvent):
        detail = f" {event.content}"
    elif isinstance(event, RunFinishedEvent):
        detail = " success"
        if isinstance(event.outcome, RunFinishedInterruptOutcome):
            detail = f" interrupt: {event.outcome.interrupts[0].message}"
    print(f"{event.type.value}{detail}")


async def main() -> None:
    """Play the client: start a run, and answer its interrupt in the next one."""
    thread = f"thread-{uuid4()}"
    async with Services.connect(REDIS) as services:
        approvals = services.for_workspace("examples").approvals
        asked = RunAgentInput(thread_id=thread, run_id=f"run-{uuid4()}", messages=[])
        answers: list[ResumeEntry] = []
        async for event in agent(approvals, asked, user="ann"):
            show(event)
            if isinstance(event, RunFinishedEvent) and isinstance(
                event.outcome, RunFinishedInterruptOutcome
            ):
                for interrupt in event.outcome.interrupts:
                    edited = {"order": "o7", "amount": 20}
                    answers.append(
                        ResumeEntry(
                            interrupt_id=interrupt.id,
                            status="resolved",
                            payload={"approved": True, "editedArgs": edited},
                        )
                    )
        again = RunAgentInput(
            thread_id=thread, run_id=f"run-{uuid4()}", messages=[], resume=answers
        )
        async for event in agent(approvals, again, user="ann"):
            show(event)


if __name__ == "__main__":
    asyncio.run(main())
