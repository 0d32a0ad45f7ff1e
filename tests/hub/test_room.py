"""Rooms: who gets which publication."""

from __future__ import annotations

import pytest

from channels.errors import UsageError
from channels.position import Position
from hub import room as room_module
from hub.frame import Batch
from hub.room import Room
from hub.tail import Tail
from hub.traffic import Traffic
from services.event_log import Gap

from .harness import at_once, channel, publication


class Listener:
    """Notes what it is told: offsets, and gaps as their reason."""

    def __init__(self) -> None:
        self.told: list[int | Gap] = []

    def deliver(self, batch: Batch) -> None:
        """Note publications."""
        self.told += [publication.offset for publication in batch.publications]

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:
        """Note a gap."""
        self.told.append(gap)


class Leaver(Listener):
    """Leaves as soon as it is told of a gap, or got ``patience`` publications."""

    def __init__(self, room: Room, patience: int = 1_000) -> None:
        super().__init__()
        self.room = room
        self.patience = patience

    def deliver(self, batch: Batch) -> None:
        """Note a publication, and leave after the last one."""
        super().deliver(batch)
        if len(self.told) >= self.patience:
            self.room.leave(self)

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:
        """Note a gap, and leave."""
        super().lose(channel, gap, top, top_id)
        self.room.leave(self)


def at(offset: int, epoch: str = "e1") -> Position:
    """Return a position."""
    return Position(epoch, offset)


@pytest.fixture
def room() -> Room:
    """A room that stands at offset 5."""
    room = Room(channel(), at_once(), Traffic())
    room.position = at(5)
    return room


def test_a_released_member_gets_what_comes(room: Room) -> None:
    """Live publications come as they come."""
    listener = Listener()
    room.enter(listener).release(at(5))
    room.on_publication(publication(6))
    room.on_publication(publication(7))
    assert listener.told == [6, 7]
    assert (room.position, room.id, room.seen) == (at(7), "id-e1-7", 2)


def test_everybody_shares_one_batch(room: Room) -> None:
    """A publication is made ready once, however many take it."""
    batches = []

    class Keeper(Listener):
        def deliver(self, batch: Batch) -> None:
            batches.append(batch)

    for _ in range(3):
        room.enter(Keeper()).release(at(5))
    room.on_publication(publication(6))
    assert len(batches) == 3
    assert len({id(batch) for batch in batches}) == 1


def test_nothing_is_told_before_the_release(room: Room) -> None:
    """What comes in between is held, and given once in order."""
    listener = Listener()
    member = room.enter(listener)
    room.on_publication(publication(6))
    room.on_publication(publication(7))
    assert listener.told == []
    member.release(at(5))
    room.on_publication(publication(8))
    assert listener.told == [6, 7, 8]


def test_what_the_history_had_is_not_told_again(room: Room) -> None:
    """A history that was read later than a publication came contains it."""
    listener = Listener()
    member = room.enter(listener)
    room.on_publication(publication(6))
    room.on_publication(publication(7))
    member.release(at(6))
    assert listener.told == [7]


def test_a_history_may_be_ahead_of_the_room(room: Room) -> None:
    """The room catches up; until then there is nothing new for the member."""
    listener = Listener()
    room.enter(listener).release(at(8))
    for offset in range(6, 11):
        room.on_publication(publication(offset))
    assert listener.told == [9, 10]


def test_a_gap_is_told(room: Room) -> None:
    """What comes after it follows."""
    listener = Listener()
    room.enter(listener).release(at(5))
    room.on_gap(Gap.TRIMMED, at(9), "id-e1-9")
    room.on_publication(publication(10))
    assert listener.told == [Gap.TRIMMED, 10]
    assert (room.position, room.id) == (at(10), "id-e1-10")


def test_a_gap_before_the_release_is_told_with_it(room: Room) -> None:
    """What was held before the gap is of no use any more."""
    listener = Listener()
    member = room.enter(listener)
    room.on_publication(publication(6))
    room.on_gap(Gap.EPOCH, at(2, "e2"), "id-e2-2")
    room.on_publication(publication(3, epoch="e2"))
    member.release(at(5))
    room.on_publication(publication(4, epoch="e2"))
    assert listener.told == [Gap.EPOCH, 3, 4]


def test_a_gap_that_the_history_closed_is_not_told(room: Room) -> None:
    """Whoever read the log after the gap misses nothing."""
    listener = Listener()
    member = room.enter(listener)
    room.on_gap(Gap.EPOCH, at(2, "e2"), "id-e2-2")
    room.on_publication(publication(3, epoch="e2"))
    member.release(at(2, "e2"))
    assert listener.told == [3]


def test_a_gap_is_not_told_to_whoever_is_ahead_of_it(room: Room) -> None:
    """A member whose history was read in the new epoch waits for the room to get there."""
    listener = Listener()
    room.enter(listener).release(at(4, "e2"))
    room.on_publication(publication(6))  # the room has not noticed yet
    room.on_gap(Gap.EPOCH, at(3, "e2"), "id-e2-3")
    room.on_publication(publication(4, epoch="e2"))
    room.on_publication(publication(5, epoch="e2"))
    assert listener.told == [5]


def test_a_gap_is_told_to_whoever_is_behind_it(room: Room) -> None:
    """The room came to the new epoch later than the member's history."""
    listener = Listener()
    room.enter(listener).release(at(2, "e2"))
    room.on_gap(Gap.EPOCH, at(3, "e2"), "id-e2-3")
    room.on_publication(publication(4, epoch="e2"))
    assert listener.told == [Gap.EPOCH, 4]


def test_what_is_held_is_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that takes too long to read costs bounded memory: what was dropped is told."""
    monkeypatch.setattr(room_module, "MAX_HELD_BYTES", 200)
    slow, quick = Listener(), Listener()
    member, other = room.enter(slow), room.enter(quick)
    for offset in range(6, 30):
        room.on_publication(publication(offset))
    assert len(member._held or []) < 5
    member.release(at(5))
    other.release(at(29))
    room.on_publication(publication(30))
    assert slow.told[0] is Gap.TRIMMED
    assert slow.told[-1] == 30
    assert quick.told == [30]


def test_leaving_because_of_a_gap_ends_it(room: Room) -> None:
    """Whoever leaves when it is told of a gap gets nothing of what was held after it."""
    leaver = Leaver(room)
    member = room.enter(leaver)
    room.on_gap(Gap.TRIMMED, at(9), "id-e1-9")
    room.on_publication(publication(10))
    member.release(at(5))
    room.on_publication(publication(11))
    assert leaver.told == [Gap.TRIMMED]
    assert len(room) == 0


def test_leaving_in_the_middle_of_what_was_held_ends_it(room: Room) -> None:
    """A reader that is dropped half way gets nothing more."""
    leaver = Leaver(room, patience=2)
    member = room.enter(leaver)
    for offset in range(6, 10):
        room.on_publication(publication(offset))
    member.release(at(5))
    assert leaver.told == [6, 7]
    assert len(room) == 0


def test_leaving_while_everybody_is_told(room: Room) -> None:
    """Others get theirs."""
    leavers = [Leaver(room, patience=1) for _ in range(3)]
    stayers = [Listener() for _ in range(3)]
    for leaver, stayer in zip(leavers, stayers, strict=True):
        room.enter(leaver).release(at(5))
        room.enter(stayer).release(at(5))
    room.on_publication(publication(6))
    room.on_publication(publication(7))
    assert [leaver.told for leaver in leavers] == [[6]] * 3
    assert [stayer.told for stayer in stayers] == [[6, 7]] * 3
    assert len(room) == 3


def test_a_release_after_leaving_does_nothing(room: Room) -> None:
    """Nor does it let in the same subscriber's next attempt."""
    listener = Listener()
    first = room.enter(listener)
    room.on_publication(publication(6))
    room.leave(listener)
    second = room.enter(listener)
    first.release(at(5))
    room.on_publication(publication(7))
    assert listener.told == []
    second.release(at(6))
    assert listener.told == [7]


def test_entering_twice_is_a_mistake(room: Room) -> None:
    """A subscriber is in a room once, or everything would come twice."""
    listener = Listener()
    member = room.enter(listener)
    with pytest.raises(UsageError):
        room.enter(listener)
    member.release(at(5))
    with pytest.raises(UsageError):
        room.enter(listener)
    room.leave(listener)
    room.enter(listener)
    assert listener in room


def test_leaving_twice_does_nothing(room: Room) -> None:
    """Whoever is not in is not in."""
    listener = Listener()
    room.leave(listener)
    room.enter(listener)
    room.leave(listener)
    room.leave(listener)
    assert len(room) == 0


def test_the_tail_follows_the_room(room: Room) -> None:
    """It takes what the room is told, and is forgotten with a gap."""
    room.tail = Tail(at(5), room.id, keep=100)
    room.on_publication(publication(6))
    assert room.tail.holds(at(6), "id-e1-6")
    room.on_gap(Gap.TRIMMED, at(6), "id-e1-6")
    assert not room.tail.holds(at(6), "id-e1-6")
