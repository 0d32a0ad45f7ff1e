"""What happens to a person's login sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..event import Event
from ..ids import Id

__all__ = [
    "AuthSessionCreated",
    "AuthSessionCreatedData",
    "AuthSessionData",
    "AuthSessionExpired",
    "AuthSessionExpiredData",
    "AuthSessionRevoked",
    "AuthSessionRevokedData",
    "AuthSessionRotated",
    "AuthSessionRotatedData",
]

_Time = Annotated[datetime, Meta(tz=True)]


class AuthSessionData(msgspec.Struct, frozen=True, kw_only=True):
    """Whose login session, and which: its public id, with which nobody can log in."""

    user: Id
    session: Id


class AuthSessionCreatedData(AuthSessionData, frozen=True, kw_only=True):
    """From where somebody logged in, as told; it ends at ``ends_at`` at the latest."""

    device: str = ""
    user_agent: str = ""
    address: str = ""
    ends_at: _Time


class AuthSessionRevokedData(msgspec.Struct, frozen=True, kw_only=True):
    """``sessions`` are over, by their owner or ``actor``, or because there were too many."""

    user: Id
    sessions: list[Id]
    reason: Literal["logout", "revoked", "limit"] = "revoked"
    actor: str = ""


class AuthSessionRotatedData(AuthSessionData, frozen=True, kw_only=True):
    """The session has a new secret, perhaps other rights; ``version`` counts its secrets."""

    version: Annotated[int, Meta(ge=2)]


class AuthSessionExpiredData(AuthSessionData, frozen=True, kw_only=True):
    """``reason``: nobody used it (idle), or its longest life was over (absolute)."""

    reason: Literal["idle", "absolute"] = "idle"


class AuthSessionCreated(Event, frozen=True, kw_only=True, tag="auth.session_created"):
    """A person logged in."""

    data: AuthSessionCreatedData


class AuthSessionRevoked(Event, frozen=True, kw_only=True, tag="auth.session_revoked"):
    """Login sessions were ended."""

    data: AuthSessionRevokedData


class AuthSessionRotated(Event, frozen=True, kw_only=True, tag="auth.session_rotated"):
    """A login session got a new secret; the one before is no good any more."""

    data: AuthSessionRotatedData


class AuthSessionExpired(Event, frozen=True, kw_only=True, tag="auth.session_expired"):
    """A login session came to its end by itself."""

    data: AuthSessionExpiredData
