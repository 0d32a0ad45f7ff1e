"""One workspace's values in memory: when they may be trusted, and when they go.

The workspace's channel says what was invalidated. Values are put here only while it is
followed, and used only while nothing of it may be missing: from the moment a connection is in
doubt until all that was missed has been told.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import msgspec

from channels.catalogue import Channel
from channels.errors import StoreError
from channels.position import Position
from channels.publication import Publication
from services.event_log import Gap

from .codec import decoder, is_immutable
from .envelope import Found
from .flight import Flight
from .local_cache import Entry, LocalEntries
from .settings import CachePolicy
from .shared import Shared

__all__ = ["FOUNDATION", "ICPS", "Memory"]

_log = logging.getLogger(__name__)

#: The keys of what has events of its own.
FOUNDATION, ICPS = "foundation", "icps"
_OWN_EVENTS = {"foundation.updated": FOUNDATION, "icps.updated": ICPS}


class _Data(msgspec.Struct):
    version: int = 0
    keys: list[str] = []
    tags: list[str] = []


class _Event(msgspec.Struct):
    type: str
    data: msgspec.Raw


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_data = msgspec.json.Decoder(_Data).decode


class Memory:
    """Entries by key, reads under way, and whether both can be relied on."""

    __slots__ = (
        "__weakref__",
        "_channel",
        "_shared",
        "_tapped",
        "_tapping",
        "entries",
        "failed",
        "loads",
        "owner",
        "reads",
        "seen",
        "trusted",
        "used",
    )

    def __init__(self, shared: Shared, channel: Channel) -> None:
        self._shared = shared
        self._channel = channel
        self._tapped = False
        self._tapping = False
        #: Who is kept for as long as this is.
        self.owner: object = None
        self.entries = LocalEntries(shared.local)
        #: Whether entries whose time is not over may be used.
        self.trusted = False
        #: The version of the latest invalidation that was heard of.
        self.seen = 0
        #: When somebody last asked for more than memory had: monotonic seconds.
        self.used = 0.0
        self.reads: dict[str, Flight] = {}
        self.loads: dict[str, Flight] = {}
        #: Loads that failed: until when they are not tried again, and why.
        self.failed: dict[str, tuple[float, Exception]] = {}

    def ttl_s(self, policy: CachePolicy) -> float:
        """Return how long a value may be used from here."""
        settings = self._shared.settings
        watched = self._shared.follower is not None
        longest_s = settings.local_ttl_s if watched else settings.unwatched_local_ttl_s
        own_s = policy.local_ttl_s
        return longest_s if own_s is None else min(own_s, longest_s)

    def check_trust(self) -> bool:
        """Tell whether entries may be used, now that all may have been told again.

        What is not followed begins to be, in the background.
        """
        self.used = time.monotonic()
        if self.trusted:
            return True
        follower = self._shared.follower
        if follower is None:
            # Nobody tells; the short time that entries have then is all there is.
            self.trusted = True
        elif self._tapped and follower.follows(self._channel):
            self.trusted = self._shared.store.ready and follower.is_sure(self._channel)
        elif not self._tapping and self._shared.settings.local_ttl_s and not self._shared.closed:
            self._tapping = True
            self._shared.spawn(self._tap(), f"fanwire-cache-follow {self._channel.name}")
        return self.trusted

    def put(self, key: str, found: Found, shape: Any, value: Any, for_s: float) -> None:  # noqa: ANN401
        """Keep a value for ``for_s`` seconds; 0: only for when Redis is away."""
        immutable = is_immutable(value)
        now = time.monotonic()
        self.entries.put(
            Entry(
                key,
                value if immutable else found.payload,
                None if immutable else decoder(shape),
                shape,
                until=now + for_s if for_s > 0 else 0.0,
                born=now,
                size=len(found.payload),
                tags=found.names(),
            )
        )

    # -- what goes -------------------------------------------------------------------------

    def forget(self, keys: list[str], tags: list[str]) -> None:
        """Forget what was invalidated, and do not keep what is being read of it."""
        for key in keys:
            self.entries.remove(key)
            self._spoil(key)
        for tag in tags:
            self.entries.remove_tag(tag)
        if tags:
            # What is on its way may have any tag.
            self._spoil_all()

    def forget_all(self) -> None:
        """Forget everything: anything may have been invalidated."""
        self.entries.clear()
        self._spoil_all()

    def _spoil(self, key: str) -> None:
        self.failed.pop(key, None)
        flight = self.reads.pop(key, None)
        if flight is not None:
            flight.spoiled = True
        flight = self.loads.get(key)
        if flight is not None:
            flight.spoiled = True

    def _spoil_all(self) -> None:
        for key in {*self.reads, *self.loads, *self.failed}:
            self._spoil(key)

    # -- the channel -----------------------------------------------------------------------

    def on_publication(self, publication: Publication) -> None:
        """Forget what an event says is out of date."""
        try:
            event = _decode_event(publication.data)
            own = _OWN_EVENTS.get(event.type)
            if own is None and event.type != "cache.invalidated":
                return None
            data = _decode_data(event.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self.forget_all()
        self._shared.stats.invalidations_heard += 1
        self.forget(data.keys if own is None else [own], data.tags)
        self.seen = max(self.seen, data.version)
        return None

    def on_gap(self, gap: Gap, top: Position, top_id: str) -> None:  # noqa: ARG002 - all goes
        """Forget everything."""
        self._shared.stats.gaps += 1
        self.forget_all()

    def on_doubt(self) -> None:
        """Use nothing until it is sure again."""
        if self.trusted:
            self._shared.stats.doubts += 1
        self.trusted = False
        self._spoil_all()

    async def _tap(self) -> None:
        follower = self._shared.follower
        try:
            if follower is not None:
                await follower.tap(self._channel, self)
                self._tapped = True
                self._shared.tapped(self)
        except StoreError as error:
            _log.info("cannot follow %r for now: %s", self._channel.name, error)
        finally:
            self._tapping = False

    async def untap(self) -> None:
        """Follow no more; nothing is kept."""
        self.trusted = False
        self.forget_all()
        if self._tapped and self._shared.follower is not None:
            self._tapped = False
            await self._shared.follower.untap(self._channel, self)
