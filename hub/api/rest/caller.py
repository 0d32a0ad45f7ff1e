"""Who calls a REST operation, for which workspace, and whether it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from channels.errors import BadRequest, PermissionDenied, Unauthorized
from channels.identity import ANONYMOUS, Identity
from channels.ids import check_id
from hub.auth import check_api_key
from hub.login import check_same_site

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["Caller", "caller_of"]


class Caller:
    """A caller that proved who it is.

    ``trusted`` callers are the application itself (it has the API key), or everybody where
    the hub is insecure: they may act for any workspace and in anybody's name.
    """

    __slots__ = ("identity", "trusted")

    def __init__(self, identity: Identity, *, trusted: bool) -> None:
        self.identity = identity
        self.trusted = trusted

    @property
    def name(self) -> str:
        """What tells the caller's requests from those of others; empty for the application."""
        return self.identity.user

    def workspace(self, asked: str | None) -> str:
        """Return the workspace that the caller acts in.

        ``asked`` is the query parameter; a token for one workspace needs none.

        Raises:
            BadRequest: none was asked for, and it is not clear which.
            PermissionDenied: it is not one of the caller's.
        """
        mine = self.identity.workspaces
        if asked is None:
            if len(mine) == 1:
                return next(iter(mine))
            raise BadRequest("expected ?workspace=ID: it is not clear which workspace is meant")
        check_id(asked, "workspace")
        if not self.trusted and asked not in mine:
            raise PermissionDenied(f"the token is not for workspace {asked!r}")
        return asked

    def may(self, scope: str) -> bool:
        """Return whether the caller has ``scope``."""
        return self.trusted or scope in self.identity.scopes

    def need(self, scope: str) -> None:
        """Let the caller pass if it has ``scope``; an empty one is nobody's.

        Raises:
            PermissionDenied: it has not.
        """
        if scope and not self.may(scope):
            raise PermissionDenied(f"this needs a token with the scope {scope!r}")

    def actor(self, asked: str = "") -> str:
        """Return in whose name the caller acts: its own; somebody else's if it is trusted.

        Raises:
            BadRequest: a trusted caller did not say whose.
            PermissionDenied: others may not.
        """
        if asked and asked != self.identity.user and not self.trusted:
            raise PermissionDenied(f"the token is {self.identity.user!r}'s, not {asked!r}'s")
        actor = asked or self.identity.user
        if not actor:
            raise BadRequest("expected the id of the user who acts: the API key is nobody's")
        return check_id(actor, "user")

    def owner(self, admin_scope: str) -> str | None:
        """Return whose things the caller may change; None for everybody's."""
        return None if self.may(admin_scope) else self.identity.user


async def caller_of(hub: Hub, request: Request) -> Caller:
    """Return who sent ``request``: by API key, token, cookie or one-use ticket.

    Raises:
        Unauthorized: nobody vouches for the caller.
        BadRequest: there is a token in the address.
        PermissionDenied: a foreign page may have caused it.
        StoreError: it could not be looked up.
    """
    # A browser sends cookies on behalf of any page.
    check_same_site(request)
    insecure = hub.settings.insecure
    if "x-api-key" in request.headers or _has_key(request):
        check_api_key(hub.settings, request)
        return Caller(ANONYMOUS, trusted=True)
    identity = await hub.authenticator.identity_of_request(request)
    if identity.anonymous and not insecure:
        raise Unauthorized("expected a token ('Authorization: Bearer') or an API key (X-API-Key)")
    return Caller(identity, trusted=insecure)


def _has_key(request: Request) -> bool:
    return request.headers.get("authorization", "").partition(" ")[0].lower() == "apikey"
