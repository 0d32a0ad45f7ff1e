"""WebSocket frames: read as websockets reads them, written as its clients understand them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, apply_mask
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from channels.errors import Disconnect
from hub.rfc6455 import (
    FrameReader,
    Message,
    Opcode,
    Violation,
    close_frame,
    echo_of_close,
    pong_frame,
    text_frame,
)

MAX_BYTES = 1_000


def raw(first: int, payload: bytes = b"", *, masked: bool = True, size: int | None = None) -> bytes:
    """Return a frame as a client sends it, with any first byte and any claim of a size."""
    size = len(payload) if size is None else size
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 1 << 16:
        head = bytes([first, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + apply_mask(payload, mask)


def feed(*pieces: bytes) -> tuple[list[Message], int | None]:
    """Return the messages in ``pieces``, and the close code of what is wrong after them."""
    reader = FrameReader(MAX_BYTES)
    found: list[Message] = []
    for piece in pieces:
        messages, violation = reader.feed(piece)
        found += messages
        if violation is not None:
            return found, violation.disconnect.code
    return found, None


def reference(data: bytes) -> tuple[list[Message], int | None]:
    """Return what the ``websockets`` package makes of ``data``."""
    server = ServerProtocol(state=State.OPEN, max_size=MAX_BYTES)
    server.receive_data(data)
    found: list[Message] = []
    parts, opcode = b"", Opcode.TEXT
    for event in server.events_received():
        assert isinstance(event, Frame)
        kind = Opcode(event.opcode)
        if kind >= Opcode.CLOSE:
            found.append(Message(kind, bytes(event.data)))
            continue
        if kind is not Opcode.CONTINUATION:
            parts, opcode = b"", kind
        parts += bytes(event.data)
        if event.fin:
            found.append(Message(opcode, parts))
    wrong = server.close_sent.code if server.parser_exc and server.close_sent else None
    return found, wrong


_frames = st.builds(
    raw,
    st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A])
    | st.integers(0, 255).filter(lambda first: first & 0x0F != 8),
    st.binary(max_size=200).map(lambda data: data.hex().encode()),
    masked=st.sampled_from([True] * 9 + [False]),
)


@given(frames=st.lists(_frames, max_size=8), data=st.data())
def test_it_reads_as_the_reference_does(frames: list[bytes], data: st.DataObject) -> None:
    """The same messages, and the same code for what is wrong, however the bytes are cut."""
    everything = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(everything)), max_size=6)))
    pieces = [everything[a:b] for a, b in zip([0, *cuts], [*cuts, len(everything)], strict=True)]
    assert feed(*pieces) == reference(everything)


@given(st.binary(max_size=300), st.binary(max_size=10))
def test_garbage_never_raises(data: bytes, more: bytes) -> None:
    """Whatever comes is messages, or a violation with a code that a close frame can carry."""
    _, code = feed(data, more)
    assert code in {None, 1002, 1007, 1009}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (raw(0x81, b"x" * (MAX_BYTES + 1)), 1009),
        (raw(0x81, size=MAX_BYTES + 1), 1009),
        (raw(0x81, size=1 << 62), 1009),
        (raw(0x01, b"x" * MAX_BYTES) + raw(0x80, b"x"), 1009),
        (raw(0x81, b"\xff"), 1007),
        (raw(0x01, b"\xc3") + raw(0x80, b"\x28"), 1007),
        (raw(0x81, b"x", masked=False), 1002),
        (raw(0xC1, b"x"), 1002),
        (raw(0x83), 1002),
        (raw(0x80, b"x"), 1002),
        (raw(0x01, b"x") + raw(0x81, b"x"), 1002),
        (raw(0x09, b"x"), 1002),
        (raw(0x89, b"x" * 126), 1002),
    ],
    # Masks are random; a test has one name.
    ids=range(13),
)
def test_what_is_wrong_has_a_code(data: bytes, code: int) -> None:
    """Too large, no UTF-8, no mask, reserved bits, unknown, out of place."""
    assert feed(data)[1] == code


def test_what_came_before_a_violation_is_kept() -> None:
    """The client meant it."""
    assert feed(raw(0x81, b"a") + raw(0x83)) == ([Message(Opcode.TEXT, b"a")], 1002)


def test_a_control_frame_may_stand_inside_a_message() -> None:
    """It is taken at once; text may be cut in the middle of a character."""
    data = raw(0x01, "é".encode()[:1]) + raw(0x89, b"?") + raw(0x80, "é".encode()[1:])
    messages = [Message(Opcode.PING, b"?"), Message(Opcode.TEXT, "é".encode())]
    assert feed(data) == (messages, None)
    assert feed(*(bytes([byte]) for byte in data)) == (messages, None)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_text_frame_is_understood(size: int) -> None:
    """At every boundary of the three ways to write a length."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    client.receive_data(text_frame(b"x" * size) + pong_frame(b"?"))
    text, pong = client.events_received()
    assert isinstance(text, Frame)
    assert isinstance(pong, Frame)
    assert (text.opcode, text.fin, bytes(text.data)) == (1, True, b"x" * size)
    assert (pong.opcode, bytes(pong.data)) == (10, b"?")


@pytest.mark.parametrize("reason", ["", "slow consumer", "é" * 100])
def test_a_close_frame_is_understood(reason: str) -> None:
    """A reason that is too long is cut between two characters."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    client.receive_data(close_frame(Disconnect(3008, reason)))
    assert client.close_rcvd is not None
    assert client.close_rcvd.code == 3008
    assert reason.startswith(client.close_rcvd.reason)
    assert len(client.close_rcvd.reason.encode()) in {len(reason.encode()), 122, 123}


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1014, 3000, 4999])
def test_a_close_is_echoed(code: int) -> None:
    """With its code."""
    assert echo_of_close(code.to_bytes(2, "big") + b"bye") == Disconnect(code, "")
    assert echo_of_close(b"") is None


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        ((999).to_bytes(2, "big"), 1002),
        ((1004).to_bytes(2, "big"), 1002),
        ((1005).to_bytes(2, "big"), 1002),
        ((1006).to_bytes(2, "big"), 1002),
        ((1015).to_bytes(2, "big"), 1002),
        ((5000).to_bytes(2, "big"), 1002),
        ((1000).to_bytes(2, "big") + b"\xff", 1007),
    ],
)
def test_a_bad_close_is_answered_with_why(payload: bytes, code: int) -> None:
    """Codes that must not be sent, and reasons that are no text."""
    with pytest.raises(Violation) as caught:
        echo_of_close(payload)
    assert caught.value.disconnect.code == code
