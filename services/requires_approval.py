"""Functions that run only after a person agreed to their arguments.

@requires_approval(approvals, approvers=["ann"])
async def refund(order: str, amount: int) -> str: ...

await refund("o7", 500)                      # waits for ann's word
await refund.keyed("refund-o7")("o7", 500)   # a process that is started again finds its gate
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

import msgspec

from channels.canonical import canonical_json, digest
from channels.errors import (
    BadRequest,
    FanwireError,
    PermissionDenied,
    UsageError,
    VersionConflict,
)
from channels.ids import check_id
from services.approval_request import OnTimeout
from services.approvals import Approvals
from services.gate import Gate

__all__ = [
    "ApprovalCancelled",
    "ApprovalDenied",
    "ApprovalExpired",
    "ApprovalRejected",
    "ApprovedFunction",
    "gate_of_key",
    "raise_unless_approved",
    "requires_approval",
]

P = ParamSpec("P")
R = TypeVar("R")


class ApprovalDenied(PermissionDenied):
    """The action must not run; ``gate`` says what became of the request."""

    def __init__(self, message: str, gate: Gate) -> None:
        super().__init__(message)
        self.gate = gate


class ApprovalRejected(ApprovalDenied):
    """A person said no."""


class ApprovalExpired(ApprovalDenied):
    """Nobody decided in time."""


class ApprovalCancelled(ApprovalDenied):
    """The request was taken back."""


def raise_unless_approved(gate: Gate) -> None:
    """Return if the gate's action may run or was run.

    Raises:
        ApprovalDenied: the one of its kinds that says why not.
        UsageError: nobody has decided yet.
    """
    match gate.status:
        case "rejected":
            by, comment = "", ""
            if gate.decision is not None:
                by = f" by {gate.decision.actor!r}"
                comment = f": {gate.decision.comment}" if gate.decision.comment else ""
            raise ApprovalRejected(f"{gate.tool} was rejected{by}{comment}", gate)
        case "expired":
            raise ApprovalExpired(f"nobody approved {gate.tool} in time", gate)
        case "cancelled":
            reason = f": {gate.cancel_reason}" if gate.cancel_reason else ""
            raise ApprovalCancelled(f"the request for {gate.tool} was taken back{reason}", gate)
        case "pending":
            raise UsageError(f"gate {gate.gate!r} is pending; wait for it first")


def gate_of_key(tool: str, key: str) -> str:
    """Return the id of the gate that stands for ``tool`` under an idempotency key."""
    if not key:
        raise BadRequest("an idempotency key is one character or more")
    text = canonical_json([tool, key])
    return f"k-{hashlib.sha256(text).hexdigest()[:48]}"


class ApprovedFunction(Generic[P, R]):
    """An async function behind a gate: each call asks, waits, and runs what was approved.

    Raises, beside what the function itself raises:
        ApprovalRejected, ApprovalExpired, ApprovalCancelled: it did not run.
        AlreadyDecided: somebody else used this approval.
        VersionConflict: the arguments are not what they were when they were asked for.
        BadRequest: the arguments, or the edited ones, are not what the function takes.
    """

    def __init__(
        self,
        function: Callable[P, Awaitable[R]],
        approvals: Callable[[], Approvals],
        tool: str,
        options: Mapping[str, Any],
        key_of: Callable[P, str] | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.tool = tool
        self._function = function
        self._signature = inspect.signature(function)
        self._hints = _hints(function)
        self._approvals = approvals
        self._options = dict(options)
        self._key_of = key_of

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask, wait, run."""
        key = "" if self._key_of is None else self._key_of(*args, **kwargs)
        return await self._run(key, "", args, kwargs)

    def keyed(self, key: str, *, run: str = "") -> Callable[P, Awaitable[R]]:
        """Return the function for one purpose: ``key`` decides which gate its call asks at.

        Whoever calls it again, in this process or another one, finds the same gate. Without a
        ``run`` the approval is used at most once: what was cut off after that does not run
        again. With one, calls of the same run may run it again.
        """

        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return await self._run(key, run, args, kwargs)

        gate_of_key(self.tool, key)
        return call

    async def _run(self, key: str, run: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        approvals = self._approvals()
        gate = await approvals.request(
            self.tool,
            _plain(bound.arguments),
            gate_id=gate_of_key(self.tool, key) if key else None,
            run=run,
            **self._options,
        )
        try:
            gate = await approvals.wait(gate.gate)
        except BaseException:
            if not key:
                await _take_back(approvals, gate)
            raise
        raise_unless_approved(gate)
        edited = self._edited(gate)
        if edited is not None:
            await approvals.consume(gate.gate, run=run, args_sha256=gate.digest)
            return await self._function(*edited.args, **edited.kwargs)
        # Of the arguments as they are now: others may have changed a list meanwhile.
        await approvals.consume(gate.gate, run=run, args_sha256=digest(_plain(bound.arguments)))
        if digest(_plain(bound.arguments)) != gate.digest:
            raise VersionConflict(
                f"the arguments of {self.tool} changed after they were approved", gate.version
            )
        return await self._function(*args, **kwargs)

    def _edited(self, gate: Gate) -> inspect.BoundArguments | None:
        """Return the arguments that somebody put in place of those of the call."""
        if not gate.proposed_sha256:
            return None
        values = gate.approved_args
        if not isinstance(values, dict):
            raise BadRequest(f"expected edited arguments of {self.tool}; got {values!r:.80}")
        bound = self._signature.bind_partial()
        for name, parameter in self._signature.parameters.items():
            if name in values:
                bound.arguments[name] = self._convert(name, values[name])
            elif parameter.default is inspect.Parameter.empty and parameter.kind not in {
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            }:
                raise BadRequest(f"the edited arguments of {self.tool} lack {name!r}")
        if unknown := sorted(set(values).difference(self._signature.parameters)):
            raise BadRequest(f"{self.tool} takes no {unknown[0]!r}")
        bound.apply_defaults()
        return bound

    def _convert(self, name: str, value: object) -> object:
        hint = self._hints.get(name)
        kind = self._signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return tuple(value) if isinstance(value, list) else (value,)
        if hint is None or kind is inspect.Parameter.VAR_KEYWORD:
            return value
        try:
            return msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            raise BadRequest(f"the edited {name!r} of {self.tool}: {error}") from None
        except TypeError:
            return value  # a type that JSON has no form of


def requires_approval(
    approvals: Approvals | Callable[[], Approvals],
    *,
    tool: str = "",
    key: Callable[..., str] | None = None,
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
) -> Callable[[Callable[P, Awaitable[R]]], ApprovedFunction[P, R]]:
    """Have every call of an async function wait for approval of its arguments.

    The options are those of :meth:`Approvals.request`; ``approvals`` may be a function that
    returns them when a call needs them. ``tool`` is the function's name unless told. ``key``
    computes the idempotency key of a call from its arguments: with one a call that is cut off,
    by a restart or a cancellation, leaves its gate open for the call that comes after it;
    without one its request is taken back. Arguments are what JSON can hold, or structs and
    dates that msgspec can tell in JSON; edited ones are converted to the function's types.
    """
    options = {
        "requested_by": check_id(requested_by, "requested_by") if requested_by else "",
        "approvers": approvers,
        "quorum": quorum,
        "allow_self": allow_self,
        "response_schema": response_schema,
        "expires_in_s": expires_in_s,
        "on_timeout": on_timeout,
        "escalate_to": escalate_to,
        "escalate_in_s": escalate_in_s,
        "reason": reason,
    }

    def decorate(function: Callable[P, Awaitable[R]]) -> ApprovedFunction[P, R]:
        if not inspect.iscoroutinefunction(function):
            raise UsageError(f"{function!r} is not async: it cannot wait for approval")
        get = (lambda: approvals) if isinstance(approvals, Approvals) else approvals
        return ApprovedFunction(function, get, tool or function.__name__, options, key)

    return decorate


async def _take_back(approvals: Approvals, gate: Gate) -> None:
    """Cancel a request that nobody will come back for, as well as it goes."""

    async def cancel() -> None:
        with contextlib.suppress(FanwireError):
            await approvals.cancel(gate.gate, reason="the caller is gone")

    await asyncio.shield(cancel())


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError):
        return {}  # names that only a type checker knows


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(arguments)))
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise BadRequest(f"the arguments cannot be told in JSON; {error}") from None
    return plain
