"""A LangGraph node that interrupts for a gate; the driver waits, wherever it runs.

Needs Redis or Valkey (``FANWIRE_REDIS_URL``) and ``fanwire[langgraph]``. A first driver is cut
off while it waits, as by a crash; a second one finds the same gate. Prints:

    the driver waits for: refund {'order': 'o7', 'amount': 50}
    the driver is gone; ann says yes
    refunded 50 of o7
"""

import asyncio
import contextlib
import os
from typing import TypedDict
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from services import Services
from services.adapters.langgraph import ask, run
from services.approvals import Approvals
from services.gate import Gate

REDIS = os.environ.get("FANWIRE_REDIS_URL", "redis://127.0.0.1:6379")


class State(TypedDict, total=False):
    """What the graph knows."""

    order: str
    amount: int
    result: str


def refund(state: State) -> State:
    """Refund an order, after somebody agreed."""
    args = {"order": state["order"], "amount": state["amount"]}
    gate = ask("refund", args, requested_by="agent", reason="money leaves the house")
    return {"result": "refunded {amount} of {order}".format(**gate.approved_args)}


async def asked(approvals: Approvals, thread: str) -> Gate:
    """Return the gate at which the thread waits, when it does."""
    while True:
        for gate in (await approvals.list_open()).items:
            if gate.thread_id == thread:
                return gate
        await asyncio.sleep(0.01)


async def main() -> None:
    """Run the graph twice: the second time where the first one was cut off."""
    builder = StateGraph(State)
    builder.add_node("refund", refund)
    builder.add_edge(START, "refund")
    builder.add_edge("refund", END)
    # A real one keeps its checkpoints in a database, so that another process has them, too.
    graph = builder.compile(checkpointer=InMemorySaver())
    thread = f"thread-{uuid4()}"
    config: RunnableConfig = {"configurable": {"thread_id": thread}}

    async with Services.connect(REDIS) as services:
        approvals = services.for_workspace("examples").approvals
        first = asyncio.create_task(run(graph, {"order": "o7", "amount": 50}, config, approvals))
        gate = await asked(approvals, thread)
        print(f"the driver waits for: {gate.tool} {gate.args}")
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        print("the driver is gone; ann says yes")
        await approvals.decide(gate.gate, "approve", actor="ann", decision_id=f"d-{uuid4()}")
        final = await run(graph, None, config, approvals)
        print(final["result"])


if __name__ == "__main__":
    asyncio.run(main())
