"""The base of every event: a CloudEvents 1.0 object in JSON.

A subclass is one type of event: its ``tag`` is the wire name (``type``), its ``data`` a
struct of its own. Tags are spelled out, because renaming a class must not change the wire.
Fields added later have defaults; unknown fields are tolerated, so that an older reader
understands a newer writer.

What the constructor fills in for a writer (id, source, specversion, time) must stand in the
JSON: a reader that filled it in would invent it, and another reader something else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .errors import BadRequest
from .ids import Id, check_id, new_id
from .publication import check_json

__all__ = ["Event", "EventDecoder", "encode_event", "event_type"]


#: A URI reference, as far as a linear pattern can tell: no control characters, no spaces.
_Source = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{1,512}\Z")]
#: CloudEvents forbids control characters in every attribute.
_Subject = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f]{1,512}\Z")]
_Time = Annotated[datetime, Meta(tz=True)]


def _now() -> datetime:
    return datetime.now(UTC)


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What happened.

    ``id`` is unique for ``source`` and is the idempotency key of its publication: the same
    event published twice appears once. ``source`` is a URI reference that names who tells;
    ``subject`` names what it is about inside the source.

    A type whose events replace each other (a gauge, progress) names in ``conflate_by`` the
    field of its data that says which of them do: see :mod:`channels.conflation`.
    """

    conflate_by: ClassVar[str] = ""

    data: Any
    id: Id = msgspec.field(default_factory=new_id)
    source: _Source = "/fanwire"
    specversion: Literal["1.0"] = "1.0"
    time: _Time = msgspec.field(default_factory=_now)
    subject: _Subject | UnsetType = UNSET


_encoder = msgspec.json.Encoder()


def event_type(kind: type[Event]) -> str:
    """Return the CloudEvents ``type`` of an event class, such as ``session.created``.

    Raises:
        TypeError: the class spells out no tag.
    """
    tag = kind.__struct_config__.tag
    # Without a tag of its own a class has its name for one, and renaming it would break.
    if not isinstance(tag, str) or tag == kind.__name__:
        raise TypeError(f"{kind.__name__} is not a concrete event: it spells out no tag")
    return tag


def encode_event(event: Event) -> bytes:
    """Return ``event`` as JSON without newlines.

    Values are encoded, not validated: :meth:`EventDecoder.decode` does that. Only the id is
    checked, because it travels outside of the JSON too. NaN and infinities become null.

    Raises:
        BadRequest: its id is none, it holds something that JSON cannot say (an object of an
            unknown type, a lone surrogate), or it nests too deep.
    """
    check_id(event.id, "the event's id")
    try:
        text = _encoder.encode(event)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"the event cannot be told in JSON; {error}") from None
    if b"\n" in text or b"\r" in text:
        # Only verbatim JSON (Raw) can bring line ends; they stay only where they mean nothing.
        return check_json(text)
    return text


class _Required(msgspec.Struct):
    """What no reader may fill in."""

    id: Id
    source: str
    specversion: str
    type: str
    time: str


_required_decoder = msgspec.json.Decoder(_Required)


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
            event = self._decoder.decode(data)
            _required_decoder.decode(data)
        # Bad UTF-8 and too deep nesting are not DecodeErrors.
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"expected an event of type {self._types}; {error}") from None
        return event
