"""The tail of a log: it answers as the log would, or does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from channels.position import Position
from channels.publication import Publication, encode_body
from hub import tail as tail_module
from hub.tail import Tail
from services.event_log import EventLog, Gap, Page, Recovered
from services.store.keys import Keys

from .harness import channel, publication

EPOCHS = ["e0", "e1"]


class Log:
    """A log in memory that answers ``read.lua``, so that the real ``EventLog`` can be asked.

    Its publications are ``first`` to ``top`` of epoch ``e1``; ``id-e1-7`` is the one at 7.
    ``base`` is the last publication before it expired.
    """

    def __init__(self, first: int, top: int, base: tuple[int, str] = (0, "")) -> None:
        self.first = first
        self.top = top
        self.base = base

    async def run(self, script: object, keys: object, args: Sequence[Any]) -> list[Any]:
        """Return a page, like ``read.lua``."""
        _, _, first, last, limit, reverse = args
        low = self.first if first == "-" else max(self.first, int(first))
        high = self.top if last == "+" else min(self.top, int(last))
        offsets = list(range(low, high + 1))
        if reverse == "1":
            offsets.reverse()
        entries = [
            [b"%d-0" % offset, [b"i", _id(offset).encode(), b"b", encode_body(b"%d" % offset)]]
            for offset in offsets[:limit]
        ]
        top_id = _id(self.top).encode() if self.top else b""
        return [b"e1", self.top, top_id, entries, self.base[0], self.base[1].encode()]

    def events(self) -> EventLog:
        """Return the event log that reads here."""
        return EventLog(self, Keys())  # type: ignore[arg-type]  # all of a store that it needs

    def recover(self, since: Position, id: str) -> Recovered:
        """Return what ``EventLog.recover`` says."""
        return asyncio.run(self.events().recover(channel(), since, id))

    def tail(self, lowest: int, limit: int, keep: int = 1_000) -> Tail:
        """Return what was read in pages of ``limit`` until ``lowest`` was reached."""

        async def read() -> Tail:
            log = self.events()
            page = await log.read(channel(), limit=limit, reverse=True)
            tail = Tail(page.top, page.top_id, keep=keep)
            while tail.prepend(page, limit) and tail.base > lowest:
                since = Position("e1", tail.base + 1)
                page = await log.read(channel(), since=since, limit=limit, reverse=True)
            return tail

        return asyncio.run(read())


def _id(offset: int) -> str:
    return f"id-e1-{offset}"


def _said(found: Recovered | None) -> object:
    """Return what can be compared."""
    return found and (
        [(pub.position, pub.id, pub.wire) for pub in found.publications],
        found.top,
        found.top_id,
        found.gap,
    )


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Return a log of at most 12 publications: whole, trimmed, empty or once expired."""
    first = draw(st.integers(1, 10))
    top = draw(st.integers(first - 1, first + 11))
    base = draw(
        st.sampled_from([(0, ""), (first - 1, _id(first - 1)), (max(first - 3, 0), "id-old")])
    )
    return Log(first, top, base)


positions = st.builds(Position, st.sampled_from(EPOCHS), st.integers(0, 26))


@st.composite
def readers(draw: st.DrawFn) -> tuple[Position, str]:
    """Return a position and an id: right, wrong, of a neighbour, or none."""
    since = draw(positions)
    ids = ["", _id(since.offset), _id(since.offset + 1), "id-of-another", "id-old"]
    return since, draw(st.sampled_from(ids))


@settings(max_examples=500)
@given(log=logs(), reader=readers(), lowest=st.integers(0, 26), limit=st.integers(2, 15))
def test_it_answers_what_the_log_would(
    log: Log, reader: tuple[Position, str], lowest: int, limit: int
) -> None:
    """Whatever the position, its epoch and its id: the same answer, or none at all."""
    since, id_ = reader
    found = log.tail(lowest, limit).recover(since, id_)
    if found is None:
        assert since.offset < lowest, "what was read far enough must be enough"
    else:
        assert _said(found) == _said(log.recover(since, id_))


@example(log=Log(5, 4), reader=(Position("e1", 4), "id-e1-4"), lowest=0, live=1, keep=9)
@settings(max_examples=500)
@given(
    log=logs(),
    reader=readers(),
    lowest=st.integers(0, 26),
    live=st.integers(0, 9),
    keep=st.integers(0, 12),
)
def test_it_goes_on_as_the_log_does(
    log: Log, reader: tuple[Position, str], lowest: int, live: int, keep: int
) -> None:
    """After live publications, on a log that is trimmed with each, it still answers the same."""
    log.first = max(log.first, log.top + 1 - keep)
    tail = log.tail(lowest, 5, keep)
    for _ in range(live):
        log.top += 1
        log.first = max(log.first, log.top + 1 - keep)
        tail.append(publication(log.top))
    assert tail.holds(Position("e1", log.top), _id(log.top) if log.top else "")
    since, id_ = reader
    found = tail.recover(since, id_)
    if found is not None:
        assert _said(found) == _said(log.recover(since, id_))


@given(read_at=st.integers(3, 9), told=st.integers(0, 6), since=st.integers(0, 9))
def test_what_was_told_during_the_read_is_part_of_it(read_at: int, told: int, since: int) -> None:
    """Whether the read or the room is ahead, there is no hole and nothing twice."""
    room = Tail(Position("e1", 3), _id(3), keep=100)
    for offset in range(4, 4 + told):
        room.append(publication(offset))
    read = Log(1, read_at).tail(0, 50)
    read.follow(room)
    top = max(read_at, 3 + told)
    assert read.holds(Position("e1", 3 + told), _id(3 + told))
    found = read.recover(Position("e1", min(since, top)))
    assert found is not None
    offsets = [pub.offset for pub in found.publications]
    assert offsets == list(range(min(since, top) + 1, top + 1))


def _message(offset: int, previous: str) -> Publication:
    """Return a publication as a message of Redis tells it."""
    told = publication(offset)
    told.previous = previous
    return told


@pytest.mark.parametrize(
    "stray",
    [
        publication(9),
        publication(2),
        publication(7, epoch="e2"),
        publication(5, id="id-of-another"),
        _message(7, "id-of-another"),
    ],
    ids=["after a hole", "before the base", "other epoch", "forked", "forked before"],
)
def test_what_does_not_belong_ends_it(stray: Publication) -> None:
    """A publication that is neither the next nor one it has: it knows nothing any more."""
    tail = Log(1, 6).tail(3, 3)
    assert tail.holds(Position("e1", 6), _id(6))
    tail.append(stray)
    assert not tail.holds(Position("e1", 6), _id(6))
    assert tail.recover(Position("e1", 5)) is None
    tail.append(publication(7))
    assert tail.recover(Position("e1", 6)) is None


def test_what_the_log_had_before_it_was_told_changes_nothing() -> None:
    """The room hears later of what was read already."""
    tail = Log(1, 6).tail(0, 10)
    tail.append(_message(5, _id(4)))
    tail.append(_message(6, _id(5)))
    tail.append(_message(7, _id(6)))
    assert tail.top == Position("e1", 7)


def test_it_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forgets its oldest, and sends those who missed them to the log."""
    one = len(publication(1).wire) + tail_module._PUBLICATION_BYTES
    monkeypatch.setattr(tail_module, "MAX_TAIL_BYTES", 10 * one + one // 2)
    read = Log(1, 30).tail(0, 50)
    assert (read.base, read.top.offset) == (20, 30)
    for offset in range(31, 100):
        read.append(publication(offset))
        assert read.size_bytes <= tail_module.MAX_TAIL_BYTES
    assert read.top.offset == 99
    assert 5 <= 99 - read.base <= 10
    assert read.recover(Position("e1", read.base - 1)) is None
    wrong = read.recover(Position("e1", read.base), "id-of-another")
    assert wrong is not None
    assert wrong.gap is Gap.FORKED


def _page(*offsets: int, epoch: str = "e1", id: str = "") -> Page:
    """Return a page, newest first; ``id`` is that of its first publication."""
    first, *others = offsets
    found = [publication(first, id=id), *(publication(offset) for offset in others)]
    return Page(found, Position(epoch, 9), "id-e1-9")


@pytest.mark.parametrize(
    "second",
    [
        Page([], Position("e1", 9), "id-e1-9"),
        _page(5, 4, 3),
        _page(6, 5, 4, epoch="e2"),
        _page(6, 5, 4, id="id-of-another"),
    ],
    ids=["trimmed", "trimmed further up", "other epoch", "forked"],
)
def test_a_log_that_changed_between_two_pages_is_not_pieced_together(second: Page) -> None:
    """The second page must begin with the publication at which the first one ended."""
    tail = Tail(Position("e1", 9), "id-e1-9")
    assert tail.prepend(_page(9, 8, 7, 6), 4)
    assert not tail.prepend(second, 4)
    assert (tail.base, tail.recover(Position("e1", 3))) == (6, None)
    found = tail.recover(Position("e1", 6), "id-e1-6")
    assert found is not None
    assert [pub.offset for pub in found.publications] == [7, 8, 9]


def test_a_log_with_a_hole_is_used_down_to_it() -> None:
    """An entry that is none of ours: below it the log itself must say what is wrong."""
    tail = Tail(Position("e1", 9), "id-e1-9")
    assert not tail.prepend(_page(9, 8, 6, 5), 10)
    assert tail.recover(Position("e1", 6)) is None
    found = tail.recover(Position("e1", 8))
    assert found is not None
    assert [pub.offset for pub in found.publications] == [9]


def test_it_holds_what_it_has_by_its_id() -> None:
    """The same offset with another id, or of another epoch, is another publication."""
    tail = Log(1, 9).tail(5, 3)
    assert tail.holds(Position("e1", 7), _id(7))
    assert tail.holds(Position("e1", tail.base), _id(tail.base))
    assert not tail.holds(Position("e1", 7), "id-of-another")
    assert not tail.holds(Position("e2", 7), _id(7))
    assert not tail.holds(Position("e1", tail.base - 1), _id(tail.base - 1))
    assert not tail.holds(Position("e1", 10), _id(10))
    assert not Tail().holds(Position("", 0), "")
