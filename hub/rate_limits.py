"""Rate limits for HTTP: a dependency for FastAPI's routes, a middleware for any application.

    @app.get("/search", dependencies=[Depends(rate_limit("api", cost=2))])
    app.add_middleware(RateLimitMiddleware, policies=("address",))

Answers carry ``RateLimit`` and ``RateLimit-Policy``, allowed ones too; a denial is a 429 with
``Retry-After`` and problem details. The limiter is the one given, ``app.state.rate_limiter``, or
that of the hub at ``app.state.hub``.

A dependency can add fields only to an answer that FastAPI makes. For a route that returns a
``Response`` of its own the middleware adds them (without policies it does nothing else).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias, cast

from fastapi import Response
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from channels.errors import FanwireError, UsageError
from hub.client_address import TrustedProxies
from hub.login import optional_identity
from hub.problem import problem_response
from services.limits.fields import limit_fields
from services.limits.rate_limiter import RateLimiter
from services.limits.refusal import refusal
from services.limits.result import LimitResult
from services.limits.subjects import Caller

__all__ = [
    "Identify",
    "RateLimitMiddleware",
    "add_limit_fields",
    "caller_by_address",
    "caller_by_login",
    "rate_limit",
    "refuse",
]

#: Says who a request is counted for.
Identify: TypeAlias = Callable[[HTTPConnection], "Caller | Awaitable[Caller]"]

#: Where results wait in the scope for a middleware that adds their fields.
_RESULTS: Final = "fanwire.rate_limits"
_DENIAL = "websocket.http.response"


def caller_by_address(trusted: Sequence[str] = ()) -> Identify:
    """Return what knows callers by their address; ``trusted`` are proxies that are believed."""
    proxies = TrustedProxies(trusted)

    def identify(connection: HTTPConnection) -> Caller:
        return Caller(
            address=proxies.address_of(connection.scope), endpoint=_endpoint(connection.scope)
        )

    return identify


def caller_by_login(trusted: Sequence[str] = ()) -> Identify:
    """Return what knows callers by their login (``hub.login``), others by their address."""
    by_address = caller_by_address(trusted)

    async def identify(connection: HTTPConnection) -> Caller:
        identity = await optional_identity(connection)
        return cast(Caller, by_address(connection))._replace(user=identity.user)

    return identify


def rate_limit(
    limit_type: str = "api",
    *,
    also: Sequence[str] = (),
    cost: int = 1,
    identify: Identify | None = None,
    limiter: RateLimiter | None = None,
    legacy: bool = False,
) -> Callable[[HTTPConnection, Response], Awaitable[LimitResult]]:
    """Return a dependency that takes ``cost`` of a policy and those in ``also``.

    ``identify`` says for whom; unless given, for whoever is logged in where the application has a
    hub, else for the address. The result is what the parameter of a route gets. ``RateLimited``
    is raised when it is denied: an application answers it by ``hub.problem.problem_handlers``.
    """
    names = tuple(also)

    async def dependency(connection: HTTPConnection, response: Response) -> LimitResult:
        own = limiter or _limiter_of(connection.scope)
        result = await _check(own, connection, identify, limit_type, names, cost)
        if not result:
            raise refusal(result, legacy=legacy)
        connection.scope.setdefault(_RESULTS, []).append(result)
        _add_fields(response.headers, result, legacy=legacy)
        return result

    return dependency


class RateLimitMiddleware:
    """Limits every request and WebSocket handshake of an application; pure ASGI.

    ``cost`` is a number, or a function of the connection. ``legacy`` adds ``X-RateLimit-*``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        policies: Sequence[str] = (),
        limiter: RateLimiter | None = None,
        identify: Identify | None = None,
        cost: int | Callable[[HTTPConnection], int] = 1,
        legacy: bool = False,
    ) -> None:
        self._app = app
        self._policies = tuple(policies)
        self._limiter = limiter
        self._identify = identify
        self._cost = cost
        self._legacy = legacy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if self._policies:
            connection = HTTPConnection(scope)
            limiter = self._limiter or _limiter_of(scope)
            cost = self._cost if isinstance(self._cost, int) else self._cost(connection)
            try:
                result = await _check(
                    limiter, connection, self._identify, self._policies[0], self._policies[1:], cost
                )
            except FanwireError as error:
                await refuse(error, scope, receive, send)
                return
            if not result:
                await refuse(refusal(result, legacy=self._legacy), scope, receive, send)
                return
            scope.setdefault(_RESULTS, []).append(result)
        await self._app(scope, receive, self._with_fields(scope, send))

    def _with_fields(self, scope: Scope, send: Send) -> Send:
        async def with_fields(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept"}:
                results: list[LimitResult] = scope.get(_RESULTS, [])
                add_limit_fields(message, results, legacy=self._legacy)
            await send(message)

        return with_fields


def add_limit_fields(
    message: Message, results: Sequence[LimitResult], *, legacy: bool = False
) -> None:
    """Add the fields of ``results`` to a message that begins an answer, once each."""
    message.setdefault("headers", [])
    headers = MutableHeaders(scope=message)
    for result in results:
        _add_fields(headers, result, legacy=legacy)


def _add_fields(headers: MutableHeaders, result: LimitResult, *, legacy: bool) -> None:
    for name, value in limit_fields(result, legacy=legacy).items():
        # A list: what stands there already, of a policy of the route, stays.
        there = headers.get(name)
        if there is None:
            headers[name] = value
        elif name.startswith("RateLimit"):
            new = [one for one in value.split(", ") if one.partition(";")[0] not in there]
            headers[name] = ", ".join([there, *new])


async def refuse(error: FanwireError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request or a handshake with why not."""
    if scope["type"] == "http":
        await problem_response(error)(scope, receive, send)
        return
    await receive()  # websocket.connect
    if _DENIAL in scope.get("extensions", {}):
        await problem_response(error)(scope, receive, send)
    else:
        await send({"type": "websocket.close"})  # which servers tell as 403


async def _check(
    limiter: RateLimiter,
    connection: HTTPConnection,
    identify: Identify | None,
    limit_type: str,
    also: Sequence[str],
    cost: int,
) -> LimitResult:
    found = (identify or _identify_of(connection.scope))(connection)
    caller = await found if inspect.isawaitable(found) else found
    return await limiter.check_limit(
        caller.user,
        limit_type,
        caller.endpoint,
        workspace=caller.workspace,
        address=caller.address,
        agent=caller.agent,
        cost=cost,
        also=also,
    )


_by_address = caller_by_address()
_by_login = caller_by_login()


def _identify_of(scope: Scope) -> Identify:
    state = getattr(scope.get("app"), "state", None)
    return _by_login if hasattr(state, "hub") else _by_address


def _limiter_of(scope: Scope) -> RateLimiter:
    state = getattr(scope.get("app"), "state", None)
    limiter = getattr(state, "rate_limiter", None)
    if limiter is None and (hub := getattr(state, "hub", None)) is not None:
        limiter = hub.services.rate_limiter
    if limiter is None:
        raise UsageError("expected a limiter: pass one, or set app.state.rate_limiter")
    return cast(RateLimiter, limiter)


def _endpoint(scope: Scope) -> str:
    """Return what is asked for: the route's path, else the request's."""
    path = getattr(scope.get("route"), "path", None) or scope["path"]
    return f"{scope.get('method', 'GET')} {path}"[:1024]
