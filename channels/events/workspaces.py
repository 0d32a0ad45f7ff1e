"""What changes in a workspace as a whole."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..event import Event
from ..ids import Id

__all__ = [
    "CacheInvalidated",
    "CacheInvalidatedData",
    "FoundationUpdated",
    "IcpsUpdated",
    "OnboardingChangeData",
    "OnboardingCompleted",
    "OnboardingExpired",
    "OnboardingReset",
    "OnboardingStarted",
    "OnboardingUpdated",
    "PreferencesUpdated",
    "PreferencesUpdatedData",
    "WorkspaceChangeData",
]


class WorkspaceChangeData(msgspec.Struct, frozen=True, kw_only=True):
    """Something of this workspace changed: read it anew. ``version`` rises with each change."""

    workspace: Id
    version: Annotated[int, Meta(ge=0)] = 0


class CacheInvalidatedData(WorkspaceChangeData, frozen=True, kw_only=True):
    """Cached values under ``keys`` or ``tags`` are older than ``version``."""

    keys: list[str] = []
    tags: list[str] = []


class PreferencesUpdatedData(WorkspaceChangeData, frozen=True, kw_only=True):
    """``patch`` is a JSON merge patch (RFC 7396); ``user`` is empty for the workspace's own."""

    patch: dict[str, Any]
    user: str = ""


class OnboardingChangeData(WorkspaceChangeData, frozen=True, kw_only=True):
    """``step`` is where the onboarding stands; ``patch`` what changed."""

    step: str = ""
    patch: dict[str, Any] = {}


class FoundationUpdated(Event, frozen=True, kw_only=True, tag="foundation.updated"):
    """The foundation (summary, voice, guardrails) changed."""

    data: WorkspaceChangeData


class IcpsUpdated(Event, frozen=True, kw_only=True, tag="icps.updated"):
    """The ideal customer profiles changed."""

    data: WorkspaceChangeData


class CacheInvalidated(Event, frozen=True, kw_only=True, tag="cache.invalidated"):
    """Cached values are out of date."""

    data: CacheInvalidatedData


class PreferencesUpdated(Event, frozen=True, kw_only=True, tag="preferences.updated"):
    """Preferences changed."""

    data: PreferencesUpdatedData


class OnboardingStarted(Event, frozen=True, kw_only=True, tag="onboarding.started"):
    """A workspace began its onboarding."""

    data: OnboardingChangeData


class OnboardingUpdated(Event, frozen=True, kw_only=True, tag="onboarding.updated"):
    """The onboarding got further."""

    data: OnboardingChangeData


class OnboardingCompleted(Event, frozen=True, kw_only=True, tag="onboarding.completed"):
    """The onboarding is done."""

    data: OnboardingChangeData


class OnboardingReset(Event, frozen=True, kw_only=True, tag="onboarding.reset"):
    """The onboarding was taken back; the workspace can begin anew."""

    data: WorkspaceChangeData


class OnboardingExpired(Event, frozen=True, kw_only=True, tag="onboarding.expired"):
    """Nobody went on with the onboarding for too long; the workspace can begin anew."""

    data: WorkspaceChangeData
