"""LangGraph: a node that interrupts for a gate, and a driver that resumes with its outcome.

    def refund(state):
        gate = ask("refund", {"order": state["order"]})     # interrupts; returns when approved
        return {"result": pay(**gate.approved_args)}

    final = await run(graph, {"order": "o7"}, config, approvals)

The node does no I/O: what waits is the driver, in any process that has the checkpoint. A gate's
id follows from thread and interrupt, so that a driver that was killed finds its gates again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel
from langgraph.types import Command, Interrupt, interrupt

from channels.canonical import digest
from channels.errors import Conflict, UsageError
from services.adapters.derived import derived_id
from services.approval_request import OnTimeout
from services.approvals import Approvals
from services.gate import Gate
from services.requires_approval import raise_unless_approved

__all__ = ["answers", "ask", "run"]

_MARK: Final = "fanwire.approval"


def ask(
    tool: str,
    args: Mapping[str, object],
    *,
    requested_by: str = "",
    approvers: Sequence[str] = (),
    quorum: int = 1,
    allow_self: bool = False,
    response_schema: Mapping[str, object] | None = None,
    expires_in_s: float | None = 3600,
    on_timeout: OnTimeout = "reject",
    escalate_to: Sequence[str] = (),
    escalate_in_s: float | None = None,
    reason: str = "",
) -> Gate:
    """Interrupt the graph until a gate is decided; return it when its action may run.

    To be called in a node, with the options of :meth:`Approvals.request`. As LangGraph runs the
    node again from its top, what stands before this call runs twice.

    Raises:
        ApprovalRejected, ApprovalExpired, ApprovalCancelled: the action must not run.
        Conflict: the graph was resumed with the outcome of something else.
    """
    wanted = {
        "requested_by": requested_by,
        "approvers": list(approvers),
        "quorum": quorum,
        "allow_self": allow_self,
        "response_schema": None if response_schema is None else dict(response_schema),
        "expires_in_s": expires_in_s,
        "on_timeout": on_timeout,
        "escalate_to": list(escalate_to),
        "escalate_in_s": escalate_in_s,
        "reason": reason,
    }
    outcome = interrupt({"kind": _MARK, "tool": tool, "args": dict(args), "options": wanted})
    try:
        gate = msgspec.convert(outcome, Gate)
    except msgspec.ValidationError as error:
        raise Conflict(f"expected the outcome of a gate for {tool}; {error}") from None
    if (gate.tool, gate.args_sha256) != (tool, digest(args)):
        raise Conflict(
            f"gate {gate.gate!r} is for {gate.tool!r} with arguments {gate.args_sha256[:16]}...; "
            f"the node now asks for {tool!r} with {digest(args)[:16]}..."
        )
    raise_unless_approved(gate)
    return gate


async def answers(
    approvals: Approvals, interrupts: Iterable[Interrupt[Any]], *, thread_id: str, run: str = ""
) -> Command[Any] | None:
    """Ask for what ``interrupts`` want, wait for all of it, and return how to go on.

    Interrupts that :func:`ask` did not make are left alone; None if there is no other one.
    What was approved is used up before the graph goes on, by ``run``, the thread unless told: a
    driver of the same thread that starts again after that gets the same answer.

    Raises:
        AlreadyDecided: somebody else used an approval. StoreError: from asking.
    """
    ours = [one for one in interrupts if _is_ours(one.value)]
    if not ours:
        return None
    gates = await asyncio.gather(*(_decided(approvals, one, thread_id, run) for one in ours))
    return Command(
        resume={one.id: msgspec.to_builtins(gate) for one, gate in zip(ours, gates, strict=True)}
    )


async def _decided(approvals: Approvals, one: Interrupt[Any], thread_id: str, run: str) -> Gate:
    gate = await approvals.request(
        one.value["tool"],
        one.value["args"],
        gate_id=derived_id("lg", thread_id, one.id),
        run=run or thread_id,
        thread_id=thread_id,
        interrupt_id=one.id,
        **one.value["options"],
    )
    gate = await approvals.wait(gate.gate)
    if gate.dispatchable or gate.status == "consumed":
        gate = await approvals.consume(gate.gate, run=run or thread_id, args_sha256=gate.digest)
    return gate


def _is_ours(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("kind") == _MARK


async def run(
    graph: Pregel[Any, Any, Any, Any],
    input: object,  # noqa: A002 - LangGraph's word for it
    config: RunnableConfig,
    approvals: Approvals,
) -> Any:  # noqa: ANN401 - the graph's state
    """Run a graph to its end, or to an interrupt that is not ours; return its state.

    With None for ``input`` it goes on where the thread is, as a process does that was started
    again. The graph needs a checkpointer and the config a ``thread_id``.

    Raises:
        UsageError: there is no thread id. Whatever the graph raises.
    """
    thread_id = str(config.get("configurable", {}).get("thread_id", ""))
    if not thread_id:
        raise UsageError("the config names no thread_id, so nothing could be found again")
    state = None
    if input is not None or not (await graph.aget_state(config)).interrupts:
        state = await graph.ainvoke(input, config)
    while True:
        snapshot = await graph.aget_state(config)
        command = await answers(approvals, snapshot.interrupts, thread_id=thread_id)
        if command is None:
            return snapshot.values if state is None else state
        state = await graph.ainvoke(command, config)
