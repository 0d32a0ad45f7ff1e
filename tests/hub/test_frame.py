"""Frames: the encodings of one publication."""

from __future__ import annotations

import json

from hub.frame import Frame

from .harness import publication


def test_the_text_is_the_wire_text() -> None:
    """What Redis carried is what a WebSocket gets, characters and all."""
    pub = publication(7, data='{"text":"é \\u2028 \u2028"}'.encode())
    frame = Frame(pub)
    assert frame.text == pub.wire.decode()
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
    assert frame.text is frame.text
    assert frame.event is frame.event
    assert frame.cursor is frame.cursor
    assert frame.block is frame.block


def test_the_block_is_an_event_with_its_cursor() -> None:
    """A feed of one channel writes it as it is."""
    frame = Frame(publication(7))
    assert frame.block == b"id: " + frame.cursor + b"\n" + frame.event + b"\n"
