"""``POST /connection/ticket``: a one-use ticket for somebody with a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from channels.errors import Unauthorized
from hub.tickets import TICKET_LIFETIME_S

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["ticket_router"]


def ticket_router(hub: Hub) -> APIRouter:
    """Return ``/connection/ticket``."""
    router = APIRouter(tags=["connection"])

    @router.post("/connection/ticket")
    async def ticket(request: Request) -> JSONResponse:
        """Exchange a token for a ticket, to be used once as ``?ticket=`` in an address."""
        identity = await hub.authenticator.identity_of_token(request)
        if identity.anonymous and not hub.settings.insecure:
            raise Unauthorized("a ticket is given for a token: send 'Authorization: Bearer'")
        return JSONResponse(
            {"ticket": await hub.tickets.issue(identity), "expires_in": TICKET_LIFETIME_S},
            headers={"Cache-Control": "no-store"},
        )

    return router
