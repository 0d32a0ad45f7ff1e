"""Whose pages may talk to the hub: the check of ``Origin`` and ``Host``.

A browser sends cookies, and may reach a hub on loopback, on behalf of any page; CORS keeps
that page from reading answers but stops neither a WebSocket nor a plain POST. So every
request that names a foreign origin is refused here, before anything else looks at it.

An insecure hub has no other protection. It answers to loopback names only, so that a page
whose own name was made to point here (DNS rebinding) is as foreign as any other.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from channels.errors import PermissionDenied
from hub.problem import problem_response
from hub.settings import Settings, is_loopback

__all__ = ["OriginMiddleware", "OriginPolicy", "origin_of"]

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_PREFLIGHT_MAX_AGE_S = "600"
_ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, Last-Event-ID"
#: What a page may read of an answer beyond the usual.
_EXPOSED_HEADERS = (
    "ETag, Idempotency-Replayed, Link, Location, RateLimit, RateLimit-Policy, Retry-After"
)


class OriginPolicy(msgspec.Struct, frozen=True):
    """Decides from two headers; knows nothing about requests."""

    allowed: frozenset[str] = frozenset()
    insecure: bool = False

    @classmethod
    def of(cls, settings: Settings) -> OriginPolicy:
        """Return the policy that the settings describe."""
        allowed = frozenset(origin.lower() for origin in settings.allowed_origins)
        return cls(allowed, settings.insecure)

    def check(self, origin: str | None, host: str | None) -> None:
        """Let a request pass that comes from our own pages, allowed ones, or no page at all.

        Raises:
            PermissionDenied: it comes from a foreign page, or an insecure hub was addressed
                by a name that is not loopback.
        """
        if self.insecure and not is_loopback(_split(f"http://{host or ''}")[0]):
            raise PermissionDenied(
                "an insecure hub answers to loopback names only; got the host "
                f"{(host or '')[:80]!r}"
            )
        if origin is not None and not self._allows(origin.lower(), host):
            raise PermissionDenied(
                f"pages of {origin[:80]!r} may not connect: expected the hub's own origin or "
                "one of allowed_origins"
            )

    def allow(self, scope: Scope) -> bool:
        """Return whether :meth:`check` lets the request or handshake pass."""
        try:
            self.check(origin_of(scope), Headers(scope=scope).get("host"))
        except PermissionDenied:
            return False
        return True

    def _allows(self, origin: str, host: str | None) -> bool:
        if origin in self.allowed or "*" in self.allowed:
            return True
        scheme = origin.partition("://")[0]
        if scheme not in {"http", "https"}:
            return False
        name, port = _split(origin)
        if not name:
            return False
        if self.insecure and is_loopback(name):
            return True
        return host is not None and (name, port) == _split(f"{scheme}://{host.lower()}")


def origin_of(scope: Scope) -> str | None:
    """Return the ``Origin`` of a request or handshake."""
    return Headers(scope=scope).get("origin")


def _split(origin: str) -> tuple[str, int | None]:
    """Return host and port; an empty host when it is not readable."""
    try:
        parts = urlsplit(origin)
        if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
            return "", None
        return parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return "", None


class OriginMiddleware:
    """Applies the policy to every request, and answers CORS preflights.

    A WebSocket handshake is checked by its endpoint, which can say why it refuses.
    """

    def __init__(self, app: ASGIApp, policy: OriginPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        try:
            self._policy.check(origin, headers.get("host"))
        except PermissionDenied as error:
            await problem_response(error)(scope, receive, send)
            return
        if origin is None:
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(origin, headers)(scope, receive, send)
        else:
            await self._app(scope, receive, _with_cors(send, origin))


def _cors(origin: str) -> dict[str, str]:
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}


def _preflight(origin: str, headers: Headers) -> Response:
    asked = headers.get("access-control-request-headers", "")
    return Response(
        status_code=204,
        headers={
            **_cors(origin),
            "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            "Access-Control-Allow-Headers": asked or _ALLOWED_HEADERS,
            "Access-Control-Max-Age": _PREFLIGHT_MAX_AGE_S,
            "Vary": "Origin",
        },
    )


def _with_cors(send: Send, origin: str) -> Send:
    async def with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_cors(origin))
            headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
            headers.add_vary_header("Origin")
        await send(message)

    return with_cors
