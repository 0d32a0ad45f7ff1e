"""The cursor of a reader of several channels: one line that an EventSource can carry.

A browser's ``EventSource`` remembers one string, the last ``id:`` it saw, and sends it back
when it reconnects. Ours says for every channel how far the reader got:

    <channel tag>:<epoch>:<offset>:<publication id>,<channel tag>:...

The tag is a short hash, so that a cursor stays valid when the order of the channels in the
address changes or channels are added. The publication id lets the hub notice that history
forked: the same offset with another id. A cursor is a claim, not a secret; the hub checks
it against the log and the caller's rights like any other input.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from .ids import ID_PATTERN
from .position import MAX_OFFSET, Position

__all__ = ["CursorPosition", "decode_cursor", "encode_cursor", "encode_cursor_part"]

_is_id = re.compile(ID_PATTERN).match


class CursorPosition(msgspec.Struct, frozen=True):
    """How far a reader got on one channel. ``id`` is empty when it saw nothing yet."""

    position: Position
    id: str = ""


@lru_cache(maxsize=4096)
def _tag(channel: str) -> bytes:
    # 30 bits tell the channels of one address apart; a collision within one address would
    # be caught by the epoch.
    digest = hashlib.blake2b(channel.encode("utf-8"), digest_size=4).digest()
    return base64.urlsafe_b64encode(digest)[:5]


def encode_cursor_part(channel: str, epoch: str, offset: int, id: str) -> bytes:
    """Return the part of a cursor that says how far the reader got on ``channel``."""
    return b"%b:%b:%d:%b" % (_tag(channel), epoch.encode("ascii"), offset, id.encode("ascii"))


def encode_cursor(parts: Iterable[bytes]) -> bytes:
    """Join parts into a cursor."""
    return b",".join(parts)


def decode_cursor(text: str, channels: Iterable[str]) -> dict[str, CursorPosition]:
    """Return the positions that ``text`` holds for ``channels``.

    Channels it does not mention, and parts that are not understood, are absent: whoever
    asked to resume treats an absent channel of a non-empty cursor as a gap. Never raises.
    """
    found: dict[str, CursorPosition] = {}
    parts = {}
    for part in text.split(","):
        tag, colon, rest = part.partition(":")
        if colon:
            parts[tag] = rest
    for channel in channels:
        rest = parts.get(_tag(channel).decode("ascii"), "")
        fields = rest.split(":")
        if len(fields) != 3:
            continue
        epoch, offset, id_ = fields
        if not (offset.isascii() and offset.isdigit() and len(offset) <= 16):
            continue
        number = int(offset)
        if number <= MAX_OFFSET and _is_id(epoch) and (not id_ or _is_id(id_)):
            found[channel] = CursorPosition(Position(epoch, number), id_)
    return found
