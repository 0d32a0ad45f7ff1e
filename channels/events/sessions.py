"""What happens to a session: the working memory of an agent conversation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..event import Event
from ..ids import Id

__all__ = [
    "Message",
    "SessionCreated",
    "SessionCreatedData",
    "SessionData",
    "SessionDeleted",
    "SessionExpired",
    "SessionExpiredData",
    "SessionExtended",
    "SessionExtendedData",
    "SessionMessage",
    "SessionMessageData",
    "SessionUpdated",
    "SessionUpdatedData",
]


class SessionData(msgspec.Struct, frozen=True, kw_only=True):
    """What every session event tells: which session, and its version after the change.

    Versions start at 1 and rise by one with every change, so a reader that applies patches
    sees a missed one.
    """

    workspace: Id
    session: Id
    version: Annotated[int, Meta(ge=1)]


class SessionCreatedData(SessionData, frozen=True, kw_only=True):
    """``state`` is the whole working memory at version 1, as snapshots tell it."""

    user: Id
    state: dict[str, Any] = {}


class SessionUpdatedData(SessionData, frozen=True, kw_only=True):
    """``patch`` names the values that changed: each is replaced as a whole, null clears it.

    So it is a JSON merge patch (RFC 7396) of the top level only.
    """

    patch: dict[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the conversation; ``seq`` starts at 1 and has no holes."""

    id: Id
    seq: Annotated[int, Meta(ge=1)]
    role: str
    content: Any
    time: Annotated[datetime, Meta(tz=True)]


class SessionMessageData(SessionData, frozen=True, kw_only=True):
    """A message was added."""

    message: Message


class SessionExtendedData(SessionData, frozen=True, kw_only=True):
    """The session ends at ``expires_at`` unless it is used again or extended."""

    expires_at: Annotated[datetime, Meta(tz=True)]


class SessionExpiredData(SessionData, frozen=True, kw_only=True):
    """``reason``: nobody used it (idle), or its longest life was over (absolute)."""

    reason: Literal["idle", "absolute"] = "idle"


class SessionCreated(Event, frozen=True, kw_only=True, tag="session.created"):
    """A session began."""

    data: SessionCreatedData


class SessionUpdated(Event, frozen=True, kw_only=True, tag="session.updated"):
    """Fields of a session changed."""

    data: SessionUpdatedData


class SessionMessage(Event, frozen=True, kw_only=True, tag="session.message"):
    """A message was added to a session."""

    data: SessionMessageData


class SessionExtended(Event, frozen=True, kw_only=True, tag="session.extended"):
    """A session will live longer."""

    data: SessionExtendedData


class SessionDeleted(Event, frozen=True, kw_only=True, tag="session.deleted"):
    """A session was deleted."""

    data: SessionData


class SessionExpired(Event, frozen=True, kw_only=True, tag="session.expired"):
    """A session came to its end by itself."""

    data: SessionExpiredData
