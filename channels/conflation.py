"""Conflation: which publications a reader that is behind may do without.

A publication that carries a *conflation key* is superseded by the next one of its channel
with the same key, so a reader that is behind may get only the newest of them; it is told how
many it did not get. A publication without a key is never left out. Readers that keep up get
everything, and so does the log.

An event type conflates when its class names, in ``conflate_by``, the field of its data that
says whose state it tells. That suits what is replaced as a whole by the next one: gauges and
progress. It never suits a fact that has to be seen: a decision, a notification, an end, an
amount to be added, a patch.
"""

from __future__ import annotations

import re
from typing import get_type_hints

from msgspec import inspect

from .errors import BadRequest, SettingsError
from .event import Event, event_type
from .ids import ID_PATTERN

__all__ = ["MAX_KEY_LENGTH", "check_conflation_key", "check_conflation_of", "conflation_key"]

#: Longest conflation key: the name of an event type, a colon, and an id of 64 characters.
MAX_KEY_LENGTH = 128

# No space: keys travel in the header of a Redis message, whose fields a space separates.
_is_key = re.compile(rf"\A[A-Za-z0-9_.@:/-]{{1,{MAX_KEY_LENGTH}}}\Z").match
_LONGEST_ID = "x" * 64


def check_conflation_key(key: str) -> str:
    """Return ``key`` if a publisher may conflate by it.

    Raises:
        BadRequest: it is not 1-128 characters out of ``A-Z a-z 0-9 _ . @ : / -``.
    """
    if not _is_key(key):
        raise BadRequest(
            f"a conflation key is 1-{MAX_KEY_LENGTH} characters out of A-Z a-z 0-9 "
            f"_ . @ : / - ; got {key[:80]!r}"
        )
    return key


def conflation_key(event: Event) -> str:
    """Return the conflation key of a typed event, "" when it must not be left out.

    The type is part of it, so that events of one type never supersede those of another. The
    type of ``event`` has passed :func:`check_conflation_of`, and its values are valid.
    """
    by = event.conflate_by
    return f"{event_type(type(event))}:{getattr(event.data, by)}" if by else ""


def check_conflation_of(kind: type[Event]) -> None:
    """Check that every event of this type has a key, if the type conflates at all.

    Raises:
        SettingsError: its data has no such field, or one that may be absent or be no id; or
            the type's name is too long, or no part of a key.
    """
    if not kind.conflate_by:
        return
    shape = inspect.type_info(get_type_hints(kind)["data"])
    fields = shape.fields if isinstance(shape, inspect.StructType) else ()
    for field in fields:
        if field.name == kind.conflate_by and field.required and _is_id(field.type):
            break
    else:
        raise SettingsError(
            f"{kind.__name__} conflates by {kind.conflate_by!r}: expected the name of a required "
            "field of its data that holds an id"
        )
    if not _is_key(f"{event_type(kind)}:{_LONGEST_ID}"):
        raise SettingsError(
            f"{kind.__name__} cannot conflate: its type {event_type(kind)!r} and an id make no "
            f"conflation key of at most {MAX_KEY_LENGTH} characters"
        )


def _is_id(shape: inspect.Type) -> bool:
    return isinstance(shape, inspect.StrType) and shape.pattern == ID_PATTERN
