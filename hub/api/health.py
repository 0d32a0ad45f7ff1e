"""Whether the process lives, and whether it should get new clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import JSONResponse

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["health_router"]

_NO_STORE = {"Cache-Control": "no-store"}


def health_router(hub: Hub) -> APIRouter:
    """Return ``/health/live`` and ``/health/ready``."""
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live")
    async def live() -> JSONResponse:
        """Answer 200 for as long as the event loop turns: otherwise restart the process."""
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    @router.get("/ready", responses={503: {"description": "not ready; `reasons` says why"}})
    async def ready() -> JSONResponse:
        """Answer 503 while Redis or the subscriptions are away: send new clients elsewhere."""
        reasons = hub.troubles
        return JSONResponse(
            {
                "ready": not reasons,
                "reasons": reasons,
                "warnings": hub.warnings,
                "node": hub.node,
            },
            status_code=503 if reasons else 200,
            headers=_NO_STORE,
        )

    return router
