"""Approval gates: actions that wait for a person's word, decided exactly once.

    approvals = services.for_workspace("w1").approvals
    gate = await approvals.request("send_email", {"to": "a@example.com"}, requested_by="agent")
    gate = await approvals.wait(gate.gate)
    if gate.dispatchable:
        await approvals.consume(gate.gate, run="r1", args_sha256=gate.digest)

Every change is told on ``approvals:{workspace}`` and kept in the audit, in the script that
makes it. Each call may be repeated: a request by its gate id, a decision by its decision id, a
consumption by its run. An unknown outcome is cleared up here, where those ids are: what still
raises ``OutcomeUnknown`` is a Redis that stayed away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from channels import events as e
from channels.canonical import digest
from channels.catalogue import Channel
from channels.errors import (
    BadRequest,
    Conflict,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    StoreError,
)
from channels.ids import check_id, new_id
from services import gate as rules
from services.answer_schema import check_answer, check_schema
from services.approval_store import (
    FAMILY,
    MAX_DEADLINE_MS,
    ApprovalStore,
    AuditEntry,
    RefusedDecision,
    deadline_of,
    read_snapshot,
)
from services.context import Context
from services.gate import Change, Gate, Verdict, Vote, to_time
from services.page import Page
from services.snapshots import Snapshot

__all__ = ["Approvals", "install"]

_log = logging.getLogger(__name__)

OnTimeout = Literal["reject", "approve", "escalate"]
#: Changes of others that one call may lose against. A gate ends after far fewer.
_ATTEMPTS: Final = 1_000
#: How often an unknown outcome is cleared up before the caller is told of it.
_DOUBTS: Final = 2
_MAX_APPROVERS: Final = 100
#: Characters of a reason or a comment.
_MAX_TEXT: Final = 4_000
_MAX_TOOL: Final = 200


class Approvals:
    """The approval gates of one workspace."""

    __slots__ = ("_context", "_store", "workspace")

    def __init__(self, context: Context, workspace: str) -> None:
        self._context = context
        self._store = ApprovalStore(context, workspace)
        self.workspace = workspace

    @property
    def channel(self) -> Channel:
        """The channel that tells of these gates."""
        return self._store.channel

    # -- asking ----------------------------------------------------------------------------

    async def request(
        self,
        tool: str,
        args: Mapping[str, object],
        *,
        gate_id: str | None = None,
        requested_by: str = "",
        run: str = "",
        approvers: Sequence[str] = (),
        quorum: int = 1,
        allow_self: bool = False,
        response_schema: Mapping[str, object] | None = None,
        expires_in_s: float | None = 3600,
        on_timeout: OnTimeout = "reject",
        escalate_to: Sequence[str] = (),
        escalate_in_s: float | None = None,
        reason: str = "",
        interrupt_id: str = "",
        thread_id: str = "",
    ) -> Gate:
        """Ask for a decision on running ``tool`` with ``args``; return the gate.

        With a ``gate_id`` the call may be repeated: the gate that has it is returned as it is
        now. ``approvers`` may decide, everybody when there are none, but ``requested_by`` only
        with ``allow_self``; ``quorum`` of them must agree on the same arguments, and one who
        rejects is enough. ``response_schema`` is the JSON schema of edited arguments and of
        answers. After ``expires_in_s`` (None: never) the gate ends as ``on_timeout`` says;
        "escalate" leaves it to ``escalate_to`` for another ``escalate_in_s`` (the same time
        unless told), after which it is rejected.

        Raises:
            BadRequest: an argument is wrong, or cannot be told in JSON.
            Conflict: the gate with this id is for something else.
            LimitExceeded: it is too large, or too many are open.
            StoreError: nothing was asked; OutcomeUnknown: it may have been.
        """
        gate = Gate(
            workspace=self.workspace,
            gate=new_id() if gate_id is None else check_id(gate_id, "gate id"),
            version=1,
            tool=_check_text(tool, "tool", _MAX_TOOL, needed=True),
            args=dict(args),
            args_sha256=digest(args),
            requested_by=_check_actor(requested_by, "requested_by", needed=False),
            run=_check_text(run, "run", _MAX_TOOL),
            approvers=_check_approvers(approvers, "approvers"),
            quorum=quorum,
            allow_self=allow_self,
            reason=_check_text(reason, "reason", _MAX_TEXT),
            response_schema=check_schema(response_schema),
            on_timeout=on_timeout,
            escalate_to=_check_approvers(escalate_to, "escalate_to"),
            interrupt_id=_check_text(interrupt_id, "interrupt_id", _MAX_TOOL),
            thread_id=_check_text(thread_id, "thread_id", _MAX_TOOL),
            created_at=to_time(0),
        )
        _check_quorum(gate)
        term_ms, escalated_ms = _check_terms(gate, expires_in_s, escalate_in_s)
        doubts: list[OutcomeUnknown] = []
        while True:
            now_ms = self._context.clock.now_ms()
            opened = _opened(gate, now_ms, term_ms, escalated_ms)
            try:
                existing = await self._store.open(opened, now_ms)
            except OutcomeUnknown as error:
                doubts.append(error)
                if len(doubts) > _DOUBTS:
                    raise
                continue
            except StoreError as error:
                raise (doubts[0] if doubts else error) from error
            if existing is None:
                return opened.gate
            _check_same(gate, existing)
            return existing

    # -- looking ---------------------------------------------------------------------------

    async def get(self, gate_id: str) -> Gate:
        """Return a gate as it is now: one whose time is over ends here, if not before.

        Raises:
            NotFound: there is none with this id.
            StoreError: Redis cannot tell.
        """
        return await self._change(check_id(gate_id, "gate id"), _leave)

    async def list_open(self, *, limit: int = 50, cursor: str = "") -> Page[Gate]:
        """Return the gates that wait, newest first. A page may be short and yet not the last."""
        return await self._store.page("open", limit, cursor)

    async def list_dispatchable(self, *, limit: int = 50, cursor: str = "") -> Page[Gate]:
        """Return those that are approved and not used, the latest approval first."""
        return await self._store.page("ready", limit, cursor)

    async def list(self, *, limit: int = 50, cursor: str = "") -> Page[Gate]:
        """Return all gates that are kept, newest first: for 90 days after they were decided."""
        return await self._store.page("all", limit, cursor)

    async def audit(
        self,
        gate_id: str | None = None,
        *,
        limit: int = 100,
        cursor: str = "",
        newest_first: bool = False,
    ) -> Page[AuditEntry]:
        """Return what was done to the gates, or to one of them, in order.

        One entry a change, written by the script that made the change, kept for 400 days. What
        was refused changed nothing and is not here: see :meth:`refused`.
        """
        if gate_id is not None:
            check_id(gate_id, "gate id")
        return await self._store.audit(gate_id, limit, cursor, newest_first=newest_first)

    async def refused(self, *, limit: int = 100) -> Sequence[RefusedDecision]:
        """Return the latest decisions of people who may not decide, newest first.

        The last 10,000 or so, beside the audit, so that nobody can fill that by trying.
        """
        return await self._store.refused(limit)

    # -- changing --------------------------------------------------------------------------

    async def decide(
        self,
        gate_id: str,
        verdict: Verdict,
        *,
        actor: str,
        decision_id: str,
        comment: str = "",
        payload: object = None,
        expected_version: int | None = None,
        args_sha256: str = "",
    ) -> Gate:
        """Say a word on a gate; return the gate with it.

        "edit" approves ``payload`` as the arguments instead; with "approve" the payload is an
        answer. Repeated with its ``decision_id`` it changes nothing and returns the gate as it
        is now. Whoever decides a gate with a quorum whose arguments were edited says what the
        approval is for: the ``expected_version`` or the digest ``args_sha256``.

        Raises:
            AlreadyDecided: it is not open any more; ``.gate`` has the decision that stands.
            PermissionDenied: ``actor`` may not decide it.
            VersionConflict: it changed since.
            Conflict: the actor voted before, or the decision id was used for something else.
            BadRequest: the payload is not what the gate's schema asks for.
            NotFound, LimitExceeded, StoreError.
        """
        check_id(gate_id, "gate id")
        if verdict not in {"approve", "edit", "reject"}:
            raise BadRequest(f"expected approve, edit or reject; got {verdict!r}")
        if verdict == "reject" and payload is not None:
            raise BadRequest("a rejection has a comment; expected no payload")
        vote = Vote(
            decision=check_id(decision_id, "decision id"),
            actor=_check_actor(actor, "actor"),
            verdict=verdict,
            at=to_time(0),
            comment=_check_text(comment, "comment", _MAX_TEXT),
            payload=payload,
        )
        digest(payload)  # whether it is JSON, before anything is asked of Redis

        def step(gate: Gate, now_ms: int) -> Change | None:
            change = rules.decide(
                gate,
                Vote(
                    decision=vote.decision,
                    actor=vote.actor,
                    verdict=verdict,
                    at=to_time(now_ms),
                    comment=vote.comment,
                    payload=payload,
                ),
                expected_version=expected_version,
                seen=args_sha256,
            )
            if change is not None and (verdict == "edit" or payload is not None):
                check_answer(gate.response_schema, payload, edit=verdict == "edit")
            return change

        try:
            return await self._change(gate_id, step)
        except PermissionDenied:
            at = to_time(self._context.clock.now_ms())
            await self._store.note_refused(
                RefusedDecision(
                    gate=gate_id, actor=actor, verdict=verdict, decision=decision_id, at=at
                )
            )
            raise

    async def cancel(
        self, gate_id: str, *, actor: str = "", reason: str = "", op_id: str | None = None
    ) -> Gate:
        """Take a request back. One that was taken back is returned as it is.

        ``op_id`` is the id of the event that tells of it.

        Raises:
            AlreadyDecided: it was decided before.
            NotFound, StoreError.
        """
        check_id(gate_id, "gate id")
        _check_actor(actor, "actor", needed=False)
        _check_text(reason, "reason", _MAX_TEXT)
        event = new_id() if op_id is None else check_id(op_id, "op_id")

        def step(gate: Gate, now_ms: int) -> Change | None:
            return rules.cancel(
                gate, actor=actor, reason=reason, now=to_time(now_ms), event_id=event
            )

        return await self._change(gate_id, step)

    async def consume(self, gate_id: str, *, run: str = "", args_sha256: str) -> Gate:
        """Use an approval for the one time it can be used, just before its action runs.

        ``args_sha256`` is the digest of what will run: ``gate.digest``, or
        :func:`channels.canonical.digest` of the arguments. The same ``run`` is given the same
        answer again; without a run nobody is.

        Raises:
            VersionConflict: other arguments were approved.
            AlreadyDecided: another run used it, or it was refused.
            Conflict: it is still open.
            NotFound, BadRequest, StoreError.
        """
        check_id(gate_id, "gate id")
        _check_text(run, "run", _MAX_TOOL)
        user = run or f"once-{new_id()}"

        def step(gate: Gate, now_ms: int) -> Change | None:
            return rules.consume(gate, run=user, args_sha256=args_sha256, now=to_time(now_ms))

        return await self._change(gate_id, step)

    async def _change(self, gate_id: str, step: Callable[[Gate, int], Change | None]) -> Gate:
        """Apply a rule to the gate as it is, until it was applied to what it then was."""
        doubts: list[OutcomeUnknown] = []
        gate: Gate | None = None
        for _ in range(_ATTEMPTS):
            try:
                if gate is None:
                    gate = await self._store.read(gate_id)
                now_ms = self._context.clock.now_ms()
                # What is over ends first, whatever anybody wants of it.
                over = rules.expire(gate, now_ms)
                change = over or step(gate, now_ms)
                if change is None:
                    return gate
                now_there = await self._store.change(gate, change, now_ms)
            except OutcomeUnknown as error:
                doubts.append(error)
                if len(doubts) > _DOUBTS:
                    raise
                gate = None  # what became of it is there to read
                continue
            except StoreError as error:
                raise (doubts[0] if doubts else error) from error
            if now_there is None and over is None:
                return change.gate
            gate = change.gate if now_there is None else now_there
        raise Conflict(f"gate {gate_id!r} changed {_ATTEMPTS} times meanwhile")

    # -- what ends by itself ---------------------------------------------------------------

    async def expire(self, gate_id: str) -> None:
        """End a gate whose time is over; do nothing about any other."""
        try:
            gate = await self._change(gate_id, _leave)
        except NotFound:
            await self._store.forget_due(gate_id, None)
            return
        # Nearly always true already: the script that changed the gate saw to it.
        await self._store.forget_due(gate_id, deadline_of(gate))

    # -- waiting ---------------------------------------------------------------------------

    async def wait(self, gate_id: str, *, timeout_s: float | None = None) -> Gate:
        """Return the gate when it is not open any more.

        The answer is pushed: events on the channel wake whoever waits, and a read every 30
        seconds finds what no event told. While Redis is away the wait goes on. The gate's id is
        all it takes to wait again, in whatever process; waiting changes nothing, so it can be
        cancelled and repeated.

        Raises:
            NotFound: there is no such gate (any more).
            TimeoutError: it was still open after ``timeout_s``.
        """
        check_id(gate_id, "gate id")
        return await self._context.gate_waits.wait(
            self.channel, gate_id, lambda: self.get(gate_id), self._pause_s, timeout_s=timeout_s
        )

    def _pause_s(self, gate: Gate) -> float | None:
        """Return how long until an open gate ends by itself, 0 if it is not open."""
        if not gate.open:
            return 0.0
        deadline = deadline_of(gate)
        if deadline is None:
            return None
        return max(0.001, (deadline - self._context.clock.now_ms()) / 1000)


def install(context: Context) -> None:
    """Have gates end by themselves and their snapshots offered; once a context."""

    async def end(root: str, gate: str) -> None:
        await Approvals(context, root).expire(gate)

    async def snapshot(channel: Channel) -> Snapshot:
        return await read_snapshot(context, channel)

    context.sweeper.handle(FAMILY, end)
    context.snapshots.offer("approvals", snapshot)


def _leave(_gate: Gate, _now_ms: int) -> None:
    return None


def _opened(gate: Gate, now_ms: int, term_ms: int | None, escalated_ms: int) -> Change:
    gate = Gate(
        **{
            **{name: getattr(gate, name) for name in gate.__struct_fields__},
            "created_at": to_time(now_ms),
            "expires_at": None if term_ms is None else to_time(now_ms + term_ms),
            "escalate_in_ms": escalated_ms,
        }
    )
    told = e.ApprovalRequestedData.__struct_fields__
    data = e.ApprovalRequestedData(**{name: getattr(gate, name) for name in told})
    return Change(gate, e.ApprovalRequested(data=data, time=gate.created_at))


def _check_same(asked: Gate, existing: Gate) -> None:
    def action(gate: Gate) -> tuple[str, str, str]:
        return gate.tool, gate.args_sha256, gate.requested_by

    if action(asked) != action(existing):
        raise Conflict(
            f"gate {asked.gate!r} is for {existing.tool!r} with arguments "
            f"{existing.args_sha256[:16]}..., requested by {existing.requested_by!r}; expected "
            f"{asked.tool!r}, {asked.args_sha256[:16]}... and {asked.requested_by!r}"
        )
    if weaker := _weaker(asked, existing):
        raise Conflict(
            f"gate {asked.gate!r} was requested with another {weaker}, by which it takes less to "
            "be approved; expected one that asks for as much"
        )


def _weaker(asked: Gate, existing: Gate) -> str:
    """Return in what the gate there is asks for less; empty if it does not.

    Whoever guesses an id must not open its gate first, for their friends to approve.
    """
    if existing.quorum < asked.quorum:
        return "quorum"
    if existing.allow_self and not asked.allow_self:
        return "allow_self"
    if existing.on_timeout == "approve" != asked.on_timeout:
        return "on_timeout"
    if not asked.approvers or _anybody(asked):
        return ""
    able = {*asked.approvers, *asked.escalate_to}
    people = {*existing.approvers, *existing.escalate_to}
    if not existing.approvers or _anybody(existing) or not able.issuperset(people):
        return "list of approvers"
    return ""


def _anybody(gate: Gate) -> bool:
    """Return whether everybody may decide after a while."""
    return gate.on_timeout == "escalate" and not gate.escalate_to


def _check_terms(
    gate: Gate, expires_in_s: float | None, escalate_in_s: float | None
) -> tuple[int | None, int]:
    if gate.on_timeout not in {"reject", "approve", "escalate"}:
        raise BadRequest(f"expected reject, approve or escalate; got {gate.on_timeout!r}")
    term_ms = None if expires_in_s is None else _check_term(expires_in_s, "expires_in_s")
    if gate.on_timeout != "escalate":
        if gate.escalate_to or escalate_in_s is not None:
            raise BadRequest('escalate_to and escalate_in_s go with on_timeout="escalate"')
        return term_ms, 0
    if term_ms is None:
        raise BadRequest('on_timeout="escalate" needs a deadline: expected expires_in_s')
    if escalate_in_s is None:
        return term_ms, term_ms
    return term_ms, _check_term(escalate_in_s, "escalate_in_s")


def _check_term(seconds: float, what: str) -> int:
    if not 0 < seconds <= MAX_DEADLINE_MS / 1000:
        raise BadRequest(f"{what} must be above 0 and at most a year; got {seconds}")
    return max(1, round(seconds * 1000))


def _check_quorum(gate: Gate) -> None:
    if gate.quorum < 1:
        raise BadRequest(f"a quorum is 1 or more; got {gate.quorum}")
    for people in (gate.approvers, gate.escalate_to):
        able = [one for one in people if gate.allow_self or one != gate.requested_by]
        if people and len(able) < gate.quorum:
            raise BadRequest(
                f"a quorum of {gate.quorum} needs as many approvers besides the requester; "
                f"got {', '.join(people)}"
            )


def _check_approvers(approvers: Sequence[str], what: str) -> list[str]:
    if isinstance(approvers, str):
        raise BadRequest(f"{what} is a list of ids; got the text {approvers[:80]!r}")
    if len(approvers) > _MAX_APPROVERS:
        raise BadRequest(f"{what} may be at most {_MAX_APPROVERS}; got {len(approvers)}")
    return list(dict.fromkeys(check_id(one, f"each of {what}") for one in approvers))


def _check_actor(actor: str, what: str, *, needed: bool = True) -> str:
    return check_id(actor, what) if actor or needed else ""


def _check_text(text: str, what: str, most: int, *, needed: bool = False) -> str:
    if (needed and not text) or len(text) > most:
        raise BadRequest(f"{what} must be {1 if needed else 0}-{most} characters; got {len(text)}")
    return text
