"""``/v1/onboarding``: what a new workspace is led through."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from channels.errors import NotFound
from hub.api.rest.operation import Answer, Call, Operation
from services.onboarding import OnboardingState

__all__ = [
    "ONBOARDING",
    "Advance",
    "Completion",
    "Start",
    "complete_onboarding",
    "get_onboarding",
    "reset_onboarding",
    "start_onboarding",
    "update_onboarding",
]

#: Scope of whoever leads a workspace through it; begun by another, only with the second one.
_WRITE = "onboarding:write"
_ADMIN = "onboarding:admin"


class Start(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An onboarding to begin. ``user`` is the caller unless the application says otherwise."""

    user: str = ""
    step: str = ""
    data: dict[str, Any] = {}
    expires_in_s: Annotated[float, Meta(gt=0)] | None = None


class Advance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step that is reached, an answer that was given, or both; ``patch`` is a merge patch."""

    step: str = ""
    patch: dict[str, Any] = {}


class Completion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last answers."""

    patch: dict[str, Any] = {}


def _answer(state: OnboardingState, location: str = "") -> Answer:
    return Answer(state, version=state.version, location=location)


async def get_onboarding(call: Call) -> Answer:
    """Return the workspace's onboarding."""
    state = await call.workspace.onboarding.get()
    if state is None:
        raise NotFound(f"workspace {call.workspace_id!r} has no onboarding, or no longer")
    return _answer(state)


async def start_onboarding(call: Call) -> Answer:
    """Begin the onboarding, or return the one that is there."""
    body: Start = call.body
    state = await call.workspace.onboarding.start(
        call.caller.actor(body.user),
        step=body.step,
        data=body.data or None,
        expires_in_s=body.expires_in_s,
    )
    return _answer(state)


async def update_onboarding(call: Call) -> Answer:
    """Get on to a step, or note an answer."""
    body: Advance = call.body
    onboarding = call.workspace.onboarding
    owner = call.caller.owner(_ADMIN)
    if body.step:
        state = await onboarding.advance(
            body.step,
            patch=body.patch or None,
            user_id=owner,
            expected_version=call.expected_version,
            op_id=call.operation,
        )
    else:
        state = await onboarding.update(
            body.patch,
            user_id=owner,
            expected_version=call.expected_version,
            op_id=call.operation,
        )
    return _answer(state)


async def complete_onboarding(call: Call) -> Answer:
    """Complete the onboarding."""
    body: Completion = call.body
    state = await call.workspace.onboarding.complete(
        patch=body.patch or None,
        user_id=call.caller.owner(_ADMIN),
        expected_version=call.expected_version,
        op_id=call.operation,
    )
    return _answer(state)


async def reset_onboarding(call: Call) -> Answer:
    """Forget the onboarding."""
    if not await call.workspace.onboarding.reset(
        user_id=call.caller.owner(_ADMIN), expected_version=call.expected_version
    ):
        raise NotFound(f"workspace {call.workspace_id!r} has no onboarding, or no longer")
    return Answer()


_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_EXAMPLE = OnboardingState(
    workspace="w1",
    user_id="ada",
    status="started",
    step="voice",
    data={"profile": {"name": "Acme"}},
    version=2,
    created_at=_NOW,
    updated_at=_NOW,
)
_ALL = "/v1/onboarding"

ONBOARDING = (
    Operation(
        method="GET",
        path=_ALL,
        run=get_onboarding,
        summary="Read the onboarding",
        result=OnboardingState,
        versioned=True,
        errors=(404,),
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="POST",
        path=_ALL,
        run=start_onboarding,
        summary="Begin the onboarding",
        description="One that is there stays as it is and is returned.",
        scope=_WRITE,
        body=Start,
        result=OnboardingState,
        example=Start(step="profile"),
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="PATCH",
        path=_ALL,
        run=update_onboarding,
        summary="Get on to a step, or note an answer",
        scope=_WRITE,
        body=Advance,
        result=OnboardingState,
        versioned=True,
        errors=(404,),
        example=Advance(step="voice", patch={"profile": {"name": "Acme"}}),
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="POST",
        path=_ALL + "/complete",
        run=complete_onboarding,
        summary="Complete the onboarding",
        scope=_WRITE,
        body=Completion,
        result=OnboardingState,
        versioned=True,
        errors=(404,),
        example=Completion(),
    ),
    Operation(
        method="DELETE",
        path=_ALL,
        run=reset_onboarding,
        summary="Forget the onboarding",
        scope=_WRITE,
        status=204,
        versioned=True,
        errors=(404,),
    ),
)
