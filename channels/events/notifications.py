"""The personal feed: what needs this person now."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..event import Event
from ..ids import Id

__all__ = [
    "NotificationCreated",
    "NotificationCreatedData",
    "NotificationData",
    "NotificationResolved",
]


class NotificationData(msgspec.Struct, frozen=True, kw_only=True):
    """What every notification event tells: whose, and which."""

    user: Id
    notification: Id


class NotificationCreatedData(NotificationData, frozen=True, kw_only=True):
    """``ref`` is the channel, and ``subject`` the thing on it, that the person should see."""

    title: str
    body: str = ""
    level: Literal["info", "action", "warning", "error"] = "info"
    ref: str = ""
    subject: str = ""


class NotificationCreated(Event, frozen=True, kw_only=True, tag="notification.created"):
    """Something needs this person."""

    data: NotificationCreatedData


class NotificationResolved(Event, frozen=True, kw_only=True, tag="notification.resolved"):
    """It no longer does: read, answered, or done by somebody else."""

    data: NotificationData
