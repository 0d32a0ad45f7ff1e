"""A hub that is broken on purpose, as a process: the checker of histories must see it.

    python -m tests.e2e.broken_hub drop --port 8000 ...

Every tenth publication is dropped, delivered twice, or swapped with the next one, where the
hub gives it to its subscribers: after everything that would notice.
"""

from __future__ import annotations

import sys

import hub.engine
from channels.publication import Publication
from hub.cli import main
from hub.room import Room

__all__ = ["BROKEN"]

_EVERY = 10


class _DroppingRoom(Room):
    def on_publication(self, publication: Publication) -> None:
        if publication.offset % _EVERY:
            super().on_publication(publication)
        else:
            self.position, self.id = publication.position, publication.id


class _DoublingRoom(Room):
    def on_publication(self, publication: Publication) -> None:
        super().on_publication(publication)
        if publication.offset % _EVERY == 0:
            super().on_publication(publication)


class _SwappingRoom(Room):
    def on_publication(self, publication: Publication) -> None:
        if publication.offset % _EVERY == 0:
            self.kept = publication
            return
        super().on_publication(publication)
        if publication.offset % _EVERY == 1 and publication.offset > 1:
            super().on_publication(self.kept)


#: What can be broken, and the room that breaks it; ``nothing`` is for comparison.
BROKEN = {
    "nothing": Room,
    "drop": _DroppingRoom,
    "double": _DoublingRoom,
    "swap": _SwappingRoom,
}

if __name__ == "__main__":
    hub.engine.Room = BROKEN[sys.argv.pop(1)]
    main(["serve", *sys.argv[1:]], prog_name="broken hub")
