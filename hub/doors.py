"""The hub's own doors, and the rate limits before them."""

from __future__ import annotations

import msgspec
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from channels.errors import FanwireError, RateLimited, RequestError, StoreError
from channels.wire import ErrorReply
from hub.api.messages import Outcome
from hub.api.rest.router import OPERATIONS
from hub.client_address import TrustedProxies
from hub.rate_limits import add_limit_fields, refuse
from hub.runtime import Hub
from services.limits.refusal import refusal
from services.limits.result import LimitResult
from services.limits.settings import DOORS, Door, LimitSettings

__all__ = ["DoorsMiddleware", "door_of"]

_encode = msgspec.json.Encoder().encode
#: Methods of the server API (``hub/api/commands.py``).
_METHODS = ("publish", "broadcast", "batch", "history", "history_remove", "channels", "info")
#: What can be asked for at the doors, and how it is known.
_ROUTES = {
    path: compile_path(path)[0].match
    for path in (
        *("/connection/websocket", "/events", "/connection/ticket"),
        *(f"/api/{name}" for name in _METHODS),
        *(operation.path for some in OPERATIONS.values() for operation in some),
    )
}
_PEOPLE = frozenset({"user", "endpoint", "agent"})


def door_of(scope: Scope) -> Door | None:
    """Return which door a request or a handshake comes to; None for one without a guard."""
    path = _path_in_app(scope)
    if scope["type"] == "websocket":
        return "connect" if path == "/connection/websocket" else None
    if path.startswith("/v1/"):
        login = scope["method"] == "POST" and path == "/v1/auth/sessions"
        return "login" if login else "rest"
    if path.startswith("/api/"):
        return "api"
    if path == "/events":
        return "connect"
    if path == "/connection/ticket":
        return "ticket"
    return None


def _path_in_app(scope: Scope) -> str:
    """Return the path without where the hub is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


def _route_of(path: str) -> str:
    """Return the route's path, ``/`` where there is none.

    The path that is asked for would be a limit of its own for each id in it, and for each that
    somebody makes up.
    """
    for route, matches in _ROUTES.items():
        if matches(path):
            return route
    return "/"


class DoorsMiddleware:
    """Refuses who comes too often. A door without policies costs nothing."""

    def __init__(self, app: ASGIApp, *, settings: LimitSettings) -> None:
        self._app = app
        self._settings = settings
        self._policies = {door: names for door in DOORS if (names := settings.of(door))}
        self._proxies = TrustedProxies(settings.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        door = door_of(scope) if scope["type"] in {"http", "websocket"} else None
        names = self._policies.get(door) if door else None
        hub: Hub | None = getattr(scope["app"].state, "hub", None) if names else None
        if door is None or names is None or hub is None:
            await self._app(scope, receive, send)
            return
        try:
            result = await self._check(hub, door, names, scope)
        except FanwireError as error:
            await refuse(error, scope, receive, send)
            return
        if result is None or result.allowed:
            # Who connects reads no fields, and by the thousand they would cost something.
            if result is not None and door != "connect":
                send = _with_fields(send, result, legacy=self._settings.legacy_fields)
            await self._app(scope, receive, send)
            return
        denial = refusal(result, legacy=self._settings.legacy_fields)
        if door == "api":
            await _in_their_shape(denial)(scope, receive, send)
        else:
            await refuse(denial, scope, receive, send)

    async def _check(
        self, hub: Hub, door: Door, names: tuple[str, ...], scope: Scope
    ) -> LimitResult | None:
        """Return what the policies say; None where they do not apply to this caller."""
        limiter = hub.services.rate_limiter
        subjects = {limiter.policies[name].subject for name in names}
        address = self._proxies.address_of(scope)
        user = ""
        if subjects & _PEOPLE and door != "api":
            try:
                found = await hub.authenticator.identity_of_token(HTTPConnection(scope))
                user = found.user
            except (RequestError, StoreError):
                user = ""  # the route says what is wrong
        if not address:
            # On a unix socket there is no address; the policies of addresses do not apply.
            names = tuple(name for name in names if self._applies(hub, name, user))
        if not names:
            return None
        endpoint = _route_of(_path_in_app(scope)) if "endpoint" in subjects else ""
        return await limiter.check_limit(user, names[0], endpoint, address=address, also=names[1:])

    @staticmethod
    def _applies(hub: Hub, name: str, user: str) -> bool:
        subject = hub.services.rate_limiter.policies[name].subject
        return subject == "global" or (bool(user) and subject in _PEOPLE)


def _with_fields(send: Send, result: LimitResult, *, legacy: bool) -> Send:
    async def with_fields(message: Message) -> None:
        if message["type"] == "http.response.start":
            add_limit_fields(message, [result], legacy=legacy)
        await send(message)

    return with_fields


def _in_their_shape(error: RateLimited) -> Response:
    """Answer as the server API does: its clients read ``error``, with a code they know."""
    reply = ErrorReply(111, error.public_message, temporary=True)
    return Response(
        _encode(Outcome(error=reply)),
        status_code=error.http_status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **error.headers},
    )
