"""Errors as answers to plain HTTP requests: RFC 9457 problem details.

The server API has a shape of its own (``api/server_api.py``); everything else answers so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from channels.errors import FanwireError, StoreError

__all__ = ["RETRY_AFTER_S", "problem_handlers", "problem_response"]

_Handler: TypeAlias = Callable[[Request, Any], Coroutine[Any, Any, Response]]

_log = logging.getLogger(__name__)

#: What a caller should wait when Redis is away: reconnecting takes about as long.
RETRY_AFTER_S = "1"


class _Problem(msgspec.Struct, omit_defaults=True):
    status: int
    title: str
    #: A URI; absent where the status says it all (``about:blank``).
    type: str = ""
    detail: str = ""
    #: The error's code in the Centrifugal protocol.
    code: int = 0


class _ProblemResponse(Response):
    """A problem as a response."""

    media_type = "application/problem+json"


def _response(
    problem: _Problem,
    headers: dict[str, str] | None = None,
    details: dict[str, object] | None = None,
) -> Response:
    return _ProblemResponse(
        msgspec.json.encode({**(details or {}), **msgspec.to_builtins(problem)}),
        status_code=problem.status,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def problem_response(error: FanwireError) -> Response:
    """Return the answer that tells ``error``."""
    status = error.http_status
    headers = error.headers
    if isinstance(error, StoreError) or error.temporary:
        headers.setdefault("Retry-After", RETRY_AFTER_S)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    title = HTTPStatus(status).phrase
    problem = _Problem(
        status, title, type=error.problem_type, detail=error.public_message, code=error.code
    )
    return _response(problem, headers, error.details)


async def _on_fanwire_error(_request: Request, error: FanwireError) -> Response:
    """Answer an error of ours."""
    if error.http_status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("a request failed: %s", error)
    return problem_response(error)


async def _on_http_exception(_request: Request, error: HTTPException) -> Response:
    """Answer what the router has to say: no such path, no such method."""
    title = HTTPStatus(error.status_code).phrase
    detail = "" if error.detail == title else str(error.detail)
    headers = dict(error.headers) if error.headers else None
    return _response(_Problem(error.status_code, title, detail=detail), headers)


async def _on_unexpected(_request: Request, _error: Exception) -> Response:
    """Answer a bug. The server logs it; the caller learns nothing."""
    return _response(_Problem(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase, code=100))


def problem_handlers() -> dict[int | type[Exception], _Handler]:
    """Return the exception handlers of an application that answers with problems."""
    return {
        FanwireError: _on_fanwire_error,
        HTTPException: _on_http_exception,
        Exception: _on_unexpected,
    }
