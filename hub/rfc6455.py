"""WebSocket frames (RFC 6455) between bytes and messages, for a server that took a handshake.

What goes out is made once and shared, so it is plain functions. What comes in is small and
masked; :class:`FrameReader` takes it apart, however it was cut, and costs a silent client
next to nothing. The handshake, which happens once, is left to the ``websockets`` package,
and so is unmasking. Extensions are never agreed on.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from websockets.frames import apply_mask  # type: ignore[attr-defined]  # in C where it is built

from channels.errors import Disconnect

__all__ = [
    "FrameReader",
    "Message",
    "Opcode",
    "Violation",
    "close_frame",
    "echo_of_close",
    "pong_frame",
    "text_frame",
]


class Opcode(IntEnum):
    """What a frame carries."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Message(NamedTuple):
    """A whole message, or a control frame; text that is not UTF-8 never becomes one."""

    opcode: Opcode
    payload: bytes


class Violation(Exception):
    """The client broke the protocol: close with ``disconnect``; nothing more can be read."""

    def __init__(self, disconnect: Disconnect) -> None:
        super().__init__(f"{disconnect.code}: {disconnect.reason}")
        self.disconnect = disconnect


#: Bytes a control frame may carry.
_MAX_CONTROL = 125
_CODE_BYTES = 2
#: Close codes below 3000 that may be sent; from 3000 on they are the application's.
_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_APPLICATION_CODES = range(3000, 5000)

_FIN = 0x80
_RESERVED = 0x70
_MASKED = 0x80
_LENGTH_16 = 126
_LENGTH_64 = 127


def text_frame(payload: bytes) -> bytes:
    """Return one unfragmented text frame; ``payload`` is UTF-8."""
    size = len(payload)
    if size < _LENGTH_16:
        return b"\x81%c%b" % (size, payload)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def close_frame(disconnect: Disconnect) -> bytes:
    """Return a close frame; the reason is cut to what fits."""
    reason = disconnect.reason.encode()[: _MAX_CONTROL - _CODE_BYTES]
    payload = disconnect.code.to_bytes(2, "big") + reason.decode("utf-8", "ignore").encode()
    return b"\x88%c%b" % (len(payload), payload)


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping."""
    return b"\x8a%c%b" % (len(payload), payload)


def echo_of_close(payload: bytes) -> Disconnect | None:
    """Return what to answer to a close frame, None for one without a code.

    Raises:
        Violation: its code or its reason is no good.
    """
    if not payload:
        return None
    code = int.from_bytes(payload[:_CODE_BYTES], "big")
    if len(payload) < _CODE_BYTES or not (code in _CODES or code in _APPLICATION_CODES):
        raise _violation(f"expected a close code; got {payload[:_CODE_BYTES].hex() or 'none'}")
    try:
        payload[_CODE_BYTES:].decode()
    except UnicodeDecodeError:
        raise Violation(_NOT_UTF_8) from None
    return Disconnect(code, "")


_NOT_UTF_8 = Disconnect(1007, "text must be UTF-8")


def _violation(reason: str) -> Violation:
    return Violation(Disconnect(1002, reason))


class FrameReader:
    """Puts messages together from the bytes of one client.

    ``max_bytes`` bounds a message, whole or fragmented; a larger one is refused as soon as
    its size is known, and nothing of it is kept.
    """

    __slots__ = ("_max_bytes", "_opcode", "_parts", "_rest")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        #: Bytes of a frame that is not all there.
        self._rest = b""
        #: The payload so far of a fragmented message, and what it is.
        self._parts: bytearray | None = None
        self._opcode = Opcode.TEXT

    def feed(self, data: bytes) -> tuple[list[Message], Violation | None]:
        """Return the messages that are complete now, and what came after them that is wrong.

        After a violation the reader must not be fed any more.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        messages: list[Message] = []
        position = 0
        try:
            while (end := self._frame_at(data, position, messages)) is not None:
                position = end
        except Violation as violation:
            return messages, violation
        self._rest = data[position:]
        return messages, None

    def _frame_at(self, data: bytes, start: int, messages: list[Message]) -> int | None:
        """Take one frame; return where the next one begins, None if it is not all there."""
        available = len(data) - start
        if available < 2:
            return None
        first, second = data[start], data[start + 1]
        opcode = self._check(first, second)
        size, header = second & ~_MASKED, 2
        if size >= _LENGTH_16:
            header += 2 if size == _LENGTH_16 else 8
            if available < header:
                return None
            size = int.from_bytes(data[start + 2 : start + header], "big")
        whole = size if self._parts is None or opcode >= Opcode.CLOSE else size + len(self._parts)
        if whole > self._max_bytes:
            raise Violation(Disconnect(1009, f"a message may have {self._max_bytes} bytes"))
        end = start + header + 4 + size
        if len(data) < end:
            return None
        mask = data[start + header : start + header + 4]
        self._take(opcode, bool(first & _FIN), apply_mask(data[end - size : end], mask), messages)
        return end

    def _check(self, first: int, second: int) -> Opcode:
        """Return the opcode of a frame that may stand here."""
        try:
            opcode = Opcode(first & 0x0F)
        except ValueError:
            raise _violation(f"expected a known opcode; got {first & 0x0F}") from None
        if first & _RESERVED:
            raise _violation("expected no reserved bits: no extension was agreed on")
        if not second & _MASKED:
            raise _violation("expected a masked frame: a client masks what it sends")
        if opcode >= Opcode.CLOSE:
            if not first & _FIN or second & ~_MASKED > _MAX_CONTROL:
                raise _violation("expected a control frame whole and of 125 bytes at most")
        elif (opcode is Opcode.CONTINUATION) is (self._parts is None):
            raise _violation("expected a continuation exactly inside a fragmented message")
        return opcode

    def _take(self, opcode: Opcode, fin: bool, payload: bytes, messages: list[Message]) -> None:  # noqa: FBT001 - a bit of the frame
        if opcode >= Opcode.CLOSE:
            messages.append(Message(opcode, payload))
            return
        if opcode is not Opcode.CONTINUATION:
            self._opcode = opcode
        if self._parts is not None or not fin:
            self._parts = self._parts or bytearray()
            self._parts += payload
            if not fin:
                return
            payload = bytes(self._parts)
            self._parts = None
        if self._opcode is Opcode.TEXT:
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise Violation(_NOT_UTF_8) from None
        messages.append(Message(self._opcode, payload))
