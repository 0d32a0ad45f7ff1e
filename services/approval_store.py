"""Approval gates on Redis: how one is kept, changed and listed. The rules are in ``gate.py``."""

from __future__ import annotations

from typing import Any, Final, Literal, cast

import msgspec

from channels.catalogue import APPROVALS, Channel
from channels.errors import BadRequest, LimitExceeded, NotFound
from channels.publication import MAX_DATA_BYTES
from channels.template import body_pieces
from services.approval_snapshot import brief_text
from services.context import Context
from services.gate import Change, Gate, to_ms
from services.page import Page
from services.store.port import Argument, Reply
from services.store.script import load_script

__all__ = [
    "FAMILY",
    "KEEP_AUDIT_MS",
    "KEEP_MS",
    "MAX_DEADLINE_MS",
    "MAX_OPEN",
    "MAX_PAGE",
    "PAGE_BYTES",
    "ApprovalStore",
    "channel_of",
    "check_limit",
    "deadline_of",
]

#: The name of gates among what ends by itself.
FAMILY: Final = "approval"
_DAY_MS = 86_400_000
#: A gate is kept for so long after it was decided; an open one for so long after its deadline.
KEEP_MS: Final = 90 * _DAY_MS
#: No deadline is further away.
MAX_DEADLINE_MS: Final = 366 * _DAY_MS
#: The audit, and what was refused, outlive the gates.
KEEP_AUDIT_MS = 400 * _DAY_MS
#: Open gates of a workspace: what one script may read in brief, and a person look through.
MAX_OPEN: Final = 2_000
#: The JSON of a gate with all that was said of it.
_MAX_GATE_BYTES = 4 * MAX_DATA_BYTES
MAX_PAGE: Final = 500
#: Gates are read so many at once, and no more once a page has so many bytes.
_READ_AT_ONCE = 50
PAGE_BYTES: Final = 4 * 1024 * 1024

_encode = msgspec.json.Encoder().encode
_decode_gate = msgspec.json.Decoder(Gate).decode


class ApprovalStore:
    """The gates of one workspace. Methods raise ``StoreError`` where Redis cannot do it."""

    __slots__ = ("_context", "channel", "workspace")

    def __init__(self, context: Context, workspace: str) -> None:
        self._context = context
        self.workspace = workspace
        self.channel = channel_of(context, workspace)

    # -- one gate --------------------------------------------------------------------------

    async def read(self, gate: str) -> Gate:
        """Return the gate as it is kept.

        Raises:
            NotFound: there is none with this id.
        """
        found = await self._context.store.execute("HGET", self._key(gate), "g")
        if not found:
            raise self._missing(gate)
        return _decode_gate(cast(bytes, found))

    def _missing(self, gate: str) -> NotFound:
        return NotFound(f"workspace {self.workspace!r} has no gate {gate!r}")

    def _key(self, gate: str) -> str:
        return self._context.keys.approval(self.workspace, gate)

    async def open(self, opened: Change, now_ms: int) -> Gate | None:
        """Keep a new gate and tell of it; return the one that has its id already, else None.

        Raises:
            LimitExceeded: too many are open, or it is too large.
        """
        gate, keys, workspace = opened.gate, self._context.keys, self.workspace
        deadline = None if gate.expires_at is None else to_ms(gate.expires_at)
        body, text = _body(opened), _text(gate)
        if deadline is not None:
            await self._context.sweeper.register(workspace, deadline)
        outcome = await self._context.changes.run(
            load_script("approval_request"),
            self.channel,
            [
                self._key(gate.gate),
                keys.approvals(workspace),
                keys.approvals_open(workspace),
                keys.approvals_open_gates(workspace),
                keys.approvals_ready(workspace),
                keys.due(workspace),
                keys.approvals_audit(workspace),
            ],
            [
                body,
                gate.gate,
                text,
                MAX_OPEN,
                _ttl(gate, now_ms),
                "" if deadline is None else deadline,
                self._context.sweeper.member(FAMILY, gate.gate),
                now_ms - KEEP_MS - MAX_DEADLINE_MS,
                now_ms - KEEP_MS,
                now_ms - KEEP_AUDIT_MS,
                brief_text(gate, text),
            ],
            event=opened.event.id,
            now_ms=now_ms,
        )
        if outcome.code == 2:
            raise LimitExceeded(
                f"workspace {workspace!r} has {MAX_OPEN} open gates; no more are allowed"
            )
        return _decode_gate(cast(bytes, outcome.values[0])) if outcome.code == 0 else None

    async def change(self, before: Gate, change: Change, now_ms: int) -> Gate | None:
        """Keep a change and tell of it; return the gate there is if it is not ``before`` any more.

        Raises:
            NotFound: it is gone.
            LimitExceeded: too much was said of it.
        """
        gate, keys, workspace = change.gate, self._context.keys, self.workspace
        kind, text = _kind(gate), _text(gate)
        moved = kind == "open" and gate.expires_at != before.expires_at
        deadline = to_ms(gate.expires_at) if moved and gate.expires_at is not None else None
        due = before.expires_at is not None and (moved or kind != "open")
        outcome = await self._context.changes.run(
            load_script("approval_change"),
            self.channel,
            [
                self._key(gate.gate),
                keys.approvals_open(workspace),
                keys.approvals_open_gates(workspace),
                keys.approvals_ready(workspace),
                keys.due(workspace),
                keys.approvals_audit(workspace),
                keys.approvals(workspace),
            ],
            [
                _body(change),
                gate.gate,
                text,
                before.version,
                gate.version,
                kind,
                gate.status,
                _ttl(gate, now_ms) if moved or kind in {"ended", "ready"} else "",
                "" if deadline is None else deadline,
                self._context.sweeper.member(FAMILY, gate.gate) if due else "",
                now_ms - KEEP_AUDIT_MS,
                brief_text(gate, text) if gate.open else "",
                now_ms - KEEP_MS - MAX_DEADLINE_MS,
                now_ms - KEEP_MS,
            ],
            event=change.event.id,
            now_ms=now_ms,
        )
        if outcome.code == 1:
            return None
        if not outcome.values[0]:
            raise self._missing(gate.gate)
        return _decode_gate(cast(bytes, outcome.values[0]))

    async def restore(self, gate: str) -> bool:
        """Bring back an open gate that Redis forgot before its end; return whether there is one.

        Nobody swept for months, or Redis had to make room. What snapshots hold of it is all of it.
        """
        keys, workspace = self._context.keys, self.workspace
        open_gates = keys.approvals_open_gates(workspace)
        text = cast(bytes, await self._context.store.execute("HGET", open_gates, gate) or b"")
        reply = await self._context.store.run(
            load_script("approval_restore"),
            [self._key(gate), keys.approvals_open(workspace), open_gates, keys.due(workspace)],
            [
                gate,
                text,
                _decode_gate(text).version if text else 0,
                KEEP_MS,
                self._context.sweeper.member(FAMILY, gate),
            ],
        )
        return bool(reply)

    async def forget_due(self, gate: str, at_ms: int | None) -> None:
        """Correct when the sweeper looks at a gate: at ``at_ms``, or never."""
        due = self._context.keys.due(self.workspace)
        member = self._context.sweeper.member(FAMILY, gate)
        if at_ms is None:
            await self._context.store.execute("ZREM", due, member)
        else:
            await self._context.store.execute("ZADD", due, "XX", at_ms, member)

    # -- lists -----------------------------------------------------------------------------

    async def page(
        self, which: Literal["open", "all", "ready"], limit: int, cursor: str
    ) -> Page[Gate]:
        """Return a page of gates, the newest first.

        Raises:
            BadRequest: the cursor is none of ours.
        """
        keys = self._context.keys
        key = {
            "open": keys.approvals_open,
            "all": keys.approvals,
            "ready": keys.approvals_ready,
        }[which](self.workspace)
        limit = check_limit(limit)
        members, more = await self._members(key, limit, _read_cursor(cursor))
        gates: list[Gate] = []
        size = first = 0
        while first < len(members):
            if size > PAGE_BYTES:
                members, more = members[:first], True
                break
            replies = await self._context.store.pipeline(
                [
                    ("HGET", self._key(gate), "g")
                    for _, gate in members[first : first + _READ_AT_ONCE]
                ]
            )
            first += _READ_AT_ONCE
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
                if reply:
                    size += len(cast(bytes, reply))
                    gates.append(_decode_gate(cast(bytes, reply)))
        if which == "open":
            gates = [gate for gate in gates if gate.open]
        elif which == "ready":
            gates = [gate for gate in gates if gate.dispatchable]
        return Page(gates, "{}:{}".format(*members[-1]) if more else "")

    async def _members(
        self, key: str, limit: int, after: tuple[int, str] | None
    ) -> tuple[list[tuple[int, str]], bool]:
        """Return up to ``limit`` members of a sorted set below ``after``, and whether more are."""
        found: list[tuple[int, str]] = []
        highest: Argument = "+inf" if after is None else after[0]
        skipped = 0
        while len(found) <= limit:
            batch = _scored(
                await self._context.store.execute(
                    *("ZREVRANGEBYSCORE", key, highest, "-inf", "WITHSCORES"),
                    *("LIMIT", skipped, limit + 1),
                )
            )
            # Members with one score come in reverse order of their text.
            found += [entry for entry in batch if after is None or entry < after]
            skipped += len(batch)
            if len(batch) <= limit:
                break
        return found[:limit], len(found) > limit


def channel_of(context: Context, workspace: str) -> Channel:
    """Return the channel that tells of the workspace's gates."""
    return context.catalogue.find(APPROVALS.name(workspace=workspace))


def _body(change: Change) -> bytes:
    (body,) = body_pieces(lambda: change.event, 0)
    return body


def _text(gate: Gate) -> bytes:
    text = _encode(gate)
    # Whatever ends a gate is let through: it is the last that is said.
    if gate.open and len(text) > _MAX_GATE_BYTES:
        raise LimitExceeded(
            f"gate {gate.gate!r} with all that was said of it is {len(text)} bytes; "
            f"at most {_MAX_GATE_BYTES} are allowed"
        )
    return text


def _kind(gate: Gate) -> str:
    if gate.open:
        return "open"
    if gate.status == "consumed":
        return "used"
    return "ready" if gate.dispatchable else "ended"


def _ttl(gate: Gate, now_ms: int) -> Argument:
    if not gate.open:
        return KEEP_MS
    return "" if gate.expires_at is None else to_ms(gate.expires_at) - now_ms + KEEP_MS


def check_limit(limit: int) -> int:
    """Return how many of a list to return at most.

    Raises:
        BadRequest: none at all.
    """
    if limit < 1:
        raise BadRequest(f"expected a limit of 1 to {MAX_PAGE}; got {limit}")
    return min(limit, MAX_PAGE)


def _read_cursor(cursor: str) -> tuple[int, str] | None:
    if not cursor:
        return None
    ms, colon, gate = cursor.partition(":")
    if not (colon and gate and ms.isascii() and ms.isdigit() and len(ms) < 16):
        raise BadRequest(f"expected a cursor of this list; got {cursor[:80]!r}")
    return int(ms), gate


def _scored(reply: Reply) -> list[tuple[int, str]]:
    """Return members and scores: flat in RESP2, pairs in RESP3."""
    entries = cast("list[Any]", reply)
    pairs = (
        entries
        if entries and isinstance(entries[0], list)
        else zip(entries[::2], entries[1::2], strict=True)
    )
    return [(int(float(score)), member.decode()) for member, score in pairs]


def deadline_of(gate: Gate) -> int | None:
    """Return when an open gate ends by itself (ms); None for never."""
    return to_ms(gate.expires_at) if gate.open and gate.expires_at is not None else None
