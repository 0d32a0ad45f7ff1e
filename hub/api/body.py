"""The body of a request, read with a bound on its size and its time."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from channels.errors import BadRequest, LimitExceeded

__all__ = ["read_body"]

#: Seconds a body of at most a few MiB may take to arrive.
_BODY_TIMEOUT_S = 10.0


class _BodyTooLate(BadRequest):
    http_status = 408


async def read_body(request: Request, limit: int) -> bytes:
    """Return the whole body, of at most ``limit`` bytes.

    Raises:
        LimitExceeded: it is, or says that it is, larger.
        BadRequest: it did not come within 10 s.
    """
    too_large = LimitExceeded(f"a request has at most {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise _BodyTooLate(
            f"the request's body did not come within {_BODY_TIMEOUT_S:g} s"
        ) from None
    return b"".join(chunks)
