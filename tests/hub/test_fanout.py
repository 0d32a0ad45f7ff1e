"""The fan-out: slices, turns, and fairness between rooms."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest
import uvloop

from channels.position import Position
from hub.fanout import SLICE, Fanout
from hub.frame import Batch
from hub.room import Member, Room
from hub.traffic import Traffic
from services.event_log import Gap

from .harness import channel, publication


class Loop:
    """An event loop that runs when it is told, and a clock that walks tick."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.now = 0.0
        self.turns = 0

    def _call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def turn(self) -> bool:
        """Run what was due; return whether there was anything."""
        due, self.soon = self.soon, []
        for each in due:
            each()
        self.turns += bool(due)
        return bool(due)

    def fanout(self, slice_size: int = 2, turn_s: float = 1.0) -> Fanout:
        """Return a fan-out on this loop."""
        return Fanout(self._call_soon, lambda: self.now, slice_size=slice_size, turn_s=turn_s)


class Note:
    """A subscriber that notes what it gets, in a list that many share."""

    def __init__(self, notes: list[tuple[str, int]], name: str, loop: Loop | None = None) -> None:
        self.notes = notes
        self.name = name
        self.loop = loop

    def deliver(self, batch: Batch) -> None:
        """Note each publication; it takes half a second."""
        self.notes += [(self.name, publication.offset) for publication in batch.publications]
        if self.loop is not None:
            self.loop.now += 0.5

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:
        """Note the gap."""
        self.notes.append((self.name, -top.offset))


def room_of(
    fanout: Fanout, count: int, notes: list[tuple[str, int]], name: str, loop: Loop
) -> Room:
    """Return a room at offset 0 with subscribers that note."""
    room = Room(channel(name), fanout, Traffic())
    room.position = Position("e1", 0)
    for number in range(count):
        room.enter(Note(notes, f"{name}{number}", loop)).release(room.position)
    return room


def test_a_large_room_does_not_delay_a_small_one() -> None:
    """They take turns, slice by slice."""
    loop, notes = Loop(), []
    fanout = loop.fanout(slice_size=2, turn_s=100)
    large, small = (
        room_of(fanout, count, notes, name, loop) for count, name in ((7, "l"), (1, "s"))
    )
    large.on_publication(publication(1, name="l"))
    small.on_publication(publication(1, name="s"))
    loop.turn()
    names = [name for name, _ in notes]
    assert names == ["l0", "l1", "s0", "l2", "l3", "l4", "l5", "l6"]


def test_the_loop_gets_its_turn() -> None:
    """After the time of a turn the rest waits for the next one."""
    loop, notes = Loop(), []
    room = room_of(loop.fanout(slice_size=2, turn_s=1.5), 10, notes, "l", loop)
    room.on_publication(publication(1, name="l"))
    assert notes == []
    while loop.turn():
        pass
    assert loop.turns == 3
    assert [name for name, _ in notes] == [f"l{number}" for number in range(10)]


def test_what_comes_during_a_walk_goes_out_together() -> None:
    """In order for everybody: news, the news that some is missing, and what comes after it."""
    loop, notes = Loop(), []
    room = room_of(loop.fanout(slice_size=1, turn_s=0), 3, notes, "l", loop)
    room.on_publication(publication(1, name="l"))
    loop.turn()
    room.on_publication(publication(2, name="l"))
    room.on_publication(publication(3, name="l"))
    room.on_gap(Gap.TRIMMED, Position("e1", 5), "id")
    room.on_publication(publication(6, name="l"))
    while loop.turn():
        pass
    for name in ("l0", "l1", "l2"):
        assert [offset for who, offset in notes if who == name] == [1, 2, 3, -5, 6]
    assert loop.turns == 10


def test_whoever_leaves_during_a_walk_gets_nothing_more() -> None:
    """Not even when it comes back before the walk is over: its history has it."""
    loop, notes = Loop(), []
    room = room_of(loop.fanout(slice_size=1, turn_s=0), 3, notes, "l", loop)
    subscribers = list(room._settled)
    room.on_publication(publication(1, name="l"))
    loop.turn()
    room.leave(subscribers[2])
    room.enter(subscribers[2]).release(Position("e1", 1))
    room.on_publication(publication(2, name="l"))
    while loop.turn():
        pass
    assert notes == [("l0", 1), ("l1", 1), ("l1", 2), ("l0", 2), ("l2", 2)]


def test_a_subscriber_that_fails_costs_nobody_else_anything() -> None:
    """Its fault is logged, the walk goes on."""
    loop, notes = Loop(), []
    room = room_of(loop.fanout(slice_size=2, turn_s=100), 1, notes, "l", loop)

    class Broken(Note):
        def deliver(self, batch: Batch) -> None:
            raise ZeroDivisionError

    room.enter(Broken(notes, "broken")).release(room.position)
    room.enter(Note(notes, "last")).release(room.position)
    room.on_publication(publication(1, name="l"))
    loop.turn()
    assert [name for name, _ in notes] == ["l0", "last"]


def test_too_much_during_a_walk_is_told_as_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a walk is bounded: whoever is so far behind does better by the log."""
    monkeypatch.setattr("hub.room.MAX_WAITING_BYTES", 2_000)
    loop, notes = Loop(), []
    room = room_of(loop.fanout(slice_size=1, turn_s=0), 2, notes, "l", loop)
    room.on_publication(publication(1, name="l"))
    loop.turn()
    for offset in range(2, 102):
        room.on_publication(publication(offset, name="l"))
    while loop.turn():
        pass
    for name in ("l0", "l1"):
        offsets = [offset for who, offset in notes if who == name]
        lost = offsets.index(next(offset for offset in offsets if offset < 0))
        assert offsets[:lost] == [1]
        assert offsets[lost + 1 :] == list(range(1 - offsets[lost], 102))


def test_a_hundred_thousand_subscribers_leave_the_loop_its_turns() -> None:
    """The loop runs other things all along the walk, many times; each subscriber gets its own."""

    async def walk() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        traffic = Traffic()
        room = Room(channel("big"), Fanout(loop.call_soon, time.monotonic), traffic)
        room.position = Position("e1", 0)
        notes: list[tuple[str, int]] = []
        for _ in range(100_000):
            room.enter(Note(notes, "")).release(room.position)
        room.on_publication(publication(1, name="big"))
        turns = 0
        while traffic.deliveries < 100_000:
            await asyncio.sleep(0)
            turns += 1
            assert len(notes) <= 100_000
        return turns, len(notes)

    turns, told = uvloop.run(walk())
    assert told == 100_000
    # Each turn ends after the time of a turn and one slice; a walk this long needs many.
    assert turns >= 5


def test_a_slice_is_small() -> None:
    """So small that, at 10 microseconds each, it takes a millisecond or two."""
    assert SLICE * 10e-6 < 0.003


def test_a_walk_takes_up_what_comes_meanwhile() -> None:
    """The rest of a burst is not a second write for those who are still to be served."""
    loop, notes = Loop(), []
    room = room_of(loop.fanout(slice_size=2, turn_s=0), 5, notes, "l", loop)
    room.on_publication(publication(1, name="l"))
    loop.turn()
    late = Note(notes, "late")
    member = room.enter(late)
    member.release(Position("e1", 1))
    for offset in (2, 3):
        room.on_publication(publication(offset, name="l"))
    while loop.turn():
        pass
    assert notes == [
        *((name, 1) for name in ("l0", "l1")),
        *((name, offset) for name in ("l2", "l3", "l4") for offset in (1, 2, 3)),
        *((name, offset) for name in ("l0", "l1", "late") for offset in (2, 3)),
    ]
    room.on_publication(publication(4, name="l"))
    while loop.turn():
        pass
    assert sorted(notes[-6:]) == [(name, 4) for name in ("l0", "l1", "l2", "l3", "l4", "late")]


@pytest.mark.parametrize("seed", range(300))
def test_everybody_gets_all_of_it_in_order_whatever_comes_between(seed: int) -> None:
    """Publications, gaps, comings and goings at any moment of a walk, against a simple model."""
    chance = random.Random(seed)
    loop = Loop()
    notes: list[tuple[str, int]] = []
    room = room_of(loop.fanout(slice_size=chance.randint(1, 4), turn_s=0), 0, notes, "l", loop)
    top, number = 0, 0
    joining: list[tuple[Note, Member]] = []
    inside: dict[str, Note] = {}
    expected: dict[str, int] = {}  # name -> position it began at
    for _ in range(200):
        match chance.choice(["publish", "publish", "enter", "release", "leave", "turn", "turn"]):
            case "publish":
                top += 1
                room.on_publication(publication(top, name="l"))
            case "enter":
                number += 1
                joining.append((note := Note(notes, f"n{number}"), room.enter(note)))
            case "release" if joining:
                note, member = joining.pop(chance.randrange(len(joining)))
                expected[note.name] = top  # its history was read just now
                inside[note.name] = note
                member.release(Position("e1", top))
            case "leave" if inside:
                note = inside.pop(chance.choice(sorted(inside)))
                room.leave(note)
                told = [offset for name, offset in notes if name == note.name]
                began = expected.pop(note.name)
                assert told == list(range(began + 1, began + 1 + len(told)))
            case "turn":
                loop.turn()
    while loop.turn():
        pass
    for name, began in expected.items():
        told = [offset for who, offset in notes if who == name]
        assert told == list(range(began + 1, top + 1)), name
