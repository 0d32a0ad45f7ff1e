"""The promise of the rooms as one experiment: nobody misses, repeats or reorders anything.

Readers come, go and come back from where they were, while publications are appended, reach
the room later, history is trimmed or begins anew, and calls fail or are cancelled. Everything
is drawn from one seed. A reader raises ``Violation`` as soon as it sees what cannot be right;
in the end every reader must stand at the top of the log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from random import Random

from channels.errors import StoreUnavailable
from hub.fanout import Fanout
from hub.wish import Wish

from .harness import Reader, Violation, World, channel

__all__ = ["run_model"]

_STEPS = 60
_READERS = 5


class _Story:
    """One reader's comings and goings."""

    def __init__(self, world: World, reader: Reader, random: Random) -> None:
        self.world = world
        self.reader = reader
        self.random = random
        self.joining: asyncio.Task[None] | None = None

    def step(self) -> None:
        """Do one thing that this reader may do now."""
        if self.joining is not None:
            if not self.joining.done():
                if self.random.random() < 0.05:
                    self.joining.cancel()
                return
            self._finish()
        elif not self.reader.inside:
            if self.random.random() < 0.3:
                self.reader.reload()
                self.reader.recent = self.random.randrange(3)
            if self.random.random() < 0.6:
                self.joining = asyncio.create_task(self.reader.join(channel()))
        elif self.random.random() < 0.15:
            self.reader.leave()

    def _finish(self) -> None:
        task, self.joining = self.joining, None
        assert task is not None
        if not task.cancelled():
            with contextlib.suppress(StoreUnavailable):
                task.result()

    async def settle(self) -> None:
        """Be in, for good."""
        while True:
            if self.joining is not None:
                await asyncio.wait([self.joining])
                self._finish()
            if self.reader.inside:
                return
            self.joining = asyncio.create_task(self.reader.join(channel()))


def _change_world(world: World, random: Random) -> None:
    chance = random.random()
    if chance < 0.46:
        world.publish(random.randint(1, 4))
    elif chance < 0.84:
        world.pump(random.randint(1, 4))
    elif chance < 0.9:
        world.begin_anew()
        world.publish(random.randint(0, 3))
        world.pump()
        world.publish(random.randint(0, 3))
        world.pump(1)
    elif chance < 0.94:
        world.trim(random.randint(0, 3))
    elif chance < 0.96:
        world.failing ^= {random.choice(["start", "read", "recover"])}


class _Turns:
    """Has the fan-out wait for some turns of the loop, or none."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def __call__(self, walk: Callable[[], None]) -> None:
        if self._random.random() < 0.3:
            walk()
        else:
            self._wait(walk)

    def _wait(self, walk: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(walk if self._random.random() < 0.5 else partial(self._wait, walk))


async def run_model(seed: int) -> int:
    """Run one experiment; return how many publications the readers saw.

    Raises:
        Violation: somebody missed, repeated or reordered something, or was not told of a gap.
    """
    random = Random(seed)
    world = World(Random(seed + 1))
    world.publish(random.randint(0, 5))
    turns = _Turns(Random(seed + 2))
    fanout = Fanout(turns, lambda: 0.0, slice_size=random.choice([1, 2, 128]), turn_s=0)
    engine = world.engine(linger_s=0, fanout=fanout)
    stories = [
        _Story(world, Reader(engine, stays=random.random() < 0.4), random) for _ in range(_READERS)
    ]
    wishes = Random(seed + 3)
    for story in stories:
        story.reader.wish = wishes.choice(list(Wish))
    for _ in range(_STEPS):
        _change_world(world, random)
        if wishes.random() < 0.03:
            world.failing ^= {"snapshot"}
        if random.random() < 0.1:  # as when it was kept long enough
            for room in engine.rooms.values():
                room.tail.forget()
        for story in stories:
            story.step()
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
    world.failing.clear()
    # Told of a gap while all is delivered, a reader comes back: at most once more each.
    for _ in range(3):
        for story in stories:
            await story.settle()
        world.pump()
        while fanout._scheduled:  # noqa: ASYNC110 - turns are all there is to wait for
            await asyncio.sleep(0)
    for story in stories:
        if story.reader.violation is not None:
            raise story.reader.violation
        if story.reader.position != world.top:
            raise Violation(f"the log is at {world.top}, a reader at {story.reader.position}")
        story.reader.leave()
    await _close_down(world, engine.close())
    return sum(story.reader.seen for story in stories)


async def _close_down(world: World, closing: object) -> None:
    await closing  # type: ignore[misc]  # a coroutine
    assert not world.followed, "still followed"
    assert world.starts == world.stops
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks are left behind: {left}"
