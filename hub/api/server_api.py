"""The server API over HTTP: ``POST /api/{method}``, as Centrifugo's clients know it.

Answers 200 with ``{"result": ...}`` or ``{"error": {"code", "message"}}``, but for what
stands before any method: 401 for the key, 404 for the method, 413 for a body that is too
large, 408 for one that does not come, and 503 with ``Retry-After`` while Redis is away.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from channels.errors import (
    FanwireError,
    MethodNotFound,
    StoreError,
    Unauthorized,
)
from channels.wire import ErrorReply
from hub.api.body import read_body
from hub.api.commands import Commands, Method
from hub.api.messages import BatchResult, Outcome
from hub.auth import check_api_key
from hub.problem import RETRY_AFTER_S

if TYPE_CHECKING:
    from hub.runtime import Hub

__all__ = ["REF_TEMPLATE", "server_api_router"]

_log = logging.getLogger(__name__)

#: Where the schemas of requests and results stand in the OpenAPI document.
REF_TEMPLATE = "#/components/schemas/{name}"

_encode = msgspec.json.Encoder().encode


def server_api_router(hub: Hub) -> APIRouter:
    """Return ``/api/{method}`` for every method, documented one by one."""
    router = APIRouter(prefix="/api", tags=["server API"])
    api = _ServerApi(hub)
    for method in api.commands.methods.values():
        router.add_api_route(
            f"/{method.name}",
            api.endpoint(method.name),
            methods=["POST"],
            name=method.name,
            summary=(method.run.__doc__ or "").partition("\n")[0].rstrip("."),
            response_class=Response,
            openapi_extra=_openapi(method),
        )
    router.add_api_route("/{name}", api.unknown, methods=["POST"], include_in_schema=False)
    return router


class _ServerApi:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.commands = Commands(hub)

    def endpoint(self, name: str) -> Any:  # noqa: ANN401 - FastAPI's word for an endpoint
        async def endpoint(request: Request) -> Response:
            return await self._answer(name, request)

        return endpoint

    async def unknown(self, name: str, request: Request) -> Response:
        return await self._answer(name, request)

    async def _answer(self, name: str, request: Request) -> Response:
        try:
            check_api_key(self._hub.settings, request)
            body = await read_body(request, self._hub.settings.max_api_body_bytes)
        except FanwireError as error:
            return _refusal(error, error.http_status)
        try:
            result = await self.commands.run(name, body)
        except MethodNotFound as error:
            return _refusal(error, error.http_status)
        except StoreError as error:
            return _refusal(error, error.http_status)
        except FanwireError as error:
            return _json(Outcome(error=ErrorReply.of(error)))
        except Exception:  # noqa: BLE001 - logged, and told
            _log.exception("the server API's %s failed", name)
            return _json(Outcome(error=ErrorReply(100, "internal server error")), 500)
        # A batch is answered without the wrapping: each reply has its own.
        return _json(result if isinstance(result, BatchResult) else Outcome(result=result))


def _refusal(error: FanwireError, status: int) -> Response:
    headers = {}
    if isinstance(error, StoreError):
        headers["Retry-After"] = RETRY_AFTER_S
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "apikey"
    return _json(Outcome(error=ErrorReply.of(error)), status, headers)


def _json(
    outcome: Outcome | BatchResult, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    return Response(
        _encode(outcome),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _openapi(method: Method) -> dict[str, Any]:
    """Return what FastAPI cannot see: the schemas of request and result."""
    answers = {"application/json": {"schema": _answer_schema(method)}}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": REF_TEMPLATE.format(name=method.request.__name__)}
                }
            },
        },
        "security": [{"apiKey": []}],
        "responses": {
            "200": {"description": "The result, or why there is none.", "content": answers},
            "401": {"description": "The API key is missing or wrong."},
            "413": {"description": "The body is too large."},
            "503": {"description": "Redis is away; try again after `Retry-After` seconds."},
        },
    }


def _answer_schema(method: Method) -> dict[str, Any]:
    result = {"$ref": REF_TEMPLATE.format(name=method.result.__name__)}
    if method.result is BatchResult:
        return result
    error = {"$ref": REF_TEMPLATE.format(name=ErrorReply.__name__)}
    return {
        "oneOf": [
            {"type": "object", "properties": {"result": result}, "required": ["result"]},
            {"type": "object", "properties": {"error": error}, "required": ["error"]},
        ]
    }
