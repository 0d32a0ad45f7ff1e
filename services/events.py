"""Publishing events and reading them back, by channel name."""

from __future__ import annotations

import contextlib
import fnmatch

import msgspec

from channels.catalogue import Catalogue, Channel
from channels.conflation import check_conflation_key, conflation_key
from channels.errors import BadRequest, RequestError
from channels.event import Event, encode_event, event_type
from channels.ids import new_id
from channels.position import Position
from channels.publication import check_json, encode_body
from services.event_log import MAX_LISTED, Appended, EventLog, Page

__all__ = ["Events"]

_encode = msgspec.json.Encoder().encode
#: Channels asked about in one round trip.
_BATCH = 500


class Events:
    """The door to the event logs: names are understood and data is checked here, once."""

    __slots__ = ("catalogue", "log")

    def __init__(self, log: EventLog, catalogue: Catalogue) -> None:
        self.log = log
        self.catalogue = catalogue

    async def publish(
        self,
        channel: str,
        event: object,
        *,
        idempotency_key: str | None = None,
        conflate: str | None = None,
        timeout_s: float | None = None,
    ) -> Position:
        """Publish ``event`` and return where it stands.

        A typed event is its own idempotency key: publishing it again, after an unknown
        outcome or by mistake, returns the same position. Anything else that msgspec can
        encode (or ``msgspec.Raw`` JSON) may be published where the channel's declaration
        lists no events; ``conflate`` then is the conflation key, if it has one. Where it
        lists events, their types decide, and no key may be given.

        Raises:
            RequestError: the channel is unknown, does not carry such an event, the data is
                too large or cannot be JSON, or ``conflate`` is no key or may not be given;
                nothing was published.
            StoreUnavailable, StoreRefused: nothing was published; it is safe to try again.
            OutcomeUnknown: it may have been published; it is safe to try again only with a
                typed event or an ``idempotency_key``.
        """
        found = self.catalogue.find(channel)
        if isinstance(event, Event):
            done = await self.append(
                found,
                self._encode_event(found, event),
                id=event.id,
                idempotency_key=idempotency_key or event.id,
                conflate=conflate,
                timeout_s=timeout_s,
            )
        else:
            data = event if isinstance(event, msgspec.Raw) else _json(event)
            done = await self.append(
                found,
                data,
                idempotency_key=idempotency_key,
                conflate=conflate,
                timeout_s=timeout_s,
            )
        return done.position

    def _encode_event(self, channel: Channel, event: Event) -> bytes:
        declared = channel.declaration.events
        if declared and not isinstance(event, declared):
            carried = ", ".join(sorted(event_type(kind) for kind in declared))
            raise BadRequest(
                f"channel {channel.name!r} carries {carried}; got {event_type(type(event))}"
            )
        return encode_event(event)

    async def append(
        self,
        channel: Channel,
        data: bytes | msgspec.Raw,
        *,
        info: bytes | None = None,
        tags: dict[str, str] | None = None,
        id: str | None = None,
        idempotency_key: str | None = None,
        conflate: str | None = None,
        timeout_s: float | None = None,
    ) -> Appended:
        """Publish JSON on a channel that was found in the catalogue.

        The data is checked against the channel's declaration, and an event brings its own
        id, idempotency key and conflation key. Raises like :meth:`publish`.
        """
        text = check_json(data)
        event = channel.declaration.check_data(text)
        if event is not None:
            id, idempotency_key = event.id, idempotency_key or event.id
        key = _key(event, conflate)
        body = encode_body(text, info=info, tags=tags)
        return await self.log.append(
            channel,
            body,
            id=id or new_id(),
            idempotency_key=idempotency_key,
            key=key,
            timeout_s=timeout_s,
        )

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> Page:
        """Return at most ``limit`` publications after ``since`` (before it with ``reverse``).

        Raises:
            RequestError: the channel is unknown.
            StoreError: the log could not be read.
        """
        return await self.log.read(
            self.catalogue.find(channel), since=since, limit=limit, reverse=reverse
        )

    async def remove_history(self, channel: str) -> None:
        """Forget what is in the channel's log; position and epoch go on."""
        await self.log.remove(self.catalogue.find(channel))

    async def channels(self, pattern: str = "*", *, limit: int = MAX_LISTED) -> dict[str, Position]:
        """Return the channels that have a log and match the glob ``pattern``, with their tops.

        The latest first, out of the ``limit`` latest; at most 10,000.
        """
        found = []
        for name in await self.log.names(limit):
            if fnmatch.fnmatchcase(name, pattern):
                with contextlib.suppress(RequestError):  # no longer declared: nobody's business
                    found.append(self.catalogue.find(name))
        listed: dict[str, Position] = {}
        for start in range(0, len(found), _BATCH):
            listed |= await self.log.listed(found[start : start + _BATCH])
        return listed


def _key(event: Event | None, asked: str | None) -> str:
    if event is None:
        return "" if asked is None else check_conflation_key(asked)
    if asked is not None:
        raise BadRequest(
            f"{event_type(type(event))} decides itself whether it conflates: expected no "
            f"conflation key; got {asked[:80]!r}"
        )
    return conflation_key(event)


def _json(value: object) -> bytes:
    try:
        return _encode(value)
    # A lone surrogate is a ValueError, a foreign type a TypeError.
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(f"data must be what JSON can hold; {error}") from error
