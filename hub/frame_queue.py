"""What waits for a reader that is behind: in order, the newest of each conflation key.

A publication with a key gives way to a newer one with the same key on the same channel, unless
something else than publications came in between. Its reader is told: the next frame of that
channel says how many it did not get, so that a hole in the offsets is never mistaken for a loss.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

from hub.frame import Frame, Standing

__all__ = ["Entry", "FrameQueue", "entry_text"]

#: What waits: a text or block of the connection's own, a publication, a feed's new standing.
Entry: TypeAlias = bytes | Frame | Standing


def entry_text(entry: Entry) -> bytes:
    """Return ``entry`` as lines of the bidirectional protocol."""
    match entry:
        case bytes():
            return entry
        case Frame():
            return entry.text
    raise AssertionError("only feeds stand somewhere; clients of the protocol do it themselves")


class FrameQueue:
    """Entries in the order they came; :attr:`size` is what they have in bytes.

    From the first one with a key on, the frames of a channel are numbered as they are queued, so
    that the numbers of those that come out tell how many went missing in between. Nothing is
    left of a superseded one.
    """

    __slots__ = ("_came", "_entries", "_left", "_newest", "_tickets", "size")

    def __init__(self) -> None:
        # By ticket. Ordered and linked: the first can be taken and any one let go at once.
        self._entries: OrderedDict[int, tuple[Entry, int]] = OrderedDict()
        self._tickets = 0
        #: Ticket of the newest frame that waits of each (channel, key).
        self._newest: dict[tuple[str, str], int] = {}
        #: Frames that were queued, and the number of the last one taken, by channel.
        self._came: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def push(self, entry: Entry) -> None:
        """Append ``entry``."""
        number = 0
        self._tickets += 1
        if isinstance(entry, Frame):
            publication = entry.publication
            channel = publication.channel
            if publication.key or channel in self._came:
                number = self._came[channel] = self._came.get(channel, 0) + 1
            if publication.key:
                self._newest[channel, publication.key] = self._tickets
        else:
            # A reply or a gap may end the history that the reader has of a channel: nothing
            # that comes after it is a newer state of what waits before it.
            self._newest.clear()
        self._entries[self._tickets] = (entry, number)
        self.size += len(entry)

    def supersede(self, frame: Frame) -> bool:
        """Let go of the frame that ``frame`` makes worthless; return whether there was one.

        ``frame`` must be pushed next: it is what tells the reader.
        """
        publication = frame.publication
        ticket = self._newest.pop((publication.channel, publication.key), None)
        if ticket is None:
            return False
        self.size -= len(self._entries.pop(ticket)[0])
        return True

    def pop(self, most_bytes: int) -> list[Entry]:
        """Take entries out: one, and more while they have ``most_bytes`` at most together."""
        taken: list[Entry] = []
        size = 0
        while self._entries:
            ticket, (entry, number) = next(iter(self._entries.items()))
            if taken and size + len(entry) > most_bytes:
                break
            del self._entries[ticket]
            size += len(entry)
            if number and isinstance(entry, Frame):
                self._forget(entry, ticket)
                entry = self._telling(entry, number)
            taken.append(entry)
        self.size -= size
        return taken

    def _telling(self, frame: Frame, number: int) -> Frame:
        """Return ``frame``, with the number of those left out before it."""
        channel = frame.publication.channel
        skipped = number - self._left.get(channel, 0) - 1
        self._left[channel] = number
        return Frame(frame.publication, skipped) if skipped else frame

    def _forget(self, frame: Frame, ticket: int) -> None:
        """Keep a frame that was taken from being superseded."""
        name = (frame.publication.channel, frame.publication.key)
        if self._newest.get(name) == ticket:
            del self._newest[name]
