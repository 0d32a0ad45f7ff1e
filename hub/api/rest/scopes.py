"""Who may see, and who may change, what a user, a workspace or an organisation uses."""

from __future__ import annotations

from channels.errors import BadRequest, PermissionDenied
from channels.scope import Scope
from hub.api.rest.operation import Call

__all__ = ["BILLING", "check_payer", "readable", "scope_of", "writable"]

#: Scope of whoever looks after everybody's money: sees and changes every budget.
BILLING = "billing"


def scope_of(call: Call) -> Scope:
    """Return the scope that the path names: ``{kind}/{id}``."""
    return Scope.parse(f"{call.path['kind']}:{call.path['id']}")


def readable(call: Call, scope: Scope) -> Scope:
    """Return ``scope`` if the caller may see it: one's own, one's workspaces'.

    Raises:
        PermissionDenied: it is somebody else's.
    """
    caller = call.caller
    mine = scope == ("user", caller.identity.user) or (
        scope.kind == "workspace" and scope.id in caller.identity.workspaces
    )
    if not mine and not caller.may(BILLING):
        raise PermissionDenied(f"what {scope} uses is seen by it, or with the scope {BILLING!r}")
    return scope


def writable(call: Call, scope: Scope, admin_scope: str) -> Scope:
    """Return ``scope`` if the caller may change its limits.

    Raises:
        PermissionDenied: it may not; nobody raises a limit of one's own.
    """
    caller = call.caller
    in_it = scope.kind == "workspace" and scope.id in caller.identity.workspaces
    if not caller.may(BILLING) and not (in_it and caller.may(admin_scope)):
        raise PermissionDenied(
            f"this needs a token with the scope {BILLING!r}, or {admin_scope!r} for a workspace "
            "that the token is for"
        )
    return scope


def check_payer(call: Call, user: str, workspace: str, organisation: str | None) -> str:
    """Return the user whom something is counted for: the caller, unless another is named.

    Raises:
        PermissionDenied: the workspace is not one of the caller's; or it names another user, or
            an organisation, which is looked up: whoever could choose it could choose who pays.
        BadRequest: nobody is named.
    """
    caller = call.caller
    if not caller.trusted:
        if workspace not in caller.identity.workspaces:
            raise PermissionDenied(f"the token is not for workspace {workspace!r}")
        if organisation is not None:
            raise PermissionDenied("only the application itself names an organisation")
    payer = user or caller.identity.user
    if not payer:
        raise BadRequest("expected a user: the API key is nobody's")
    if payer != caller.identity.user and not caller.may(BILLING):
        raise PermissionDenied(f"another user than the token's needs the scope {BILLING!r}")
    return payer
