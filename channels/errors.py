"""Every error and every disconnect of Fanwire, in one tree with the protocol's codes.

The numbers are those of the Centrifugal client protocol, so that official clients react
as their authors meant: an error code says whether to retry one command, a disconnect code
says whether to come back. Messages say what was expected and what came; they never carry
secrets, because they travel to the client and into logs.

    FanwireError
    |- RequestError             the caller asked for something wrong; nothing happened
    |  |- Unauthorized          101
    |  |- UnknownChannel        102
    |  |- PermissionDenied      103
    |  |- MethodNotFound        104
    |  |- AlreadySubscribed     105
    |  |- LimitExceeded         106
    |  |- BadRequest            107
    |  |- NotAvailable          108
    |  |- TokenExpired          109
    |  |- TooManyRequests       111  temporary
    |  |- UnrecoverablePosition 112
    |  |- OverBudget            402
    |  |- NotFound              404
    |  |- Conflict              409
    |  |  '- VersionConflict    412
    |  '- RateLimited           429  temporary
    |- StoreError               Redis could not do it
    |  |- StoreUnavailable      100  temporary; certainly not executed
    |  |- OutcomeUnknown        100  temporary; sent, no reply: it may have been executed
    |  '- StoreRefused          100  temporary; the server answered with an error
    |- DatabaseUnavailable      100  temporary; SQL could not be done, a commit may have been
    |- LoadFailed               100  temporary; the source of a cached value failed lately
    |- HubError                 a client could not do it
    |  |- HubUnavailable        the hub could not be reached; certainly not executed
    |  '- HubOutcomeUnknown     sent, no reply: it may have been executed
    |- SettingsError            the configuration is wrong; the process must not start
    '- UsageError               the API was used in the wrong order (a bug in the caller)
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

__all__ = [
    "AlreadySubscribed",
    "BadRequest",
    "Conflict",
    "DatabaseUnavailable",
    "Disconnect",
    "Disconnects",
    "FanwireError",
    "HubError",
    "HubOutcomeUnknown",
    "HubUnavailable",
    "LimitExceeded",
    "LoadFailed",
    "MethodNotFound",
    "NotAvailable",
    "NotFound",
    "OutcomeUnknown",
    "OverBudget",
    "PermissionDenied",
    "RateLimited",
    "RequestError",
    "SettingsError",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "TokenExpired",
    "TooManyRequests",
    "Unauthorized",
    "UnknownChannel",
    "UnrecoverablePosition",
    "UnsubscribeCode",
    "UsageError",
    "VersionConflict",
    "error_from_code",
]


class FanwireError(Exception):
    """Base of every error that Fanwire raises on purpose."""

    #: Code in the Centrifugal client protocol; 100 is "internal".
    code: ClassVar[int] = 100
    #: Whether the same request may succeed later without being changed.
    temporary: ClassVar[bool] = False
    #: Status when the error answers a plain HTTP request.
    http_status: ClassVar[int] = 500

    @property
    def message(self) -> str:
        """One sentence for the caller: what was expected and what came."""
        return str(self)

    @property
    def details(self) -> dict[str, object]:
        """What a program may act on, beside the code: members of the problem details."""
        return {}

    @property
    def problem_type(self) -> str:
        """URI of the kind of problem (RFC 9457); empty where the status says it all."""
        return ""

    @property
    def headers(self) -> dict[str, str]:
        """What a plain HTTP answer that tells the error says in its header fields."""
        return {}

    @property
    def public_message(self) -> str:
        """The message for callers from outside: without where Redis is or what broke inside."""
        return self.message if self.http_status < 500 else "internal server error"


class RequestError(FanwireError):
    """The caller asked for something wrong or forbidden; nothing was changed."""

    code = 107
    http_status = 400


class Unauthorized(RequestError):
    """The caller did not prove who it is."""

    code = 101
    http_status = 401


class UnknownChannel(RequestError):
    """The channel belongs to no declared namespace."""

    code = 102
    http_status = 404


class PermissionDenied(RequestError):
    """The caller is known and may not do this."""

    code = 103
    http_status = 403


class MethodNotFound(RequestError):
    """The command or API method does not exist."""

    code = 104
    http_status = 404


class AlreadySubscribed(RequestError):
    """The connection is already subscribed to the channel."""

    code = 105
    http_status = 409


class LimitExceeded(RequestError):
    """A documented limit (size, count) was exceeded."""

    code = 106
    http_status = 413


class BadRequest(RequestError):
    """The request is malformed."""


class NotAvailable(RequestError):
    """The channel or the hub does not offer this feature."""

    code = 108
    http_status = 404


class TokenExpired(RequestError):
    """The token was good and its time is over: get a new one and try again."""

    code = 109
    http_status = 401


class TooManyRequests(RequestError):
    """The caller is over a rate; it may try again later."""

    code = 111
    temporary = True
    http_status = 429


class RateLimited(RequestError):
    """The caller is over one or more policies of the rate limiter; nothing was taken.

    ``retry_after_ms`` is when the same may be allowed, None for never (it costs more than a
    policy ever allows at once). ``violated`` are the names of the policies that denied it.
    """

    code = 429
    temporary = True
    http_status = 429

    def __init__(
        self,
        message: str,
        *,
        retry_after_ms: int | None = None,
        violated: tuple[str, ...] = (),
        fields: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        self.violated = violated
        self._fields = fields or {}

    @property
    def problem_type(self) -> str:
        """The type of draft-ietf-httpapi-ratelimit-headers-10, section 6.1."""
        return "https://iana.org/assignments/http-problem-types#quota-exceeded"

    @property
    def details(self) -> dict[str, object]:
        """Which policies denied it, and when to come back."""
        details: dict[str, object] = {"violated-policies": list(self.violated)}
        if self.retry_after_ms is not None:
            details["retry_after_ms"] = self.retry_after_ms
        return details

    @property
    def headers(self) -> dict[str, str]:
        """``RateLimit`` and ``RateLimit-Policy``, and ``Retry-After`` in whole seconds."""
        headers = dict(self._fields)
        if self.retry_after_ms is not None:
            headers["Retry-After"] = str(max(1, -(-self.retry_after_ms // 1000)))
        return headers


class OverBudget(RequestError):
    """A budget does not allow it; nothing was reserved or charged.

    ``scope`` is ``user:ID``, ``workspace:ID`` or ``org:ID``; ``unit`` is ``micro_usd`` or
    ``tokens``; amounts are integers of that unit. ``period`` is the month (``YYYY-MM``) or
    day (``YYYY-MM-DD``) of the billing time zone whose budget it is.
    """

    code = 402
    http_status = 402

    def __init__(
        self,
        message: str,
        *,
        scope: str = "",
        unit: str = "micro_usd",
        period: str = "",
        limit: int = 0,
        remaining: int = 0,
        required: int = 0,
    ) -> None:
        super().__init__(message)
        self.scope = scope
        self.unit = unit
        self.period = period
        self.limit = limit
        self.remaining = remaining
        self.required = required

    @property
    def problem_type(self) -> str:
        """A name of ours: there is no registered one."""
        return "urn:fanwire:problem:over-budget"

    @property
    def details(self) -> dict[str, object]:
        """Which budget, and what it has left."""
        return {
            "scope": self.scope,
            "unit": self.unit,
            "period": self.period,
            "limit": self.limit,
            "remaining": self.remaining,
            "required": self.required,
        }


class UnrecoverablePosition(RequestError):
    """The position asked for is no longer, or never was, in the event log."""

    code = 112
    http_status = 409


class NotFound(RequestError):
    """What the request is about does not exist, or not for this caller."""

    code = 404
    http_status = 404


class Conflict(RequestError):
    """It is not in a state in which this can be done."""

    code = 409
    http_status = 409


class VersionConflict(Conflict):
    """It is not at the version that the caller expected; ``current`` is where it is, if known."""

    code = 412
    http_status = 412

    def __init__(self, message: str, current: int = 0) -> None:
        super().__init__(message)
        self.current = current

    @property
    def details(self) -> dict[str, object]:
        """The version there is."""
        return {"current_version": self.current} if self.current else {}


class StoreError(FanwireError):
    """Redis could not do what was asked."""

    temporary = True
    http_status = 503

    @property
    def public_message(self) -> str:
        """Say whether it may have happened."""
        return "the hub cannot reach its store; try again soon"


class StoreUnavailable(StoreError):
    """The command was certainly not executed: it is safe to send it again."""


class OutcomeUnknown(StoreError):
    """The command was sent and no reply came: it may or may not have been executed.

    Only a read, or a script that carries an idempotency key, may be sent again.
    """

    @property
    def public_message(self) -> str:
        """Say whether it may have happened."""
        return "the hub's store did not answer in time; what was asked may have been done"


class StoreRefused(StoreError):
    """The server answered with an error, so the command had no effect.

    ``prefix`` is the first word of the server's message, such as ``OOM``, ``MISCONF``,
    ``READONLY``, ``WRONGTYPE`` or ``ERR``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.prefix = message.split(" ", 1)[0]

    @property
    def public_message(self) -> str:
        """Say why not, in the server's word for it."""
        return f"the hub's store refused it ({self.prefix}); nothing was done"


class DatabaseUnavailable(FanwireError):
    """SQL could not be done: the database was not reached, or broke off.

    A transaction that was being committed then may stand; one that only read changed nothing.
    """

    temporary = True
    http_status = 503

    @property
    def public_message(self) -> str:
        """Say no more than that."""
        return "the hub cannot reach its database; try again soon"


class LoadFailed(FanwireError):
    """A value that is cached could not be loaded from its source, a moment ago or elsewhere."""

    temporary = True
    http_status = 503

    @property
    def public_message(self) -> str:
        """Say no more than that."""
        return "the source of what was asked for fails; try again soon"


class HubError(FanwireError):
    """A client could not do what was asked of the hub."""

    temporary = True
    http_status = 503


class HubUnavailable(HubError):
    """The hub was not reached: the request was certainly not executed."""


class HubOutcomeUnknown(HubError):
    """The request was sent and no answer came: it may or may not have been executed."""


class SettingsError(FanwireError):
    """A setting is unknown or has a wrong value; the process must not start."""


class UsageError(FanwireError, RuntimeError):
    """The API was used in the wrong order: a bug in the calling code."""


_BY_CODE: dict[int, type[RequestError]] = {
    kind.code: kind
    for kind in (
        Unauthorized,
        UnknownChannel,
        PermissionDenied,
        MethodNotFound,
        AlreadySubscribed,
        LimitExceeded,
        BadRequest,
        NotAvailable,
        TokenExpired,
        TooManyRequests,
        OverBudget,
        UnrecoverablePosition,
        NotFound,
        Conflict,
        VersionConflict,
        RateLimited,
    )
}


def error_from_code(code: int, message: str) -> FanwireError:
    """Return the error that a reply with ``code`` stands for (clients read replies with it)."""
    kind = _BY_CODE.get(code)
    return kind(message) if kind is not None else HubError(f"{message} (code {code})")


class Disconnect(NamedTuple):
    """Why the hub ends a connection.

    ``code`` is the WebSocket close code (streams without close codes carry it in a last
    message). Clients come back by themselves unless it lies in 3500-3999 or 4500-4999.
    ``reason`` is shorter than 124 bytes, the room a close frame has for it.
    """

    code: int
    reason: str

    @property
    def reconnect(self) -> bool:
        """Whether the client should come back by itself."""
        return not (3500 <= self.code <= 3999 or 4500 <= self.code <= 4999)


class UnsubscribeCode:
    """Codes of the ``unsubscribe`` push. From 2500 up the client subscribes again."""

    SERVER = 2000
    #: The hub cannot prove that nothing was missed; the client recovers from its position.
    INSUFFICIENT_STATE = 2500
    EXPIRED = 2501


class Disconnects:
    """The disconnects the hub sends."""

    #: The client went away by itself; never sent.
    CLOSED = Disconnect(3000, "connection closed")
    SHUTDOWN = Disconnect(3001, "shutdown")
    SERVER_ERROR = Disconnect(3004, "internal server error")
    EXPIRED = Disconnect(3005, "token expired")
    SLOW = Disconnect(3008, "slow consumer")
    INSUFFICIENT_STATE = Disconnect(3010, "insufficient state")
    #: Its login session has a new secret: the client comes back with that.
    SESSION_ROTATED = Disconnect(3011, "session rotated")
    NO_PONG = Disconnect(3012, "no pong")
    TOO_MANY_REQUESTS = Disconnect(3013, "too many requests")
    INVALID_TOKEN = Disconnect(3500, "invalid token")
    BAD_REQUEST = Disconnect(3501, "bad request")
    #: No successful connect command in time.
    STALE = Disconnect(3502, "stale")
    SESSION_REVOKED = Disconnect(3503, "session revoked")
    CONNECTION_LIMIT = Disconnect(3504, "connection limit")
    CHANNEL_LIMIT = Disconnect(3505, "channel limit")
    INAPPROPRIATE_PROTOCOL = Disconnect(3506, "inappropriate protocol")
    PERMISSION_DENIED = Disconnect(3507, "permission denied")
