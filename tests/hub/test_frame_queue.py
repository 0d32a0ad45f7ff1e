"""The queue of a reader that is behind: order, the newest of each key, and every hole told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.frame import Frame, Standing
from hub.frame_queue import Entry, FrameQueue

from .harness import publication


def push(queue: FrameQueue, offset: int, key: str = "", name: str = "chat") -> Frame:
    """Queue a publication as the outbox does."""
    frame = Frame(publication(offset, key=key, name=name))
    if key:
        queue.supersede(frame)
    queue.push(frame)
    return frame


def drain(queue: FrameQueue, most_bytes: int = 1 << 20) -> list[Entry]:
    """Take everything out."""
    taken: list[Entry] = []
    while entries := queue.pop(most_bytes):
        taken += entries
    return taken


def told(entries: list[Entry]) -> list[tuple[int, int]]:
    """Return offset and number of skipped ones of each frame."""
    return [
        (entry.publication.offset, entry.skipped) for entry in entries if isinstance(entry, Frame)
    ]


def test_the_next_frame_of_the_channel_tells_the_hole() -> None:
    """Not only the one that superseded: the hole is told where the offsets jump."""
    queue = FrameQueue()
    push(queue, 1, "g")
    push(queue, 2)
    push(queue, 3, "g")
    push(queue, 4, "g")
    assert told(drain(queue)) == [(2, 1), (4, 1)]


def test_keys_are_of_one_channel() -> None:
    """The same key on another channel is another thing."""
    queue = FrameQueue()
    push(queue, 1, "g", "a")
    push(queue, 1, "g", "b")
    push(queue, 2, "g", "b")
    assert told(drain(queue)) == [(1, 0), (2, 1)]


def test_what_was_taken_is_not_superseded() -> None:
    """It is on its way to the reader."""
    queue = FrameQueue()
    push(queue, 1, "g")
    assert told(queue.pop(1)) == [(1, 0)]
    push(queue, 2, "g")
    assert told(drain(queue)) == [(2, 0)]


def test_the_frame_that_others_share_is_not_changed() -> None:
    """What one reader skipped concerns nobody else."""
    queue = FrameQueue()
    push(queue, 1, "g")
    shared = push(queue, 2, "g")
    [entry] = drain(queue)
    assert isinstance(entry, Frame)
    assert entry is not shared
    assert (shared.skipped, entry.skipped) == (0, 1)


def test_nothing_is_left_of_what_was_superseded() -> None:
    """A gauge that moves for ever while nobody reads costs one entry."""
    queue = FrameQueue()
    push(queue, 1)
    for offset in range(2, 10_002):
        push(queue, offset, "g")
    assert len(queue) == 2
    assert told(drain(queue)) == [(1, 0), (10_001, 9_999)]


@pytest.mark.parametrize("between", [b"a reply", Standing("chat", b"part", b"event: gap\n")])
def test_nothing_is_superseded_across_something_else(between: Entry) -> None:
    """A gap or a new subscription begins another history: what was before it is not its past."""
    queue = FrameQueue()
    push(queue, 5, "g")
    push(queue, 6, "g")
    queue.push(between)
    push(queue, 1, "g")
    push(queue, 2, "g")
    taken = drain(queue)
    assert taken[1] is between
    assert told(taken) == [(6, 1), (2, 1)]


@given(
    steps=st.lists(
        st.one_of(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "", "x", "y"])), st.none()),
        max_size=80,
    ),
    most_bytes=st.integers(1, 400),
)
def test_offsets_and_skips_add_up(steps: list[tuple[str, str] | None], most_bytes: int) -> None:
    """Whatever is queued and taken: order is kept, holes are told to the number, and the
    newest of every key, and everything without one, arrives."""
    queue = FrameQueue()
    tops = {"a": 0, "b": 0}
    keyless: set[tuple[str, int]] = set()
    newest: dict[tuple[str, str], int] = {}
    taken: list[Entry] = []
    for step in steps:
        if step is None:
            taken += queue.pop(most_bytes)
            continue
        name, key = step
        tops[name] += 1
        push(queue, tops[name], key, name)
        if key:
            newest[name, key] = tops[name]
        else:
            keyless.add((name, tops[name]))
    assert queue.size >= 0
    taken += drain(queue, most_bytes)
    assert (queue.size, bool(queue)) == (0, False)
    reached = {"a": 0, "b": 0}
    seen: set[tuple[str, int]] = set()
    for entry in taken:
        assert isinstance(entry, Frame)
        name, offset = entry.publication.channel, entry.publication.offset
        assert offset == reached[name] + entry.skipped + 1
        reached[name] = offset
        seen.add((name, offset))
    assert reached == tops
    assert keyless <= seen
    assert {(name, offset) for (name, _), offset in newest.items()} <= seen
