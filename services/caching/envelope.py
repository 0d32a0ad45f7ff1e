"""What a cached value looks like in Redis: one line that says how long it is good, then JSON.

    1 <id> <fresh until> <stale until> <kept until> <load ms>[ <tag> <stamp>]...
    <JSON>

Times are in ms. ``id`` is new with each fill. A value is valid while each of its tags still
has the stamp that it had when the load began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

__all__ = ["Found", "header", "parse"]

_VERSION = b"1"


class Found(msgspec.Struct, gc=False):
    """A value and its header."""

    id: bytes
    fresh_ms: int
    stale_ms: int
    dead_ms: int
    load_ms: int
    payload: bytes
    #: Tag, stamp, tag, stamp...
    tags: list[bytes]
    #: Whether it was kept, so that its not being out of date was checked.
    kept: bool = True

    def names(self) -> list[str]:
        """Return its tags."""
        return [tag.decode() for tag in self.tags[::2]]

    def is_valid(self, stamps: Mapping[bytes, bytes]) -> bool:
        """Tell whether its tags still have their stamps; ``stamps`` are all of them."""
        tags = self.tags
        return all(stamps.get(tags[at]) == tags[at + 1] for at in range(0, len(tags), 2))


def header(
    id: str, *, fresh_ms: int, stale_ms: int, dead_ms: int, load_ms: int, tags: Sequence[str] = ()
) -> bytes:
    """Return the first line, without its end; ``tags`` are names and stamps in turn."""
    line = f"1 {id} {fresh_ms} {stale_ms} {dead_ms} {load_ms}"
    return " ".join((line, *tags)).encode() if tags else line.encode()


def parse(text: object) -> Found | None:
    """Return what ``text`` says, None if it is not one of ours."""
    if not isinstance(text, bytes):
        return None
    line, _, payload = text.partition(b"\n")
    try:
        version, id_, fresh, stale, dead, load, *tags = line.split(b" ")
        if version != _VERSION or len(tags) % 2:
            return None
        return Found(id_, int(fresh), int(stale), int(dead), int(load), payload, tags)
    except ValueError:
        return None
