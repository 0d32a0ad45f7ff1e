"""The replicas of a process, and what else its semantic caches share."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from .embeddings import Embeddings
from .flights import Flights
from .stats import SemanticStats

if TYPE_CHECKING:
    from services.context import Context
    from services.shared_follower import SharedFollower

    from .replica import Replica
    from .result import Fresh, Stored
    from .settings import SemanticSettings

__all__ = ["Replicas"]

#: Uses of entries that are written at once, and the seconds that they wait at most.
_USED_AT_ONCE: Final = 64
_USED_EVERY_S: Final = 10.0
#: Workspaces of which uses wait; of the oldest they are forgotten.
_NOTED: Final = 10_000
_REGISTERED: Final = 10_000


class Replicas:
    """The replicas of all workspaces in this process, the latest used last."""

    def __init__(self, context: Context) -> None:
        self.stats = SemanticStats()
        self.follower: SharedFollower | None = None
        self.resync_s = 1.0
        self.max_partitions = 64
        self.max_vectors = 200_000
        self._context = context
        self._replicas: OrderedDict[str, Replica] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self.embeddings = Embeddings()
        #: Loaders that run, by workspace, entry and mark: who asks after an invalidation does
        #: not wait for what was begun before.
        self.flights: Flights[tuple[Fresh, Stored]] = Flights("fanwire-semantic-load")
        self._registered: dict[str, int] = {}
        self._used: dict[str, dict[str, int]] = {}
        self._used_since: dict[str, float] = {}

    def use(self, follower: SharedFollower) -> None:
        """Have channels followed by ``follower``; without one, versions tell what is new."""
        if self._context.store.traits.subscriptions:
            self.follower = follower

    def of(self, workspace: str) -> Replica:
        """Return the replica of a workspace."""
        replica = self._replicas.get(workspace)
        if replica is None:
            while len(self._replicas) >= self.max_partitions:  # also those that hold nothing
                self._close(self._replicas.popitem(last=False)[1])
            # NumPy takes memory and a moment: only processes that use it load it.
            from .replica import Replica  # noqa: PLC0415

            replica = self._replicas[workspace] = Replica(self._context, workspace, self)
        return replica

    def used(self, replica: Replica) -> None:
        """Note that a replica is in use."""
        if self._replicas.get(replica.workspace) is replica:
            self._replicas.move_to_end(replica.workspace)

    def make_room(self, wanted: Replica) -> None:
        """Forget what was not used longest, as far as there is too much."""

        def too_much() -> bool:
            replicas = self._replicas.values()
            return (
                sum(one.partitions for one in replicas) > self.max_partitions
                or sum(one.size() for one in replicas) > self.max_vectors
            )

        while too_much():
            oldest = next(iter(self._replicas.values()))
            if oldest is not wanted and oldest.partitions < 2:
                del self._replicas[oldest.workspace]
                self._close(oldest)
            elif not oldest.drop_oldest():
                if len(self._replicas) < 2:
                    return
                self._replicas.move_to_end(oldest.workspace)
                if next(iter(self._replicas.values())) is wanted:
                    return

    def configure(self, settings: SemanticSettings) -> None:
        """Go by these bounds; the last ones hold for the process."""
        self.resync_s = settings.resync_s
        self.max_partitions = settings.max_partitions
        self.max_vectors = settings.max_vectors

    def note_used(self, workspace: str, id: str) -> dict[str, int]:
        """Note that an entry answered; return what is to be written now, mostly nothing.

        Writing each use would cost a command each; what a process that ends has not written
        only makes its entries look older.
        """
        now = asyncio.get_running_loop().time()
        if workspace not in self._used and len(self._used) >= _NOTED:
            oldest = next(iter(self._used))
            del self._used[oldest], self._used_since[oldest]
        used = self._used.setdefault(workspace, {})
        since = self._used_since.setdefault(workspace, now)
        used[id] = self._context.clock.now_ms()
        if len(used) < _USED_AT_ONCE and now - since < _USED_EVERY_S:
            return {}
        del self._used[workspace], self._used_since[workspace]
        return used

    async def register(self, workspace: str, at_ms: int) -> None:
        """Have the sweeper look at a workspace by then; costs nothing while it does anyway.

        Raises:
            StoreError: it may not; do not go on.
        """
        known = self._registered.get(workspace, 0)
        if not self._context.clock.now_ms() < known <= at_ms:
            await self._context.sweeper.register(workspace, at_ms)
            if len(self._registered) >= _REGISTERED:
                self._registered.clear()
            self._registered[workspace] = at_ms

    def _close(self, replica: Replica) -> None:
        task = asyncio.create_task(replica.close(), name="fanwire-semantic-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Forget everything; nothing is followed any more, and no loader runs."""
        await self.flights.close()
        await self.embeddings.close()
        replicas = list(self._replicas.values())
        self._replicas.clear()
        for replica in replicas:
            await replica.close()
        if self._closing:
            await asyncio.wait(self._closing)
