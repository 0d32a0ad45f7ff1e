"""``/v1/auth/sessions``: where a person is logged in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from channels.errors import BadRequest, NotFound, PermissionDenied
from channels.ids import Id
from hub.api.rest.operation import Answer, Call, Operation
from services.auth_session import AuthSession

__all__ = ["AUTH_SESSIONS"]

#: Scope of whoever looks after other people's logins.
_ADMIN = "auth:admin"
_Seconds = Annotated[int, Meta(ge=1)]


class UserQuery(msgspec.Struct, frozen=True):
    """Whose: the caller's own unless it may look after others'."""

    user: str = ""


class RevokeQuery(UserQuery, frozen=True):
    """``keep`` is the id of the session that goes on."""

    keep: str = ""


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person whom the application has recognised."""

    user: Id
    workspaces: list[Id] = []
    scopes: list[str] = []
    device: str = ""
    user_agent: str = ""
    address: str = ""
    idle_ttl_s: _Seconds = 7 * 86_400
    max_age_s: _Seconds = 30 * 86_400


class LoggedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A login session, and the secret that is told once. Keep it in a cookie."""

    token: str
    session: AuthSession


class AuthSessionList(msgspec.Struct, frozen=True):
    """All login sessions of a user, the one that was used last first."""

    items: list[AuthSession]


class Revoked(msgspec.Struct, frozen=True):
    """The ids of the sessions that ended."""

    sessions: list[str]


def _user(call: Call) -> str:
    asked = call.query.user
    if asked and call.caller.may(_ADMIN):
        return str(asked)
    return call.caller.actor(asked)


async def list_auth_sessions(call: Call) -> Answer:
    """Return where a user is logged in."""
    return Answer(AuthSessionList(await call.hub.services.auth_sessions.list_sessions(_user(call))))


async def create_auth_session(call: Call) -> Answer:
    """Begin a login session of somebody whom the application has recognised."""
    if not call.caller.trusted:
        raise PermissionDenied("the application itself says who has logged in: use the API key")
    if call.operation is not None:
        # The reply holds a secret, and replies are kept.
        raise BadRequest("a login has no Idempotency-Key: a second one does no harm")
    body: Login = call.body
    issued = await call.hub.services.auth_sessions.create(
        body.user,
        workspaces=body.workspaces,
        scopes=body.scopes,
        device=body.device,
        user_agent=body.user_agent,
        address=body.address,
        idle_ttl_s=body.idle_ttl_s,
        max_age_s=body.max_age_s,
    )
    return Answer(LoggedIn(token=issued.token, session=issued.session), 201)


async def revoke_auth_session(call: Call) -> Answer:
    """End a login session."""
    session = call.path["session"]
    user = _user(call)
    revoked = await call.hub.services.auth_sessions.revoke(
        user, session, actor=call.caller.identity.user
    )
    if not revoked:
        raise NotFound(f"{user!r} has no login session {session!r}")
    return Answer()


async def revoke_auth_sessions(call: Call) -> Answer:
    """End all login sessions of a user."""
    revoked = await call.hub.services.auth_sessions.revoke_all(
        _user(call), keep=call.query.keep, actor=call.caller.identity.user
    )
    return Answer(Revoked(revoked))


_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_EXAMPLE = AuthSession(
    id="Xk2f9s8QmQ1vH7aB",
    user="ada",
    workspaces=frozenset({"w1"}),
    scopes=frozenset({"sessions:write"}),
    device="Ada's phone",
    user_agent="Mozilla/5.0",
    address="203.0.113.7",
    version=1,
    created_at=_NOW,
    seen_at=_NOW,
    expires_at=_NOW.replace(day=8),
    ends_at=_NOW.replace(day=31),
)
_ALL = "/v1/auth/sessions"

AUTH_SESSIONS = (
    Operation(
        method="GET",
        path=_ALL,
        run=list_auth_sessions,
        summary="List where a user is logged in",
        tenant=False,
        query=UserQuery,
        result=AuthSessionList,
        answer_example=AuthSessionList([_EXAMPLE]),
    ),
    Operation(
        method="POST",
        path=_ALL,
        run=create_auth_session,
        summary="Log somebody in",
        description=(
            "For the application, which has the API key and has recognised the person. The "
            "token is told once; it is good as `Authorization: Bearer` and as the login cookie."
        ),
        tenant=False,
        body=Login,
        result=LoggedIn,
        status=201,
        example=Login(user="ada", workspaces=["w1"], device="Ada's phone"),
        answer_example=LoggedIn(token="ada~...", session=_EXAMPLE),  # noqa: S106 - a shape
    ),
    Operation(
        method="DELETE",
        path=_ALL,
        run=revoke_auth_sessions,
        summary="Log a user out everywhere, or everywhere else",
        tenant=False,
        query=RevokeQuery,
        result=Revoked,
        answer_example=Revoked([_EXAMPLE.id]),
    ),
    Operation(
        method="DELETE",
        path=_ALL + "/{session}",
        run=revoke_auth_session,
        summary="Log a user out somewhere",
        description="Its connections on every node are closed for good (3503).",
        tenant=False,
        query=UserQuery,
        status=204,
        errors=(404,),
    ),
)
