"""Frames and batches: the encodings of publications."""

from __future__ import annotations

import json

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame as WebSocketFrame
from websockets.protocol import State
from websockets.uri import parse_uri

from hub.frame import MAX_MESSAGE_BYTES, Batch, Frame

from .harness import publication


def test_the_text_is_the_wire_text() -> None:
    """What Redis carried is what a WebSocket gets, characters and all."""
    pub = publication(7, data='{"text":"é \\u2028 \u2028"}'.encode())
    frame = Frame(pub)
    assert frame.text == pub.wire
    assert len(frame) == len(pub.wire)
    assert json.loads(frame.text)["push"]["pub"] == {
        "offset": 7,
        "data": {"text": "é \u2028 \u2028"},
    }


def test_the_event_is_one_data_line() -> None:
    """Server-sent events carry the push without its wrapping."""
    event = Frame(publication(7)).event
    assert event == b'data: {"channel":"chat","pub":{"offset":7,"data":7}}\n'


def test_each_encoding_is_made_once() -> None:
    """A thousand subscribers share what the first one paid for."""
    frame = Frame(publication(7))
    assert frame.event is frame.event
    assert frame.cursor is frame.cursor
    batch = Batch([publication(7), publication(8)])
    assert batch.websocket is batch.websocket
    assert batch.chunk is batch.chunk
    assert batch.frames is batch.frames


def test_the_block_is_an_event_with_its_cursor() -> None:
    """A feed of one channel writes it as it is."""
    frame = Frame(publication(7))
    assert frame.block == b"id: " + frame.cursor + b"\n" + frame.event + b"\n"


def test_what_was_skipped_is_told_in_every_encoding() -> None:
    """By the first frame after it, to the one reader that skipped it."""
    frame = Frame(publication(7), skipped=2)
    assert json.loads(frame.text)["push"]["pub"] == {"offset": 7, "skipped": 2, "data": 7}
    assert json.loads(frame.event.removeprefix(b"data: "))["pub"]["skipped"] == 2


@pytest.mark.parametrize("count", [1, 2, 50])
@pytest.mark.parametrize("size", [1, 100, 200, 40_000, 70_000])
def test_a_batch_is_messages_of_lines(count: int, size: int) -> None:
    """Read back by a client's parser, it is every push once, in order; messages are bounded."""
    batch = Batch([publication(n, data=b'"%b"' % (b"x" * size)) for n in range(1, count + 1)])
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(batch.websocket)
    texts = [
        bytes(event.data) for event in client.events_received() if isinstance(event, WebSocketFrame)
    ]
    lines = [line for text in texts for line in text.split(b"\n")]
    assert lines == [pub.wire for pub in batch.publications]
    assert all(len(text) <= MAX_MESSAGE_BYTES or b"\n" not in text for text in texts)


def test_a_chunk_is_all_blocks() -> None:
    """With its size before it, as HTTP wants it."""
    batch = Batch([publication(1), publication(2)])
    size, _, rest = batch.chunk.partition(b"\r\n")
    blocks = b"".join(frame.block for frame in batch.frames)
    assert (int(size, 16), rest) == (len(blocks), blocks + b"\r\n")


@pytest.mark.parametrize("offset", range(12))
def test_the_rest_of_a_batch(offset: int) -> None:
    """What comes after an offset: all, a part, or nothing."""
    batch = Batch([publication(n) for n in range(3, 9)])
    rest = batch.after(offset)
    offsets = [] if rest is None else [pub.offset for pub in rest.publications]
    assert offsets == [n for n in range(3, 9) if n > offset]
    assert (rest is batch) == (offset < 3)
