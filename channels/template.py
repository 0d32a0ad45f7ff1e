"""Events whose numbers only a script knows: text with holes.

A script that changes state gives the change its version, and the event that tells of it
carries this version. Lua does not encode JSON here: Python encodes the event once, with a
stand-in for each number, and the script puts the pieces together again around the numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .errors import BadRequest, LimitExceeded
from .event import Event, encode_event
from .publication import MAX_DATA_BYTES, check_json, encode_body

__all__ = ["body_pieces"]

# Stand-ins are 15 digits, so that each is a number to every parser of JSON.
_LOW, _HIGH = 10**14, 10**15 - 1
#: A stand-in may occur in what a user wrote by chance, once in ages, or because it was guessed.
_ATTEMPTS = 8
#: Digits a number may have more than its stand-in (2^53 has 16).
_SLACK = 8

_chance = random.SystemRandom()


def body_pieces(make: Callable[..., Event], holes: int) -> list[bytes]:
    """Return the body of a publication (:func:`~.publication.encode_body`) in pieces.

    ``make`` is called with ``holes`` integers and returns the event with each of them standing
    in it exactly once, in this order. ``pieces[0] + number + pieces[1] + ...`` is the body.

    Raises:
        LimitExceeded: the event is larger than a publication may be.
        BadRequest: it cannot be told in JSON.
    """
    for _ in range(_ATTEMPTS):
        marks = [_chance.randint(_LOW, _HIGH) for _ in range(holes)]
        text = check_json(encode_event(make(*marks)))
        if len(text) > MAX_DATA_BYTES - _SLACK * holes:
            raise LimitExceeded(
                f"data is about {len(text)} bytes; at most {MAX_DATA_BYTES} are allowed"
            )
        pieces = _split(encode_body(text), marks)
        if pieces is not None:
            return pieces
    raise BadRequest(f"the event does not hold each of its {holes} numbers once and in order")


def _split(text: bytes, marks: list[int]) -> list[bytes] | None:
    pieces: list[bytes] = []
    for mark in marks:
        before, found, text = text.partition(b"%d" % mark)
        if not found:
            return None
        pieces.append(before)
    pieces.append(text)
    rest = b"".join(pieces)
    return None if any(b"%d" % mark in rest for mark in marks) else pieces
