"""OpenAI Agents SDK: tools with ``needs_approval``, decided at gates.

    @function_tool(needs_approval=True)
    async def refund(order: str) -> str: ...

    result = await run(agent, "Refund order o7", approvals, thread="t1")

A run that stops for approvals is a ``RunState``, which can be kept as JSON and answered in
another process. A gate's id follows from thread and tool call, so that it is found again.

The SDK runs a tool with the arguments that the model chose and no others. So after an edit the
model is told which arguments were approved; when it calls the tool with exactly those, the same
gate lets it through and nobody is asked twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypedDict

from agents import Agent, RunConfig, Runner, RunResult, RunState, TResponseInputItem
from agents.items import ToolApprovalItem
from typing_extensions import Unpack

from channels.canonical import canonical_json, digest
from channels.errors import FanwireError
from services.adapters.derived import derived_id
from services.approval_request import OnTimeout
from services.approvals import Approvals
from services.gate import AlreadyDecided, Gate
from services.requires_approval import ApprovalDenied, raise_unless_approved

__all__ = ["Options", "answer", "run"]

#: Pages of 100 gates among which an edited one is looked for.
_PAGES: Final = 5


class Options(TypedDict, total=False):
    """What :meth:`Approvals.request` takes, the same for all tools of a run."""

    requested_by: str
    approvers: list[str]
    quorum: int
    allow_self: bool
    expires_in_s: float | None
    on_timeout: OnTimeout
    escalate_to: list[str]
    escalate_in_s: float | None
    reason: str


async def answer(
    approvals: Approvals, state: RunState[Any], *, thread: str, **options: Unpack[Options]
) -> list[Gate]:
    """Ask for every tool call that ``state`` stopped at, wait, and tell the state.

    An approved call is used up before this returns; the state can then be run. A
    call that was refused is rejected with the reason, which the model sees. Done again with the
    same state, by whatever process, it asks nobody twice.

    Raises:
        StoreError, and what ``request`` and ``wait`` raise: the state is as it was.
    """
    items = state.get_interruptions()
    gates = await asyncio.gather(*(_decided(approvals, item, thread, options) for item in items))
    for item, gate in zip(items, gates, strict=True):
        refusal = _refusal(gate, item)
        if refusal:
            state.reject(item, rejection_message=refusal)
        else:
            state.approve(item)
    return list(gates)


async def _decided(
    approvals: Approvals, item: ToolApprovalItem, thread: str, options: Options
) -> Gate:
    tool, args, user = item.tool_name or "tool", _arguments(item), _user(item, thread)
    edited = await _edited_before(approvals, tool, args, thread, user)
    if edited is not None:
        with contextlib.suppress(AlreadyDecided):  # another call of the same turn was first
            return await approvals.consume(edited.gate, run=user, args_sha256=edited.digest)
    gate = await approvals.request(
        tool,
        args,
        gate_id=derived_id("oa", thread, _call_id(item)),
        run=thread,
        thread_id=thread,
        interrupt_id=_call_id(item),
        **options,
    )
    gate = await approvals.wait(gate.gate)
    if gate.digest == digest(args) and (gate.dispatchable or gate.status == "consumed"):
        gate = await approvals.consume(gate.gate, run=user, args_sha256=gate.digest)
    return gate


async def _edited_before(
    approvals: Approvals, tool: str, args: Mapping[str, object], thread: str, user: str
) -> Gate | None:
    """Return the gate at which somebody put these very arguments in place of others.

    One that is not used, or was used for this call before whoever did so was cut off.
    """
    wanted, cursor = (tool, thread, digest(args)), ""
    for _ in range(_PAGES):
        page = await approvals.list(limit=100, cursor=cursor)
        for gate in page.items:
            free = gate.status == "edited" or (
                gate.consumed_by == user and gate.proposed_sha256 != ""
            )
            if free and (gate.tool, gate.thread_id, gate.digest) == wanted:
                return gate
        cursor = page.next
        if not cursor:
            break
    return None


def _refusal(gate: Gate, item: ToolApprovalItem) -> str:
    """Return why a call must not run, empty if it may."""
    try:
        raise_unless_approved(gate)
    except ApprovalDenied as denied:
        return denied.message
    if gate.digest == digest(_arguments(item)):
        return ""
    approved = canonical_json(gate.approved_args).decode()
    return (
        f"{gate.tool} was not run with these arguments. It is approved with exactly these "
        f"instead, and needs no further approval with them: {approved}"
    )


def _user(item: ToolApprovalItem, thread: str) -> str:
    """Return who uses an approval: one call, so that another one with the same arguments asks."""
    return derived_id("oa-call", thread, _call_id(item))


def _raw(item: ToolApprovalItem, name: str) -> object:
    raw: Any = item.raw_item
    return raw.get(name) if isinstance(raw, dict) else getattr(raw, name, None)


def _call_id(item: ToolApprovalItem) -> str:
    return str(_raw(item, "call_id") or _raw(item, "id") or "")


def _arguments(item: ToolApprovalItem) -> dict[str, Any]:
    """Return what the tool would be called with; what is no object under one name."""
    raw = _raw(item, "arguments")
    if isinstance(raw, str):
        try:
            decoded = json.loads(raw or "{}")
        except ValueError:
            decoded = raw
        return decoded if isinstance(decoded, dict) else {"arguments": decoded}
    for name in ("action", "operation"):  # shell and patch tools
        if (value := _raw(item, name)) is not None:
            return {name: json.loads(json.dumps(value, default=_plain))}
    return {}


def _plain(value: Any) -> Any:  # noqa: ANN401 - pydantic models inside an item
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise FanwireError(f"a tool call holds a {type(value).__name__}, which JSON cannot")
    return dump(mode="json")


async def run(
    agent: Agent[Any],
    input: str | list[TResponseInputItem] | RunState[Any],  # noqa: A002 - the SDK's word
    approvals: Approvals,
    *,
    thread: str,
    save: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    run_config: RunConfig | None = None,
    max_turns: int = 10,
    **options: Unpack[Options],
) -> RunResult:
    """Run an agent to its end, waiting at gates wherever it stops for approval.

    ``save`` is given the state as JSON whenever the run stops, before anybody is waited for:
    another process goes on from there with ``await RunState.from_json(agent, state)`` as input.
    """
    result = await Runner.run(
        agent, await _answered(input, approvals, thread, options),
        max_turns=max_turns, run_config=run_config,
    )  # fmt: skip
    while result.interruptions:
        state = result.to_state()
        if save is not None:
            await save(state.to_json())
        await answer(approvals, state, thread=thread, **options)
        result = await Runner.run(agent, state, max_turns=max_turns, run_config=run_config)
    return result


async def _answered(
    input: str | list[TResponseInputItem] | RunState[Any],  # noqa: A002
    approvals: Approvals,
    thread: str,
    options: Options,
) -> str | list[TResponseInputItem] | RunState[Any]:
    if isinstance(input, RunState):
        await answer(approvals, input, thread=thread, **options)
    return input
