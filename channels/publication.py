"""A publication as text: put together once, sent to everybody as it is.

Three texts matter, and each contains the next, so that nothing is encoded twice:

    message  what Redis carries:   ``<epoch> <offset> <id> <wire>``
    wire     what a WebSocket gets: ``{"push":{"channel":"c","pub":{"offset":7,<body>}}``
    body     what the log keeps:    ``"data":{...}}`` - the publication object after its offset

The append script joins them by concatenation, and so does :meth:`Publication.from_log` for
what is read back. None contains a newline: newlines separate messages on the wire.
"""

from __future__ import annotations

import msgspec

from .errors import BadRequest, LimitExceeded
from .position import Position

__all__ = [
    "MAX_DATA_BYTES",
    "Publication",
    "check_json",
    "encode_body",
    "publication_prefix",
]

#: Largest ``data`` of a publication. The same 64 KiB is the largest WebSocket message that is
#: accepted, the payload limit of the queues, and a sixteenth of what a slow reader may owe.
MAX_DATA_BYTES = 64 * 1024

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def check_json(data: bytes | bytearray | memoryview | msgspec.Raw) -> bytes:
    """Return ``data`` as one line of JSON that every subscriber can read, otherwise as it came.

    Raises:
        LimitExceeded: it is larger than 64 KiB.
        BadRequest: it is not JSON, not UTF-8, holds a lone surrogate, or nests too deep.
    """
    text = bytes(data)
    if len(text) > MAX_DATA_BYTES:
        raise LimitExceeded(f"data is {len(text)} bytes; at most {MAX_DATA_BYTES} are allowed")
    try:
        _decode(text)
    # Bad UTF-8 and too deep nesting are not DecodeErrors.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"data must be JSON in UTF-8; {error}") from None
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
    """
    parts = [b'"data":', data]
    if info is not None:
        parts += (b',"info":', info)
    if tags:
        parts += (b',"tags":', _encode(tags))
    parts.append(b"}")
    return b"".join(parts)


def publication_prefix(channel: str) -> bytes:
    """Return what stands before the offset in the wire text of ``channel``.

    Names of channels hold no character that JSON escapes (:func:`~channels.check_channel`).
    """
    return b'{"push":{"channel":"%b","pub":{"offset":' % channel.encode("ascii")


#: ``{"push":`` before, ``}`` after what is inside.
_PUSH_START = len(b'{"push":')
#: The publication object starts one brace before ``"offset":``.
_OBJECT_LENGTH = len(b'{"offset":')


class Publication:
    """One event at one position of one channel, as the bytes that travel.

    Attributes:
        channel: name of the channel.
        epoch, offset: its position in the channel's log.
        id: what tells two publications at the same offset apart after history forked.
        wire: the finished push, newline-free JSON.
    """

    __slots__ = ("_object_start", "channel", "epoch", "id", "offset", "wire")

    def __init__(
        self, channel: str, epoch: str, offset: int, id: str, wire: bytes, object_start: int
    ) -> None:
        self.channel = channel
        self.epoch = epoch
        self.offset = offset
        self.id = id
        self.wire = wire
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
        epoch, offset, id_, wire = message.split(b" ", 3)
        if wire[:_PUSH_START] != b'{"push":':
            raise ValueError("no push in the message")
        return cls(
            channel,
            epoch.decode("ascii"),
            int(offset),
            id_.decode("ascii"),
            wire,
            prefix_length - _OBJECT_LENGTH,
        )

    @classmethod
    def from_log(cls, channel: str, epoch: str, offset: int, id: str, body: bytes) -> Publication:
        """Return the publication of a log entry."""
        prefix = publication_prefix(channel)
        wire = b"%b%d,%b}}" % (prefix, offset, body)
        return cls(channel, epoch, offset, id, wire, len(prefix) - _OBJECT_LENGTH)

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.epoch, self.offset)

    @property
    def object(self) -> bytes:
        """The publication object, ``{"offset":7,"data":...}``, as replies contain it."""
        return self.wire[self._object_start : -2]

    @property
    def push(self) -> bytes:
        """The push without its wrapping, ``{"channel":"c","pub":{...}}``, as SSE sends it."""
        return self.wire[_PUSH_START:-1]

    @property
    def data(self) -> bytes:
        """The JSON that was published."""
        return bytes(msgspec.json.decode(self.object, type=_Data).data)


class _Data(msgspec.Struct):
    data: msgspec.Raw
