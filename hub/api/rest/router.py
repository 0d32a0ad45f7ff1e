"""All REST operations as routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.responses import Response

from hub.api.rest.approvals import APPROVALS
from hub.api.rest.auth_sessions import AUTH_SESSIONS
from hub.api.rest.budgets import BUDGETS
from hub.api.rest.cache import CACHE
from hub.api.rest.limits import LIMITS
from hub.api.rest.onboarding import ONBOARDING
from hub.api.rest.operation import Operation, endpoint_of
from hub.api.rest.preferences import PREFERENCES
from hub.api.rest.schema import describe
from hub.api.rest.sessions import SESSIONS
from hub.api.rest.usage import USAGE

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["OPERATIONS", "rest_router"]

#: By the tag that the documents show them under.
OPERATIONS: dict[str, tuple[Operation, ...]] = {
    "sessions": SESSIONS,
    "approvals": APPROVALS,
    "preferences": PREFERENCES,
    "onboarding": ONBOARDING,
    "login sessions": AUTH_SESSIONS,
    "usage": USAGE,
    "budgets": BUDGETS,
    "limits": LIMITS,
    "cache": CACHE,
}


def rest_router(hub: Hub) -> APIRouter:
    """Return the routes under ``/v1``."""
    router = APIRouter()
    for tag, operations in OPERATIONS.items():
        for operation in operations:
            router.add_api_route(
                operation.path,
                endpoint_of(hub, operation),
                methods=[operation.method],
                name=operation.run.__name__,
                summary=operation.summary,
                description=operation.description or None,
                tags=[tag],
                status_code=operation.status,
                response_class=Response,
                response_model=None,
                openapi_extra=describe(operation),
            )
    return router
