"""``/v1/preferences``: what a workspace, or one person in it, would like."""

from __future__ import annotations

from typing import Any

from channels.errors import PermissionDenied
from hub.api.rest.operation import Answer, Call, Operation
from services.preferences import PreferencesState

__all__ = [
    "PREFERENCES",
    "effective_preferences",
    "get_preferences",
    "get_user_preferences",
    "patch_preferences",
    "patch_user_preferences",
    "reset_preferences",
    "reset_user_preferences",
]

#: Scope of whoever changes the preferences of a workspace; one's own need none.
_WRITE = "preferences:write"


def _answer(state: PreferencesState[Any]) -> Answer:
    return Answer(state, version=state.version)


def _user(call: Call) -> str:
    """Return whose preferences are meant; they are that person's own affair."""
    user = call.path["user"]
    if user != call.caller.identity.user and not call.caller.trusted:
        raise PermissionDenied(f"the preferences of {user!r} are {user!r}'s own")
    return user


async def get_preferences(call: Call) -> Answer:
    """Return the workspace's preferences."""
    return _answer(await call.workspace.preferences.get())


async def patch_preferences(call: Call) -> Answer:
    """Change the workspace's preferences."""
    state = await call.workspace.preferences.patch(
        call.body, expected_version=call.expected_version, op_id=call.operation
    )
    return _answer(state)


async def reset_preferences(call: Call) -> Answer:
    """Remove the workspace's preferences."""
    state = await call.workspace.preferences.reset(expected_version=call.expected_version)
    return _answer(state)


async def get_user_preferences(call: Call) -> Answer:
    """Return a user's own preferences."""
    return _answer(await call.workspace.preferences.get(user=_user(call)))


async def effective_preferences(call: Call) -> Answer:
    """Return a user's preferences over the workspace's."""
    return _answer(await call.workspace.preferences.effective(_user(call)))


async def patch_user_preferences(call: Call) -> Answer:
    """Change a user's own preferences."""
    state = await call.workspace.preferences.patch(
        call.body,
        user=_user(call),
        expected_version=call.expected_version,
        op_id=call.operation,
    )
    return _answer(state)


async def reset_user_preferences(call: Call) -> Answer:
    """Remove a user's own preferences."""
    state = await call.workspace.preferences.reset(
        user=_user(call), expected_version=call.expected_version
    )
    return _answer(state)


_EXAMPLE = PreferencesState[dict[str, Any]](
    values={"theme": "dark", "mail": {"daily": True}}, version=4
)
_PATCH = {"theme": "dark", "mail": {"daily": True}, "old": None}
_MERGE = "A JSON merge patch (RFC 7396): objects are merged, `null` removes a field."
_ALL = "/v1/preferences"
_ONE = "/v1/preferences/{user}"
_STATE = PreferencesState[dict[str, Any]]

PREFERENCES = (
    Operation(
        method="GET",
        path=_ALL,
        run=get_preferences,
        summary="Read the workspace's preferences",
        result=_STATE,
        versioned=True,
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="PATCH",
        path=_ALL,
        run=patch_preferences,
        summary="Change the workspace's preferences",
        description=_MERGE,
        scope=_WRITE,
        body=dict[str, Any],
        result=_STATE,
        versioned=True,
        example=_PATCH,
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="DELETE",
        path=_ALL,
        run=reset_preferences,
        summary="Remove the workspace's preferences",
        scope=_WRITE,
        result=_STATE,
        versioned=True,
    ),
    Operation(
        method="GET",
        path=_ONE,
        run=get_user_preferences,
        summary="Read one's own preferences",
        result=_STATE,
        versioned=True,
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="GET",
        path=_ONE + "/effective",
        run=effective_preferences,
        summary="Read what holds for a user",
        description="One's own preferences over those of the workspace; `version` is one's own.",
        result=_STATE,
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="PATCH",
        path=_ONE,
        run=patch_user_preferences,
        summary="Change one's own preferences",
        description=_MERGE,
        body=dict[str, Any],
        result=_STATE,
        versioned=True,
        example=_PATCH,
        answer_example=_EXAMPLE,
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        run=reset_user_preferences,
        summary="Remove one's own preferences",
        result=_STATE,
        versioned=True,
    ),
)
