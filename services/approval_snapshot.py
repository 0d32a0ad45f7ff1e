"""The open gates of a workspace as a snapshot: bounded, and nothing left out without a word."""

from __future__ import annotations

from typing import Final, cast

import msgspec

from channels.catalogue import Channel
from channels.position import Position
from channels.reduce_approvals import BriefGate
from services.context import Context
from services.gate import Gate
from services.snapshots import Snapshot
from services.store.script import load_script

__all__ = ["SNAPSHOT_BYTES", "brief_text", "read_snapshot"]

#: Bytes of gates in a snapshot: with what is around them it stays below what every client of
#: the hub takes (640 KiB).
SNAPSHOT_BYTES: Final = 512 * 1024

_encode = msgspec.json.Encoder().encode


async def read_snapshot(context: Context, channel: Channel) -> Snapshot:
    """Return the open gates of a workspace and the position they are at.

    Its size is bounded: see :class:`~channels.reduce_approvals.ApprovalsSnapshot`.
    """
    workspace, keys = channel.params["workspace"], context.keys
    reply = await context.store.run(
        load_script("approvals_snapshot"),
        [
            *context.log.keys_of(channel),
            keys.approvals_open(workspace),
            keys.approvals_open_gates(workspace),
        ],
        [*context.log.top_terms(), SNAPSHOT_BYTES],
    )
    epoch, offset, id_, gates, brief, more = cast(
        "tuple[bytes, int, bytes, list[bytes], list[bytes], int]", reply
    )
    data = b'{"workspace":"%b","gates":[%b],"brief":[%b],"more":%d}' % (
        workspace.encode(),
        b",".join(gates),
        b",".join(brief),
        more,
    )
    return Snapshot(data, Position(epoch.decode(), offset), id_.decode())


def brief_text(gate: Gate, text: bytes) -> bytes:
    """Return what stands in for an open gate in a snapshot without room for ``text``."""
    names = BriefGate.__struct_fields__
    brief = BriefGate(**{name: getattr(gate, name) for name in names})
    return b"%d %b" % (len(text), _encode(brief))
