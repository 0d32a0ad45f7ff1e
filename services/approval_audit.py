"""The audit of approval gates: what was done, by whom and when; and what was refused.

Entries are written by the scripts that change gates; here they are read.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any, Final, cast

import msgspec

from channels.errors import BadRequest, StoreError
from services.approval_store import KEEP_AUDIT_MS, PAGE_BYTES, check_limit
from services.context import Context
from services.page import Page
from services.store.port import Reply

__all__ = ["ApprovalAudit", "AuditEntry", "RefusedDecision"]

_REFUSED_KEPT: Final = 10_000
#: Entries of the audit that one call looks through for those of one gate, and bytes of them.
_SCANNED: Final = 5_000
_SCANNED_BYTES: Final = 8 * 1024 * 1024
#: Entries that are read at once; more where they are small.
_BATCH: Final = 128
_LARGE_BATCH: Final = 1_024
_SMALL_BYTES: Final = 1_024

_encode = msgspec.json.Encoder().encode


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


class ApprovalAudit:
    """The audit of one workspace. Methods raise ``StoreError`` where Redis cannot do it."""

    __slots__ = ("_context", "_workspace")

    def __init__(self, context: Context, workspace: str) -> None:
        self._context = context
        self._workspace = workspace

    async def page(
        self, gate: str | None, limit: int, cursor: str, *, newest_first: bool
    ) -> Page[AuditEntry]:
        """Return entries of the audit in order; all of them, or those of one gate.

        A page may be short, one of one gate's also empty, and yet not the last.

        Raises:
            BadRequest: the cursor is none of ours.
        """
        limit = check_limit(limit)
        if cursor and not _is_stream_id(cursor):
            raise BadRequest(f"expected a cursor of this list; got {cursor[:80]!r}")
        key = self._context.keys.approvals_audit(self._workspace)
        entries: list[AuditEntry] = []
        scanned = scanned_bytes = told_bytes = 0
        while True:
            small = scanned > 0 and scanned_bytes < scanned * _SMALL_BYTES
            count = _LARGE_BATCH if small else _BATCH
            if gate is None:
                count = min(count, limit + 1 - len(entries))
            edge = f"({cursor}" if cursor else ""
            if newest_first:
                command = ("XREVRANGE", key, edge or "+", "-", "COUNT", count)
            else:
                command = ("XRANGE", key, edge or "-", "+", "COUNT", count)
            batch = cast("list[Reply]", await self._context.store.execute(*command))
            for raw in batch:
                if len(entries) == limit or told_bytes >= PAGE_BYTES:
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

    async def note(self, refused: RefusedDecision) -> None:
        """Keep a refused decision, as well as it goes: it changed nothing."""
        key = self._context.keys.approvals_refused(self._workspace)
        with contextlib.suppress(StoreError):
            await self._context.store.pipeline(
                [
                    ("XADD", key, "MAXLEN", "~", _REFUSED_KEPT, "*", "r", _encode(refused)),
                    ("PEXPIRE", key, KEEP_AUDIT_MS),
                ]
            )

    async def refused(self, limit: int) -> list[RefusedDecision]:
        """Return the latest refused decisions, newest first."""
        key = self._context.keys.approvals_refused(self._workspace)
        replies = await self._context.store.execute(
            "XREVRANGE", key, "+", "-", "COUNT", check_limit(limit)
        )
        entries = cast("list[tuple[bytes, list[bytes]]]", replies)
        return [_decode_refused(fields[1]) for _, fields in entries]


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


def _is_stream_id(cursor: str) -> bool:
    ms, _, sequence = cursor.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) < 20 for part in (ms, sequence)):
        return False
    # Nothing is before 0-0, and Redis refuses to look there.
    return int(ms) > 0
