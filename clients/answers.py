"""The HTTP API as bytes: what is sent to the hub, and reading what it answers.

The shapes are those of Centrifugo's server API. Answers come from outside, so nothing here
trusts them: whatever is not understood becomes an error that says what came.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from channels import FanwireError, Position
from channels.errors import (
    BadRequest,
    HubOutcomeUnknown,
    LimitExceeded,
    MethodNotFound,
    PermissionDenied,
    RequestError,
    TooManyRequests,
    Unauthorized,
    error_from_code,
)

__all__ = [
    "At",
    "Batch",
    "BatchAnswer",
    "BatchCommand",
    "Broadcast",
    "Channels",
    "Publish",
    "Response",
    "Responses",
    "check_count",
    "describe",
    "excerpt",
    "is_temporary",
    "is_temporary_reply",
    "outcome",
    "read",
    "refusal",
    "retry_after_s",
]

T = TypeVar("T")


class Publish(msgspec.Struct):
    """One value for one channel."""

    channel: str
    data: Raw
    idempotency_key: str
    conflate: str | UnsetType = UNSET


class Broadcast(msgspec.Struct):
    """One value for several channels."""

    channels: list[str]
    data: Raw
    idempotency_key: str
    conflate: str | UnsetType = UNSET


class BatchCommand(msgspec.Struct):
    """One of the commands of a batch."""

    publish: Publish


class Batch(msgspec.Struct):
    """Several commands in one request."""

    commands: list[BatchCommand]


class At(msgspec.Struct):
    """Where a publication went; zero on a channel that keeps no history."""

    offset: int = 0
    epoch: str = ""

    @property
    def position(self) -> Position:
        """The same as a position."""
        return Position(self.epoch, self.offset)


class _Error(msgspec.Struct):
    code: int = 100
    message: str = ""


class Response(msgspec.Struct):
    """What answers a single method: a result or an error."""

    result: Raw | UnsetType = UNSET
    error: _Error | None = None


class _PositionResponse(msgspec.Struct):
    result: At | None = None
    error: _Error | None = None


class Responses(msgspec.Struct):
    """The result of a broadcast: one response a channel."""

    responses: list[_PositionResponse]


class _BatchReply(msgspec.Struct):
    publish: At | None = None
    error: _Error | None = None


class _Replies(msgspec.Struct):
    replies: list[_BatchReply] | None = None


class BatchAnswer(msgspec.Struct):
    """What answers a batch: one reply a command, bare or as the result of the method."""

    replies: list[_BatchReply] | None = None
    result: _Replies | None = None

    @property
    def all(self) -> list[_BatchReply] | None:
        """The replies in either form; None when there are none."""
        return self.replies if self.result is None else self.result.replies


class _ChannelInfo(msgspec.Struct):
    num_clients: int = 0


class Channels(msgspec.Struct):
    """The active channels, by name."""

    channels: dict[str, _ChannelInfo] = {}


def is_temporary(code: int) -> bool:
    """Whether an error in an answer may go away by itself: internal (100), too many (111)."""
    return code in {100, TooManyRequests.code}


def outcome(at: At | None, error: _Error | None) -> Position | FanwireError:
    """Return what one reply says: where the publication went, or why it did not."""
    if at is not None:
        return at.position
    if error is None:
        return HubOutcomeUnknown("expected a position or an error from the hub; got neither")
    return error_from_code(error.code, error.message)


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds in a ``Retry-After`` header; dates and nonsense count as absent."""
    if value is None:
        return None
    text = value.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def is_temporary_reply(reply: _BatchReply) -> bool:
    """Whether the reply is an error that may go away by itself."""
    return reply.publish is None and reply.error is not None and is_temporary(reply.error.code)


def check_count(sent: int, came: int) -> None:
    """Refuse an answer that does not say what became of each command."""
    if sent != came:
        raise HubOutcomeUnknown(f"expected {sent} answers from the hub; got {came}")


def read(body: bytes, kind: type[T]) -> T:
    """Return ``body`` as what it should be.

    Raises:
        HubOutcomeUnknown: it is something else.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    # Bad UTF-8 and too deep nesting are not DecodeErrors.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubOutcomeUnknown(
            f"expected the hub's JSON answer ({error}); got {excerpt(body)}"
        ) from None


def excerpt(body: bytes) -> str:
    """Return the beginning of an answer for a message."""
    text = repr(body[:80].decode("utf-8", "replace"))
    return f"{text}... ({len(body)} bytes)" if len(body) > 80 else text


def _error_in(body: bytes) -> _Error | None:
    try:
        return msgspec.json.decode(body, type=Response).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def describe(status: int, body: bytes) -> str:
    """Return one phrase that says what the hub answered."""
    error = _error_in(body)
    return f"status {status}: {error.message}" if error is not None else f"status {status}"


_BY_STATUS: dict[int, type[RequestError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: PermissionDenied,
    404: MethodNotFound,
    405: MethodNotFound,
    413: LimitExceeded,
}


def refusal(status: int, body: bytes) -> FanwireError:
    """Return the error that an answer other than 200 stands for."""
    error = _error_in(body)
    kind = _BY_STATUS.get(status)
    if kind is None:
        what = error.message if error is not None else excerpt(body)
        return HubOutcomeUnknown(f"expected status 200 from the hub; got {status}: {what}")
    if error is not None:
        named = error_from_code(error.code, error.message)
        return named if isinstance(named, RequestError) else kind(error.message)
    return kind(f"expected status 200 from the hub; got {status}: {excerpt(body)}")
