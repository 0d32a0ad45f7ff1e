"""Rooms that are broken on purpose: the experiment of ``model.py`` must notice each.

A check that cannot fail proves nothing.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

import hub.engine as engine_module
import hub.recovery as recovery_module
import hub.room as room_module
from channels.catalogue import Channel
from channels.cursor import CursorPosition
from channels.position import Position
from channels.publication import Publication
from hub.engine import Engine, Joined
from hub.frame import Batch
from hub.room import Member, Room
from hub.snapshot_reader import SnapshotReader
from hub.tail import Tail
from hub.wish import Wish
from services.event_log import Gap, Recovered
from services.snapshots import Snapshot

from .harness import Violation
from .model import run_model


class DropsOne(Room):
    """Forgets every seventh publication."""

    def on_publication(self, publication: Publication) -> None:
        """Tell everybody, or nobody."""
        if publication.offset % 7:
            super().on_publication(publication)


class RepeatsOne(Room):
    """Tells every seventh publication twice."""

    def on_publication(self, publication: Publication) -> None:
        """Tell everybody, perhaps again."""
        super().on_publication(publication)
        if not publication.offset % 7:
            super().on_publication(publication)


class SwapsTwo(Room):
    """Tells every seventh publication after the eighth."""

    kept: Publication | None = None

    def on_publication(self, publication: Publication) -> None:
        """Tell everybody, perhaps later."""
        if not publication.offset % 7:
            self.kept = publication
            return
        super().on_publication(publication)
        if self.kept is not None:
            super().on_publication(self.kept)
            self.kept = None


class HidesGaps(Room):
    """Does not say when something was lost."""

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:
        """Go on as if nothing had happened."""
        self.position, self.id = top, top_id


class HoldsNothing(Member):
    """Lets what comes before the release go by."""

    def deliver(self, batch: Batch) -> None:
        """Take what comes after the release."""
        if self._held is None:
            super().deliver(batch)


class ForgetsGaps(Member):
    """Does not say at the release what was lost before it."""

    def release(self, after: Position) -> None:
        """Begin, whatever was lost."""
        self._lost = None
        super().release(after)


class ReleasesEarly(Member):
    """Tells live publications at once, before the reply is written."""

    def deliver(self, batch: Batch) -> None:
        """Hold nothing back."""
        self.subscriber.deliver(batch)


class TellsEverythingHeld(Member):
    """Tells what was held though the history had it."""

    def _wanted(self, batch: Batch) -> Batch:
        return batch


class GoesOnAfterLeaving(Member):
    """Tells the rest of what was held to a subscriber that left meanwhile."""

    def release(self, after: Position) -> None:
        """Tell all of it."""
        held = list(self._held or [])
        super().release(after)
        if self.subscriber not in self._room:
            for batch in held:
                self.subscriber.deliver(batch)


class SettlesEarly(Member):
    """Gets everything from its release on, older news that the room has still to tell too."""

    def release(self, after: Position) -> None:
        """Begin, wherever the walk is."""
        self._room.settle(self)
        super().release(after)


class ForgetsWhoLeft(Room):
    """Tells the rest of a walk to subscribers that left in the middle of it."""

    def walk(self, count: int) -> bool:
        """Tell whoever was there when the walk began."""
        self._gone.clear()
        return super().walk(count)


class LosesItsPlace(Room):
    """Leaves somebody out when a walk goes on."""

    def walk(self, count: int) -> bool:
        """Skip one."""
        if self._telling is not None and self._next and self._next + 1 < len(self._targets):
            self._next += 1
        return super().walk(count)


class TrustsThePosition(Engine):
    """Takes every position for one that missed nothing."""

    async def _catch_up(self, room: Room, since: CursorPosition | None) -> Recovered:
        return Recovered([], room.position, room.id)


class ReadsBeforeEntering(Engine):
    """Recovers first and lets in afterwards."""

    async def join(
        self,
        channel: object,
        subscriber: object,
        since: CursorPosition | None = None,
        *,
        recent: int = 0,
        snapshot: Wish = Wish.NEVER,
    ) -> Joined:
        """Leave a hole between the two."""
        early = await super().join(channel, subscriber, since, recent=recent, snapshot=snapshot)  # type: ignore[arg-type]  # as given
        self.leave("chat", subscriber)  # type: ignore[arg-type]  # as given
        late = await super().join(channel, subscriber)  # type: ignore[arg-type]  # as given
        return early._replace(member=late.member)


class GoesOnFromTheRoom(Engine):
    """Tells the state, and goes on from where the room was."""

    async def join(self, *args: Any, **options: Any) -> Joined:
        """Say what is not true of the state."""
        joined = await super().join(*args, **options)
        room = self.rooms.get("chat")
        if joined.snapshot is None or room is None:
            return joined
        return joined._replace(position=room.position, id=room.id)


class IgnoresTheEpoch(Engine):
    """Takes a state of another history for one that continues what was read."""

    async def join(self, *args: Any, **options: Any) -> Joined:
        """Give the state to readers that resumed, whatever its epoch."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_module, "_lost_before", lambda *_: None)
            return await super().join(*args, **options)


class KeepsTheState(SnapshotReader):
    """Tells everybody what it read first."""

    kept: Snapshot | None = None

    async def read(self, channel: Channel) -> Snapshot:
        """Read once."""
        if self.kept is None:
            self.kept = await super().read(channel)
        return self.kept


class SharesWhatBegan(SnapshotReader):
    """Gives whoever asks a read that began before."""

    under_way: asyncio.Task[Snapshot] | None = None

    async def read(self, channel: Channel) -> Snapshot:
        """Wait for the read there is."""
        if self.under_way is None or self.under_way.done():
            self.under_way = asyncio.create_task(super().read(channel))
        return await asyncio.shield(self.under_way)


class StartsTooLate(Tail):
    """Leaves the first one out of what a reader missed."""

    def recover(self, since: Position, id: str = "") -> Recovered | None:
        """Return too little."""
        found = super().recover(since, id)
        return found and found._replace(publications=found.publications[1:])


class ReachesTooFar(Tail):
    """Serves those who missed more than it has."""

    def recover(self, since: Position, id: str = "") -> Recovered | None:
        """Return what there is, whatever is missing."""
        return super().recover(Position(since.epoch, max(since.offset, self.base)))


class StaysBehind(Tail):
    """Does not take what the room is told, and does not admit it."""

    def append(self, publication: Publication) -> None:
        """Take nothing."""

    def holds(self, position: Position, id: str) -> bool:
        """Say yes."""
        return self.epoch != ""


class SurvivesGaps(Tail):
    """Goes on when the room is told of a gap, and does not admit it."""

    def forget(self) -> None:
        """Forget nothing."""

    def holds(self, position: Position, id: str) -> bool:
        """Say yes."""
        return self.epoch != ""


ROOMS = [DropsOne, RepeatsOne, SwapsTwo, HidesGaps, ForgetsWhoLeft, LosesItsPlace]
MEMBERS = [
    HoldsNothing,
    ForgetsGaps,
    ReleasesEarly,
    TellsEverythingHeld,
    GoesOnAfterLeaving,
    SettlesEarly,
]
TAILS = [StartsTooLate, ReachesTooFar, StaysBehind, SurvivesGaps]
ENGINES = [TrustsThePosition, ReadsBeforeEntering, GoesOnFromTheRoom, IgnoresTheEpoch]
READERS = [KeepsTheState, SharesWhatBegan]


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    """Let go of what an experiment that was broken off left behind, while its test is on."""
    yield
    gc.collect()


async def _run_until_noticed() -> None:
    for seed in range(400):
        await run_model(seed)


@pytest.mark.parametrize("broken", ROOMS)
async def test_broken_rooms_are_noticed(
    broken: type[Room], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A room that loses, repeats, reorders or hides something turns the experiment red."""
    monkeypatch.setattr(engine_module, "Room", broken)
    with pytest.raises(Violation):
        await _run_until_noticed()


@pytest.mark.parametrize("broken", MEMBERS)
async def test_broken_members_are_noticed(
    broken: type[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does one that does not hold back, or lets go of, what it should."""
    monkeypatch.setattr(room_module, "Member", broken)
    with pytest.raises(Violation):
        await _run_until_noticed()


@pytest.mark.parametrize("broken", TAILS)
async def test_broken_tails_are_noticed(
    broken: type[Tail], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does a memory that has a hole, or is older than the room."""
    monkeypatch.setattr(recovery_module, "Tail", broken)
    with pytest.raises(Violation):
        await _run_until_noticed()


@pytest.mark.parametrize("broken", ENGINES)
async def test_broken_engines_are_noticed(
    broken: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that reads the history at the wrong moment, or not at all."""
    monkeypatch.setattr("tests.hub.harness.Engine", broken)
    with pytest.raises(Violation):
        await _run_until_noticed()


@pytest.mark.parametrize("broken", READERS)
async def test_broken_readers_of_the_state_are_noticed(
    broken: type[SnapshotReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that tells a state older than the room that its reader is in."""
    monkeypatch.setattr("tests.hub.harness.SnapshotReader", broken)
    with pytest.raises(Violation):
        await _run_until_noticed()
