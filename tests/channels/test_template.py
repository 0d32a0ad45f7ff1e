"""Events with holes: put together again they are what the event would have been."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from channels.errors import BadRequest, LimitExceeded
from channels.event import encode_event
from channels.events import Message, SessionMessage, SessionMessageData
from channels.publication import encode_body
from channels.template import body_pieces

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def message(version: int, seq: int, content: str = "hi") -> SessionMessage:
    """Return an event with two numbers."""
    data = SessionMessageData(
        workspace="w1",
        session="s1",
        version=version,
        message=Message(id="m1", seq=seq, role="user", content=content, time=NOW),
    )
    return SessionMessage(data=data, id="e1", time=NOW)


def test_around_the_numbers_it_is_the_event() -> None:
    """Whatever they are."""
    pieces = body_pieces(message, 2)
    assert len(pieces) == 3
    for version, seq in ((1, 1), (2**53, 7)):
        body = pieces[0] + b"%d" % version + pieces[1] + b"%d" % seq + pieces[2]
        assert body == encode_body(encode_event(message(version, seq)))


def test_digits_in_the_text_are_nothing_special() -> None:
    """Not even all of them."""
    content = "".join(str(number) for number in range(10**14, 10**14 + 300))
    pieces = body_pieces(lambda version, seq: message(version, seq, content), 2)
    told = json.loads(b"{" + b"5".join(pieces))
    assert told["data"]["data"]["message"]["content"] == content


def test_numbers_out_of_order_are_a_mistake() -> None:
    """The script would swap them."""
    with pytest.raises(BadRequest, match="2 numbers once and in order"):
        body_pieces(lambda seq, version: message(version, seq), 2)


def test_a_number_that_is_not_there_is_a_mistake() -> None:
    """Or one that stands there twice."""
    with pytest.raises(BadRequest):
        body_pieces(lambda _: message(1, 1), 1)
    with pytest.raises(BadRequest):
        body_pieces(lambda number: message(number, number), 1)


def test_too_large_an_event_is_refused() -> None:
    """Before any script runs."""
    with pytest.raises(LimitExceeded, match="at most 65536"):
        body_pieces(lambda version, seq: message(version, seq, "x" * 65_300), 2)
