"""Approval gates on Redis: how one is kept, changed and listed. The rules are in ``gate.py``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, cast

import msgspec

from channels.catalogue import APPROVALS, Channel
from channels.errors import BadRequest, LimitExceeded, NotFound, StoreError
from channels.position import Position
from channels.publication import MAX_DATA_BYTES
from channels.template import body_pieces
from services.context import Context
from services.gate import Change, Gate, to_ms
from services.page import Page
from services.snapshots import Snapshot
from services.store.port import Argument, Reply
from services.store.script import load_script

__all__ = [
    "FAMILY",
    "KEEP_MS",
    "MAX_DEADLINE_MS",
    "MAX_OPEN",
    "MAX_PAGE",
    "ApprovalStore",
    "AuditEntry",
    "RefusedDecision",
    "channel_of",
    "deadline_of",
    "read_snapshot",
]

#: The name of gates among what ends by itself.
FAMILY: Final = "approval"
_DAY_MS = 86_400_000
#: A gate is kept for so long after it was decided; an open one for so long after its deadline.
KEEP_MS: Final = 90 * _DAY_MS
#: No deadline is further away.
MAX_DEADLINE_MS: Final = 366 * _DAY_MS
#: The audit outlives the gates.
_KEEP_AUDIT_MS = 400 * _DAY_MS
#: Open gates of a workspace: a snapshot holds all of them.
MAX_OPEN: Final = 2_000
#: The JSON of a gate with all that was said of it.
_MAX_GATE_BYTES = 4 * MAX_DATA_BYTES
MAX_PAGE: Final = 500
_REFUSED_KEPT = 10_000
#: Entries of the audit that one call looks through for those of one gate, and bytes of them.
_SCANNED = 5_000
_SCANNED_BYTES = 8 * 1024 * 1024
#: Entries that are read at once; more where they are small.
_AUDIT_BATCH = 128
_LARGE_AUDIT_BATCH = 1_024
_SMALL_BYTES = 1_024
#: Bytes of entries after which a page ends.
_AUDIT_BYTES = 2 * 1024 * 1024

_encode = msgspec.json.Encoder().encode
_decode_gate = msgspec.json.Decoder(Gate).decode


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a gate: who did what when, and what it is since.

    ``what`` is the type of the event that told of it, ``event`` the id and ``data`` the data of
    this event; ``actor`` is empty for what ended by itself. ``id`` orders the entries.
    """

    id: str
    at: datetime
    gate: str
    what: str
    status: str
    version: int
    event: str
    actor: str = ""
    decision: str = ""
    run: str = ""
    data: dict[str, Any] = {}


class RefusedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said of a gate who may not decide it."""

    gate: str
    actor: str
    verdict: str
    decision: str
    at: datetime


class _Told(msgspec.Struct):
    type: str
    id: str
    time: datetime
    data: dict[str, Any]


class _Body(msgspec.Struct):
    data: _Told


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_refused = msgspec.json.Decoder(RefusedDecision).decode


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
                now_ms - _KEEP_AUDIT_MS,
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
        kind = _kind(gate)
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
            ],
            [
                _body(change),
                gate.gate,
                _text(gate),
                before.version,
                gate.version,
                kind,
                gate.status,
                _ttl(gate, now_ms) if moved or kind in {"ended", "ready"} else "",
                "" if deadline is None else deadline,
                self._context.sweeper.member(FAMILY, gate.gate) if due else "",
                now_ms - _KEEP_AUDIT_MS,
            ],
            event=change.event.id,
            now_ms=now_ms,
        )
        if outcome.code == 1:
            return None
        if not outcome.values[0]:
            raise self._missing(gate.gate)
        return _decode_gate(cast(bytes, outcome.values[0]))

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
        limit = _check_limit(limit)
        members, more = await self._members(key, limit, _read_cursor(cursor))
        replies = await self._context.store.pipeline(
            [("HGET", self._key(gate), "g") for _, gate in members]
        )
        gates = []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
            if reply:
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

    async def audit(
        self, gate: str | None, limit: int, cursor: str, *, newest_first: bool
    ) -> Page[AuditEntry]:
        """Return entries of the audit in order; all of them, or those of one gate.

        A page may be short and yet not the last; one of one gate's even empty.

        Raises:
            BadRequest: the cursor is none of ours.
        """
        limit = _check_limit(limit)
        if cursor and not _is_stream_id(cursor):
            raise BadRequest(f"expected a cursor of this list; got {cursor[:80]!r}")
        key = self._context.keys.approvals_audit(self.workspace)
        entries: list[AuditEntry] = []
        scanned = scanned_bytes = told_bytes = 0
        while True:
            small = scanned > 0 and scanned_bytes < scanned * _SMALL_BYTES
            count = _LARGE_AUDIT_BATCH if small else _AUDIT_BATCH
            if gate is None:
                count = min(count, limit + 1 - len(entries))
            edge = f"({cursor}" if cursor else ""
            if newest_first:
                command = ("XREVRANGE", key, edge or "+", "-", "COUNT", count)
            else:
                command = ("XRANGE", key, edge or "-", "+", "COUNT", count)
            batch = cast("list[Reply]", await self._context.store.execute(*command))
            for raw in batch:
                if len(entries) == limit or told_bytes >= _AUDIT_BYTES:
                    return Page(entries, cursor)
                entry_id, fields = cast("tuple[bytes, list[bytes]]", raw)
                cursor = entry_id.decode()
                scanned_bytes += len(fields[-1])
                if gate is None or fields[1].decode() == gate:
                    told_bytes += len(fields[-1])
                    entries.append(_audit_entry(cursor, fields))
            scanned += len(batch)
            if len(batch) < count:
                return Page(entries)
            if scanned >= _SCANNED or scanned_bytes >= _SCANNED_BYTES:
                return Page(entries, cursor)

    async def note_refused(self, refused: RefusedDecision) -> None:
        """Keep a refused decision, as well as it goes: it changed nothing."""
        key = self._context.keys.approvals_refused(self.workspace)
        try:
            await self._context.store.execute(
                "XADD", key, "MAXLEN", "~", _REFUSED_KEPT, "*", "r", _encode(refused)
            )
        except StoreError:
            return

    async def refused(self, limit: int) -> list[RefusedDecision]:
        """Return the latest refused decisions, newest first."""
        key = self._context.keys.approvals_refused(self.workspace)
        replies = await self._context.store.execute(
            "XREVRANGE", key, "+", "-", "COUNT", _check_limit(limit)
        )
        entries = cast("list[tuple[bytes, list[bytes]]]", replies)
        return [_decode_refused(fields[1]) for _, fields in entries]


def channel_of(context: Context, workspace: str) -> Channel:
    """Return the channel that tells of the workspace's gates."""
    return context.catalogue.find(APPROVALS.name(workspace=workspace))


async def read_snapshot(context: Context, channel: Channel) -> Snapshot:
    """Return the open gates of a workspace and the position they are at."""
    workspace = channel.params["workspace"]
    reply = await context.store.run(
        load_script("approvals_snapshot"),
        [*context.log.keys_of(channel), context.keys.approvals_open_gates(workspace)],
        context.log.top_terms(),
    )
    epoch, offset, id_, gates = cast("tuple[bytes, int, bytes, list[bytes]]", reply)
    data = b'{"workspace":"%b","gates":[%b]}' % (workspace.encode(), b",".join(gates))
    return Snapshot(data, Position(epoch.decode(), offset), id_.decode())


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


def _audit_entry(id: str, fields: list[bytes]) -> AuditEntry:
    _, gate, _, status, _, body = fields
    told = _decode_body(b"{%b" % body).data
    return AuditEntry(
        id=id,
        at=told.time,
        gate=gate.decode(),
        what=told.type,
        status=status.decode(),
        version=told.data["version"],
        event=told.id,
        actor=told.data.get("actor", told.data.get("requested_by", "")),
        decision=told.data.get("decision", ""),
        run=told.data.get("run", ""),
        data=told.data,
    )


def _check_limit(limit: int) -> int:
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


def _is_stream_id(cursor: str) -> bool:
    ms, _, sequence = cursor.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) < 20 for part in (ms, sequence)):
        return False
    # Nothing is before 0-0, and Redis refuses to look there.
    return int(ms) > 0


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
