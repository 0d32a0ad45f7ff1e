"""The tail of a channel's log: its newest publications in one piece, up to where a room stands.

Does no I/O. It begins as pages that somebody read and goes on with what the room is told, so
that whoever comes back to the room can be answered without another read. What it cannot prove
it does not say: the log decides then.
"""

from __future__ import annotations

from channels.position import Position
from channels.publication import Publication
from services.event_log import Gap, Page, Recovered

__all__ = ["MAX_TAIL_BYTES", "Tail"]

#: Bytes one tail may hold; beyond them it forgets its oldest. A quarter of what one recovery
#: may bring: enough for the whole default history at 2 KiB a publication, and whoever is
#: further behind is too few, or too expensive to serve, to be worth the memory.
MAX_TAIL_BYTES = 4 * 1024 * 1024

#: What a publication costs beside its wire text, about: object, id, epoch.
_PUBLICATION_BYTES = 300


class Tail:
    """The publications of one epoch after a base, without a hole, and the ids of all and of it.

    A new one knows only where it ends; :meth:`prepend` what came before, in pages, and
    :meth:`append` what comes. After :meth:`forget` it knows nothing.
    """

    __slots__ = (
        "_base_id",
        "_most",
        "_publications",
        "_whole",
        "base",
        "epoch",
        "size_bytes",
    )

    def __init__(self, top: Position | None = None, top_id: str = "", *, keep: int = 0) -> None:
        """Begin at ``top``, whose publication has the id ``top_id``; without it, know nothing.

        ``keep`` is how many publications the log keeps; a tail that grows does not know more.
        """
        self.epoch = "" if top is None else top.epoch
        #: Offset after which the publications begin.
        self.base = 0 if top is None else top.offset
        #: None when only the log can tell whether a reader there can go on.
        self._base_id: str | None = top_id
        #: Whether the log held nothing before the publications, not even the base.
        self._whole = False
        #: How many may come after the base when it grows; the base is in the log too.
        self._most = max(0, keep - 1)
        self._publications: list[Publication] = []
        self.size_bytes = 0

    @property
    def top(self) -> Position:
        """Where it ends."""
        return Position(self.epoch, self.base + len(self._publications))

    @property
    def top_id(self) -> str:
        """Id of the publication at ``top``."""
        return self._id_at(len(self._publications)) or ""

    def _id_at(self, index: int) -> str | None:
        return self._publications[index - 1].id if index else self._base_id

    def holds(self, position: Position, id: str) -> bool:
        """Tell whether the publication ``id`` stands at ``position`` here too.

        A room that stands where its tail holds is told nothing that the tail will not have:
        between the end of the tail and what comes next there is no hole.
        """
        index = position.offset - self.base
        return (
            self.epoch != ""
            and position.epoch == self.epoch
            and 0 <= index <= len(self._publications)
            and self._id_at(index) == id
        )

    # -- growing ---------------------------------------------------------------------------

    def append(self, publication: Publication) -> None:
        """Take the next publication, or one that was read from the log before it was told.

        One that is neither shows that this is not the log's tail any more: all is forgotten.
        """
        if not self.epoch:
            return
        count = len(self._publications)
        index = publication.offset - self.base
        ours = publication.epoch == self.epoch
        if ours and index == count + 1 and publication.previous in {None, self.top_id}:
            if self._whole and not count:
                self._base_id = None  # the log may have it as its base by now, or may not
            self._publications.append(publication)
            self.size_bytes += _size(publication)
            self._shrink(self._most)
        elif not (ours and 0 < index <= count and self._id_at(index) == publication.id):
            self.forget()

    def follow(self, other: Tail) -> None:
        """Take what ``other``, which was told it meanwhile, has beyond the end of this one."""
        for publication in other._publications[max(0, self.top.offset - other.base) :]:
            self.append(publication)

    def prepend(self, page: Page, limit: int) -> bool:
        """Take what the log has before this; return whether it may have more.

        ``page`` is what a read of at most ``limit`` publications gave, newest first, beginning
        with the one at ``base``. Its oldest becomes the new base, unless the log ends there.
        """
        found = page.publications
        if page.top.epoch != self.epoch:
            return False
        if not found:
            self._whole = not self._publications
            return False
        if found[0].offset != self.base or found[0].id != self._base_id:
            return False  # the log lost something, or grew beyond what its meta says
        count = 1
        while count < len(found) and found[count].offset == self.base - count:
            count += 1
        self._whole = len(found) < limit and count == len(found)
        taken = found[:count] if self._whole else found[: count - 1]
        self._publications[:0] = reversed(taken)
        self.size_bytes += sum(map(_size, taken))
        self.base -= len(taken)
        if not self._whole:
            self._base_id = found[count - 1].id
        else:
            # Who read all of a log that expired later can still go on.
            offset, id_ = page.base
            self._base_id = id_ if offset == self.base else ""
        return not self._shrink() and not self._whole and count == len(found)

    def _shrink(self, most: int | None = None) -> bool:
        """Forget the oldest until the rest is within its bounds; return whether any went."""
        publications = self._publications
        dropped = 0 if most is None else max(0, len(publications) - most)
        self.size_bytes -= sum(map(_size, publications[:dropped]))
        while self.size_bytes > MAX_TAIL_BYTES:
            self.size_bytes -= _size(publications[dropped])
            dropped += 1
        if not dropped:
            return False
        self.base += dropped
        self._base_id = publications[dropped - 1].id
        self._whole = False
        del publications[:dropped]
        return True

    def forget(self) -> None:
        """Know nothing any more."""
        self.epoch = ""
        self._publications.clear()
        self.size_bytes = 0

    # -- answering -------------------------------------------------------------------------

    def recover(self, since: Position, id: str = "") -> Recovered | None:
        """Return what ``EventLog.recover`` would have, as of the top; None if that is unknown.

        A gap is as old as the newest page: the log may have begun anew since.
        """
        if not self.epoch:
            return None
        index = since.offset - self.base
        gap: Gap | None = None
        if since.epoch != self.epoch:
            gap = Gap.EPOCH
        elif index > len(self._publications):
            gap = Gap.FORKED
        elif index < 0:
            if not self._whole:
                return None
            gap = Gap.TRIMMED
        elif id and since.offset and (known := self._id_at(index)) != id:
            if known is None:
                return None
            # Of what came before its log nobody can tell that it was another.
            gone = self._whole and index == 0 and bool(self._publications)
            gap = Gap.TRIMMED if gone else Gap.FORKED
        fresh = self._publications[index:] if gap is None else []
        return Recovered(fresh, self.top, self.top_id, gap)


def _size(publication: Publication) -> int:
    return len(publication.wire) + _PUBLICATION_BYTES
