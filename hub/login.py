"""Who is logged in, for an application's own routes::

    @app.get("/me")
    async def me(identity: CurrentIdentity) -> str:
        return identity.user

The hub is the one at ``app.state.hub`` (:func:`hub.app.include` puts it there). Errors are
ours; ``include`` has the application answer them as problems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from channels.errors import PermissionDenied, TokenExpired, Unauthorized
from channels.identity import ANONYMOUS, Identity
from hub.login_cookie import clear_login_cookie, set_login_cookie
from hub.origin import origin_of

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = [
    "CurrentIdentity",
    "OptionalIdentity",
    "check_same_site",
    "clear_login_cookie",
    "current_identity",
    "hub_of",
    "optional_identity",
    "set_login_cookie",
]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


async def optional_identity(connection: HTTPConnection) -> Identity:
    """Return who sent the request, by login session or connection token; perhaps nobody.

    A cookie that is no good any more is as good as none: public pages stay public.

    A request that changes something, and a WebSocket, must come from our own pages or allowed
    ones, because a browser sends cookies on behalf of any page. Who sends its token itself,
    as ``Authorization: Bearer``, is no browser that was tricked.

    Raises:
        PermissionDenied: it comes from a foreign page, or does not say from where.
        Unauthorized, TokenExpired: the token in the header is no good.
        StoreError: that cannot be found out now.
    """
    try:
        return await _identity(connection)
    except (Unauthorized, TokenExpired):
        if _brings_token(connection):
            raise
    return ANONYMOUS


async def current_identity(connection: HTTPConnection) -> Identity:
    """Return who sent the request; ``Unauthorized`` for nobody, otherwise as above."""
    identity = await _identity(connection)
    if identity.anonymous:
        raise Unauthorized("log in first")
    return identity


async def _identity(connection: HTTPConnection) -> Identity:
    check_same_site(connection)
    return await hub_of(connection).authenticator.identity_of_token(connection)


def _brings_token(connection: HTTPConnection) -> bool:
    return connection.headers.get("authorization", "").lower().startswith("bearer ")


def hub_of(connection: HTTPConnection) -> Hub:
    """Return the hub of the application that got this request."""
    return cast("Hub", connection.app.state.hub)


def check_same_site(connection: HTTPConnection) -> None:
    """Let a request pass that changes nothing, or that no foreign page can have caused.

    The dependencies above do this; call it where nobody needs to be logged in: the log-in.

    Raises:
        PermissionDenied: it comes from a foreign page, or does not say from where.
    """
    headers = connection.headers
    if _brings_token(connection):
        return
    if connection.scope["type"] == "http" and connection.scope["method"] in _SAFE_METHODS:
        return
    origin = origin_of(connection.scope)
    hub_of(connection).origins.check(origin, headers.get("host"))
    # Every browser names the origin of what may change something; a few privacy tools take
    # it away, but not what the browser says instead.
    same = headers.get("sec-fetch-site") == "same-origin"
    if origin is None and not same and connection.cookies:
        raise PermissionDenied(
            "a request with cookies that changes something must say from which page it comes: "
            "expected the header Origin"
        )


#: The parameter of a route that only somebody who is logged in may call.
CurrentIdentity = Annotated[Identity, Depends(current_identity)]
#: The parameter of a route that anybody may call.
OptionalIdentity = Annotated[Identity, Depends(optional_identity)]
