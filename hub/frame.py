"""A publication in the encodings that sockets take, each made once and shared by everybody."""

from __future__ import annotations

from channels.publication import Publication

__all__ = ["Frame"]


class Frame:
    """One publication, ready for any transport.

    The first subscriber that needs an encoding pays for it; the other thousand share it.
    """

    __slots__ = ("_event", "_text", "publication")

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self._text: str | None = None
        self._event: bytes | None = None

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
