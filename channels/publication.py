"""A publication as text: put together once, sent to everybody as it is.

Three texts matter, and each contains the next, so that nothing is encoded twice:

    message  what Redis carries:   ``<epoch> <offset> <id> <previous id> <key> <wire>``
    wire     what a WebSocket gets: ``{"push":{"channel":"c","pub":{"offset":7,<body>}}``
    body     what the log keeps:    ``"data":{...}}`` - the publication object after its offset

The append script joins them by concatenation, and so does :meth:`Publication.from_log` for
what is read back. None contains a newline: newlines separate messages on the wire.
"""

from __future__ import annotations

import re
from itertools import accumulate

import msgspec

from .errors import BadRequest, LimitExceeded
from .position import Position

__all__ = [
    "MAX_DATA_BYTES",
    "MAX_DEPTH",
    "Publication",
    "check_json",
    "encode_body",
    "publication_prefix",
]

#: Largest ``data`` of a publication. The same 64 KiB is the largest WebSocket message that is
#: accepted, the payload limit of the queues, and a sixteenth of what a slow reader may owe.
MAX_DATA_BYTES = 64 * 1024

#: Deepest nesting of ``data``. Parsers of other languages stop at 128 by default, and the
#: push around ``data`` nests too. Without a bound of our own it would be the interpreter's
#: recursion limit, less whatever the caller's stack already holds.
MAX_DEPTH = 100

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

# Possessive, so that the time is linear whatever the text.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_NOT_A_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_DEPTH_CHANGE = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def _is_deep(text: bytes) -> bool:
    """Return whether valid JSON nests deeper than allowed."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", text).translate(None, _NOT_A_BRACKET)
    return max(accumulate(map(_DEPTH_CHANGE.__getitem__, brackets)), default=0) > MAX_DEPTH


def check_json(data: bytes | bytearray | memoryview | msgspec.Raw) -> bytes:
    """Return ``data`` as one line of JSON that every subscriber can read, otherwise as it came.

    Raises:
        LimitExceeded: it is larger than 64 KiB.
        BadRequest: it is not one JSON value, not UTF-8, holds a lone surrogate or a number
            that is out of range, or nests deeper than 100.
    """
    text = bytes(data)
    if len(text) > MAX_DATA_BYTES:
        raise LimitExceeded(f"data is {len(text)} bytes; at most {MAX_DATA_BYTES} are allowed")
    try:
        _decode(text)
    # Bad UTF-8 and too deep nesting are not DecodeErrors.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"data must be one JSON value in UTF-8, without lone surrogates; {error}"
        ) from None
    if _is_deep(text):
        raise BadRequest(f"data must not nest deeper than {MAX_DEPTH}")
    if b"\n" in text or b"\r" in text:
        # Valid JSON has raw line ends only between tokens, where a space means the same.
        text = text.replace(b"\r", b" ").replace(b"\n", b" ")
    return text


def encode_body(
    data: bytes, *, info: bytes | None = None, tags: dict[str, str] | None = None
) -> bytes:
    """Return the publication object after its offset: ``"data":...}``.

    ``data`` and ``info`` are JSON without newlines (see :func:`check_json`); ``info`` is the
    client that published, absent for publications of the server.

    Raises:
        BadRequest: a tag holds a lone surrogate.
    """
    parts = [b'"data":', data]
    if info is not None:
        parts += (b',"info":', info)
    if tags:
        try:
            parts += (b',"tags":', _encode(tags))
        except UnicodeEncodeError as error:
            raise BadRequest(f"tags must be text without lone surrogates; {error}") from None
    parts.append(b"}")
    return b"".join(parts)


def publication_prefix(channel: str) -> bytes:
    """Return what stands before the offset in the wire text of ``channel``.

    Names of channels hold no character that JSON escapes (:func:`~channels.check_channel`).
    """
    return b'{"push":{"channel":"%b","pub":{"offset":' % channel.encode("ascii")


#: ``{"push":`` before, ``}`` after what is inside.
_PUSH_START = b'{"push":'
#: How a publication object starts; it ends before the two braces at the wire's end.
_OBJECT_START = b'{"offset":'


class Publication:
    """One event at one position of one channel, as the bytes that travel.

    Attributes:
        channel: name of the channel.
        epoch, offset, position: where it stands in the channel's log.
        id: what tells two publications at the same offset apart after history forked.
        previous: id of the publication before it, "" if it is the first of its epoch. Only a
            message tells; None for what was read from the log.
        key: the conflation key, "" if the publication must not be left out. Only a message
            tells; what was read from the log has none, for what a reader missed is given in
            full.
        wire: the finished push, newline-free JSON.
    """

    __slots__ = (
        "_object_start",
        "channel",
        "epoch",
        "id",
        "key",
        "offset",
        "position",
        "previous",
        "wire",
    )

    def __init__(
        self,
        channel: str,
        epoch: str,
        offset: int,
        id: str,
        wire: bytes,
        object_start: int,
        previous: str | None = None,
        key: str = "",
    ) -> None:
        self.channel = channel
        self.epoch = epoch
        self.offset = offset
        self.position = Position(epoch, offset)
        self.id = id
        self.wire = wire
        self.previous = previous
        self.key = key
        self._object_start = object_start

    def __repr__(self) -> str:
        return f"Publication({self.channel!r}, {self.epoch}:{self.offset}, id={self.id!r})"

    @classmethod
    def from_message(cls, channel: str, prefix_length: int, message: bytes) -> Publication:
        """Return the publication in a Redis message, without parsing its JSON.

        ``prefix_length`` is the length of the channel's :func:`publication_prefix`.

        Raises:
            ValueError: the message is not one of ours.
        """
        epoch, offset, id_, previous, key, wire = message.split(b" ", 5)
        start = prefix_length - len(_OBJECT_START)
        if not (
            wire.startswith(_PUSH_START)
            and wire.startswith(_OBJECT_START, start)
            and wire.endswith(b"}}}")
        ):
            raise ValueError(f"no push of {channel} in the message")
        return cls(
            channel,
            epoch.decode("ascii"),
            int(offset),
            id_.decode("ascii"),
            wire,
            start,
            previous.decode("ascii"),
            key.decode("ascii"),
        )

    @classmethod
    def from_log(cls, channel: str, epoch: str, offset: int, id: str, body: bytes) -> Publication:
        """Return the publication of a log entry."""
        prefix = publication_prefix(channel)
        wire = b"%b%d,%b}}" % (prefix, offset, body)
        return cls(channel, epoch, offset, id, wire, len(prefix) - len(_OBJECT_START))

    @property
    def object(self) -> bytes:
        """The publication object, ``{"offset":7,"data":...}``, as replies contain it."""
        return self.wire[self._object_start : -2]

    @property
    def push(self) -> bytes:
        """The push without its wrapping, ``{"channel":"c","pub":{...}}``, as SSE sends it."""
        return self.wire[len(_PUSH_START) : -1]

    def skipping(self, count: int) -> bytes:
        """Return :attr:`wire` for a reader that does not get the ``count`` publications before.

        ``"skipped":count`` stands right after the offset: those offsets were superseded, not
        lost.

        Raises:
            ValueError: ``count`` is less than 1.
        """
        if count < 1:
            raise ValueError(f"expected to skip at least 1 publication; got {count}")
        # An offset is digits, so the first comma of the object ends it.
        after_offset = self.wire.index(b",", self._object_start)
        return b'%b,"skipped":%d%b' % (self.wire[:after_offset], count, self.wire[after_offset:])

    def push_skipping(self, count: int) -> bytes:
        """Return :attr:`push` for a reader that does not get the ``count`` publications before.

        Raises:
            ValueError: ``count`` is less than 1.
        """
        return self.skipping(count)[len(_PUSH_START) : -1]

    @property
    def data(self) -> bytes:
        """The JSON that was published, without the whitespace around it."""
        return bytes(_decode_data(self.object).data)


class _Data(msgspec.Struct):
    data: msgspec.Raw


_decode_data = msgspec.json.Decoder(_Data).decode
