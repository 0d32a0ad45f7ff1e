"""A publication in the encodings that sockets take, each made once and shared by everybody."""

from __future__ import annotations

from channels.cursor import encode_cursor_part
from channels.publication import Publication

__all__ = ["Frame"]


class Frame:
    """One publication, ready for any transport.

    The first subscriber that needs an encoding pays for it; the other thousand share it.
    """

    __slots__ = ("_block", "_cursor", "_event", "_text", "publication")

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self._text: str | None = None
        self._event: bytes | None = None
        self._cursor: bytes | None = None
        self._block: bytes | None = None

    def __len__(self) -> int:
        """Size in bytes, as far as limits are concerned."""
        return len(self.publication.wire)

    @property
    def text(self) -> str:
        """The push as the text of a WebSocket message (ASGI sends text, not bytes)."""
        if self._text is None:
            self._text = self.publication.wire.decode("utf-8")
        return self._text

    @property
    def event(self) -> bytes:
        """The push as an SSE event without ``id:``, its final newline not included."""
        if self._event is None:
            self._event = b"data: %b\n" % self.publication.push
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
        if self._block is None:
            self._block = b"id: %b\n%b\n" % (self.cursor, self.event)
        return self._block
