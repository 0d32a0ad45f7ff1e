"""The base of every event: a CloudEvents 1.0 object in JSON.

A subclass is one type of event: its ``tag`` is the wire name (``type``), its ``data`` a
struct of its own. Tags are spelled out, because renaming a class must not change the wire.
Fields added later have defaults; unknown fields are tolerated, so that an older reader
understands a newer writer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .errors import BadRequest
from .ids import Id, new_id

__all__ = ["Event", "EventDecoder", "encode_event", "event_type"]


def _now() -> datetime:
    return datetime.now(UTC)


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What happened.

    ``id`` is unique for ``source`` and is the idempotency key of its publication: the same
    event published twice appears once. ``source`` is a URI reference that names who tells;
    ``subject`` names what it is about inside the source.
    """

    data: Any
    id: Id = msgspec.field(default_factory=new_id)
    source: Annotated[str, Meta(min_length=1, max_length=512)] = "/fanwire"
    specversion: Literal["1.0"] = "1.0"
    time: Annotated[datetime, Meta(tz=True)] = msgspec.field(default_factory=_now)
    subject: Annotated[str, Meta(min_length=1, max_length=512)] | UnsetType = UNSET


_encoder = msgspec.json.Encoder()


def event_type(kind: type[Event]) -> str:
    """Return the CloudEvents ``type`` of an event class, such as ``session.created``."""
    tag = kind.__struct_config__.tag
    if not isinstance(tag, str):
        raise TypeError(f"{kind.__name__} is not a concrete event: it spells out no tag")
    return tag


def encode_event(event: Event) -> bytes:
    """Return ``event`` as JSON without newlines."""
    return _encoder.encode(event)


class EventDecoder:
    """Decodes JSON into one of the event types it was made for."""

    __slots__ = ("_decoder", "_types")

    def __init__(self, kinds: tuple[type[Event], ...]) -> None:
        self._types = ", ".join(sorted(event_type(kind) for kind in kinds))
        union: Any = kinds[0]
        for kind in kinds[1:]:
            union = union | kind
        self._decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(union)

    def decode(self, data: bytes) -> Event:
        """Return the event in ``data``.

        Raises:
            BadRequest: it is not one of the types, or not a valid event of its type.
        """
        try:
            return self._decoder.decode(data)
        # Bad UTF-8 and too deep nesting are not DecodeErrors.
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"expected an event of type {self._types}; {error}") from None
