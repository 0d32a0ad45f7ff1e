"""``/v1/auth/sessions``: where a person is logged in."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta

from channels.errors import BadRequest, NotFound, PermissionDenied
from channels.ids import Id
from hub.api.rest.operation import Answer, Call, Operation
from hub.login_cookie import clear_login_cookie, login_token_in, set_login_cookie
from services.auth_session import AuthSession

__all__ = [
    "AUTH_SESSIONS",
    "AuthSessionList",
    "LoggedIn",
    "Login",
    "RevokeQuery",
    "Revoked",
    "UserQuery",
    "create_auth_session",
    "list_auth_sessions",
    "revoke_auth_session",
    "revoke_auth_sessions",
    "rotate_auth_session",
]

#: Scope of whoever looks after other people's logins.
_ADMIN = "auth:admin"
_Seconds = Annotated[int, Meta(ge=1)]


class UserQuery(msgspec.Struct, frozen=True):
    """Whose: the caller's own unless it may look after others'."""

    user: str = ""


class RevokeQuery(UserQuery, frozen=True):
    """``keep`` is the id of the session that goes on; "this" is the caller's own."""

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


#: Stands for the id of the session that the caller itself has.
_THIS = "this"


def _user(call: Call) -> str:
    asked = call.query.user
    if asked and call.caller.may(_ADMIN):
        return str(asked)
    return call.caller.actor(asked)


def _session(call: Call, id_: str) -> str:
    """Return the id that is meant."""
    if id_ != _THIS:
        return id_
    if not call.caller.identity.session:
        raise BadRequest("'this' is the caller's login session, and it has none: name one")
    return call.caller.identity.session


def _refuse_key(call: Call) -> None:
    """Refuse an idempotency key where the reply holds a secret: replies are kept."""
    if call.operation is not None:
        raise BadRequest("this takes no Idempotency-Key: its reply holds a secret")


async def list_auth_sessions(call: Call) -> Answer:
    """Return where a user is logged in."""
    return Answer(AuthSessionList(await call.hub.services.auth_sessions.list_sessions(_user(call))))


async def create_auth_session(call: Call) -> Answer:
    """Begin a login session of somebody whom the application has recognised."""
    if not call.caller.trusted:
        raise PermissionDenied("the application itself says who has logged in: use the API key")
    _refuse_key(call)
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


async def rotate_auth_session(call: Call) -> Answer:
    """Give the caller's own login session a new secret."""
    _refuse_key(call)
    scheme, _, proof = call.request.headers.get("authorization", "").partition(" ")
    header = proof.strip() if scheme.lower() == "bearer" else ""
    token = header or login_token_in(call.request)
    if not call.caller.identity.session or not token:
        raise BadRequest("only somebody with a login session has a secret to change")
    issued = await call.hub.services.auth_sessions.rotate(token)
    finish = None
    if not header:
        secure = call.request.url.scheme == "https"
        finish = partial(set_login_cookie, issued=issued, secure=secure)
    return Answer(LoggedIn(token=issued.token, session=issued.session), finish=finish)


async def revoke_auth_session(call: Call) -> Answer:
    """End a login session."""
    session = _session(call, call.path["session"])
    user = _user(call)
    revoked = await call.hub.services.auth_sessions.revoke(
        user, session, actor=call.caller.identity.user
    )
    if not revoked:
        raise NotFound(f"{user!r} has no login session {session!r}")
    mine = session == call.caller.identity.session
    return Answer(finish=clear_login_cookie if mine else None)


async def revoke_auth_sessions(call: Call) -> Answer:
    """End all login sessions of a user."""
    keep = _session(call, call.query.keep) if call.query.keep else ""
    revoked = await call.hub.services.auth_sessions.revoke_all(
        _user(call), keep=keep, actor=call.caller.identity.user
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
        description=(
            "Its connections on every node are closed for good (3503). The session `this` is "
            "the caller's own."
        ),
        tenant=False,
        query=UserQuery,
        status=204,
        errors=(404,),
    ),
    Operation(
        method="POST",
        path=_ALL + "/rotate",
        run=rotate_auth_session,
        summary="Change the secret of one's login session",
        description=(
            "The old secret is no good from then on. Whoever logged in with the cookie gets "
            "the new one as a cookie too."
        ),
        tenant=False,
        result=LoggedIn,
        answer_example=LoggedIn(token="ada~...", session=_EXAMPLE),  # noqa: S106 - a shape
    ),
)
