"""Publications in the encodings that sockets take, each made once and shared by everybody.

A :class:`Frame` is one publication; a :class:`Batch` is what one channel brought since its
subscribers were last served, and goes out in one write to each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from channels.cursor import encode_cursor_part
from channels.publication import Publication
from hub.rfc6455 import text_frame

__all__ = ["Batch", "Frame", "Standing", "chunk", "messages"]

#: Bytes of text that go into one WebSocket message at most, unless one item is larger. Large
#: enough that a burst costs few frames, small enough for every client's limit of a message.
MAX_MESSAGE_BYTES = 32 * 1024


def messages(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield texts of the bidirectional protocol as messages: one a line, of sensible size."""
    lines: list[bytes] = []
    size = 0
    for text in texts:
        if lines and size + len(text) > MAX_MESSAGE_BYTES:
            yield b"\n".join(lines)
            lines, size = [], 0
        lines.append(text)
        size += len(text) + 1
    if lines:
        yield b"\n".join(lines)


def chunk(data: bytes) -> bytes:
    """Return a chunk of an HTTP/1.1 body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Frame:
    """One publication, as an SSE event.

    The first feed that needs an encoding pays for it; the other thousand share it. ``skipped``
    publications before it are not sent to the reader this frame is for, and it says so.
    """

    __slots__ = ("_cursor", "_event", "publication", "skipped")

    def __init__(self, publication: Publication, skipped: int = 0) -> None:
        self.publication = publication
        self.skipped = skipped
        self._event: bytes | None = None
        self._cursor: bytes | None = None

    def __len__(self) -> int:
        """Size in bytes, as far as limits are concerned."""
        return len(self.publication.wire)

    @property
    def text(self) -> bytes:
        """The push, as a line of the bidirectional protocol."""
        publication = self.publication
        return publication.skipping(self.skipped) if self.skipped else publication.wire

    @property
    def event(self) -> bytes:
        """The push as an SSE event without ``id:``, its final newline not included."""
        if self._event is None:
            publication = self.publication
            push = publication.push_skipping(self.skipped) if self.skipped else publication.push
            self._event = b"data: %b\n" % push
        return self._event

    @property
    def cursor(self) -> bytes:
        """The part of a cursor that stands right after this publication."""
        if self._cursor is None:
            pub = self.publication
            self._cursor = encode_cursor_part(pub.channel, pub.epoch, pub.offset, pub.id)
        return self._cursor

    @property
    def block(self) -> bytes:
        """The finished SSE event of a feed of this one channel, with its ``id:``."""
        return b"id: %b\n%b\n" % (self.cursor, self.event)


class Standing:
    """Where a feed stands on a channel from here on, and the event that tells why, if any."""

    __slots__ = ("channel", "event", "part")

    def __init__(self, channel: str, part: bytes, event: bytes = b"") -> None:
        self.channel = channel
        #: The part of a cursor.
        self.part = part
        #: An SSE event without ``id:``, its final newline not included; empty for none.
        self.event = event

    def __len__(self) -> int:
        """Size in bytes, as far as limits are concerned."""
        return len(self.event)


class Batch:
    """Publications of one channel and one epoch that follow each other, never empty."""

    __slots__ = ("_chunk", "_frames", "publications", "size", "websocket")

    def __init__(self, publications: Sequence[Publication]) -> None:
        self.publications = publications
        #: The batch as WebSocket frames, of one write. An attribute, not a property: it is
        #: read once a delivery.
        self.websocket: bytes
        #: Bytes of all texts, as far as limits are concerned.
        self.size: int
        if len(publications) == 1:  # most batches of a quiet channel, so without a detour
            text = publications[0].wire
            self.websocket, self.size = text_frame(text), len(text)
        else:
            texts = [publication.wire for publication in publications]
            self.websocket = b"".join(map(text_frame, messages(texts)))
            self.size = sum(map(len, texts))
        self._chunk: bytes | None = None
        self._frames: list[Frame] | None = None

    def __len__(self) -> int:
        """Number of publications."""
        return len(self.publications)

    @property
    def last(self) -> Publication:
        """The newest publication."""
        return self.publications[-1]

    @property
    def chunk(self) -> bytes:
        """The batch as one HTTP chunk of a feed of this one channel."""
        if self._chunk is None:
            self._chunk = chunk(b"".join([frame.block for frame in self.frames]))
        return self._chunk

    @property
    def frames(self) -> list[Frame]:
        """The publications one by one, shared by all who need them so."""
        if self._frames is None:
            self._frames = [Frame(publication) for publication in self.publications]
        return self._frames

    def after(self, offset: int) -> Batch | None:
        """Return what comes after ``offset``: everything, a part, or None."""
        publications = self.publications
        first = publications[0].offset
        if offset < first:
            return self
        if offset >= self.last.offset:
            return None
        return Batch(publications[offset - first + 1 :])
