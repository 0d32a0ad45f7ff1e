"""The Centrifugal client protocol, version 2, JSON: commands in, replies and pushes out.

A text frame holds one or more JSON objects separated by newlines. A command has an ``id``
(from 1) and exactly one method; ``{}`` is a pong. A reply repeats the ``id``; an object
without one is a push, and ``{}`` from the server is a ping. Zero values are left out.

The schema is Centrifugal's (``client.proto``); field names are theirs. Unknown fields of a
command are tolerated, because newer clients send more than this hub knows.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from .errors import BadRequest, FanwireError
from .position import MAX_OFFSET

__all__ = [
    "FLAG_REJECT_UNRECOVERED",
    "PING",
    "Command",
    "ConnectRequest",
    "ConnectResult",
    "DisconnectPush",
    "Empty",
    "ErrorReply",
    "HistoryRequest",
    "HistoryResult",
    "PublishRequest",
    "Push",
    "PushReply",
    "RefreshRequest",
    "RefreshResult",
    "Reply",
    "StreamPosition",
    "SubscribeRequest",
    "SubscribeResult",
    "UnsubscribePush",
    "UnsubscribeRequest",
    "Wishes",
    "decode_commands",
    "encode",
]

_Offset = Annotated[int, Meta(ge=0, le=MAX_OFFSET)]
_Id = Annotated[int, Meta(ge=0, le=2**32 - 1)]

#: Subscribe flag: answer error 112 instead of ``recovered: false``.
FLAG_REJECT_UNRECOVERED = 2

#: The server's ping; a client answers with the same bytes.
PING = b"{}"


class StreamPosition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A position as the protocol spells it."""

    offset: _Offset = 0
    epoch: str = ""


class ConnectRequest(msgspec.Struct, frozen=True):
    """Prove who it is. Fields that the hub has no use for (``data``, ``subs``) are not read."""

    token: str = ""
    name: Annotated[str, Meta(max_length=64)] = ""
    version: Annotated[str, Meta(max_length=64)] = ""


class SubscribeRequest(msgspec.Struct, frozen=True):
    """``recover`` asks for what came after ``(epoch, offset)``, ``data`` for a snapshot."""

    channel: str
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: _Offset = 0
    positioned: bool = False
    recoverable: bool = False
    flag: int = 0
    data: Raw | UnsetType = UNSET

    @property
    def wishes(self) -> Wishes:
        """What the client wishes for in ``data``.

        Raises:
            BadRequest: it wishes for what no hub has.
        """
        if self.data is UNSET or not bytes(self.data).startswith(b"{"):
            return _NO_WISHES  # an application's own, which means nothing to the hub
        try:
            return _decode_wishes(self.data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise BadRequest(
                f'expected "snapshot" to be true, false or "gap", and "snapshot_bytes" to be a '
                f"number; {error}"
            ) from None


class Wishes(msgspec.Struct, frozen=True):
    """What a client wishes for when it subscribes: the state behind the channel.

    ``snapshot`` is true, or "gap" for a client that needs it only where it cannot go on from
    its position; ``snapshot_bytes`` how large one it takes, 0 for what all official clients do.
    """

    snapshot: bool | Literal["gap"] = False
    snapshot_bytes: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


_NO_WISHES = Wishes()
_decode_wishes = msgspec.json.Decoder(Wishes).decode


class UnsubscribeRequest(msgspec.Struct, frozen=True):
    """Leave a channel."""

    channel: str


class PublishRequest(msgspec.Struct, frozen=True):
    """Publish ``data``, any JSON, to a channel."""

    channel: str
    data: Raw


class HistoryRequest(msgspec.Struct, frozen=True):
    """``limit`` 0 asks for the position only, -1 for everything there is."""

    channel: str
    limit: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = 0
    since: StreamPosition | None = None
    reverse: bool = False


class RefreshRequest(msgspec.Struct, frozen=True):
    """Go on with a new token of the same user."""

    token: str


class Empty(msgspec.Struct, frozen=True):
    """A request or result without fields (or whose fields nobody reads)."""


class Command(msgspec.Struct, frozen=True):
    """One command: an id and one method; every method that was not given is None.

    That there is exactly one is for the connection to judge: it knows which it serves.
    """

    id: _Id = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    history: HistoryRequest | None = None
    # Not Raw | None: msgspec accepts nothing but null for that.
    presence: Empty | None = None
    presence_stats: Empty | None = None
    rpc: Empty | None = None
    send: Empty | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: Empty | None = None
    ping: Empty | None = None


_command_decoder = msgspec.json.Decoder(Command)


def decode_commands(frame: str | bytes) -> list[Command]:
    """Return the commands of a frame, in order; one without id and method is a pong.

    A frame of nothing but whitespace has none. The ``data`` of a publish command is checked
    for its structure only: :func:`~channels.publication.check_json` does the rest.

    Raises:
        BadRequest: a line is not a command.
    """
    commands = []
    for line in frame.split("\n" if isinstance(frame, str) else b"\n"):  # type: ignore[arg-type]
        text = line.strip()
        if not text:
            continue
        try:
            command = _command_decoder.decode(text)
        # Bad UTF-8 and too deep nesting are not DecodeErrors.
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise BadRequest(f"expected a command of the Centrifugal protocol; {error}") from None
        commands.append(command)
    return commands


class ConnectResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """``ping`` and ``ttl`` are seconds; ``pong`` asks the client to answer pings."""

    client: str
    version: str
    expires: bool = False
    ttl: int = 0
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""


class SubscribeResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """``offset`` is where the publications that follow begin.

    After a recovery it repeats the position asked for, and ``publications`` come after it.
    ``data`` is ``{"snapshot":...,"position":{...}}`` where one was asked for.
    """

    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    publications: list[Raw] = []
    recovered: bool = False
    was_recovering: bool = False
    data: Raw | UnsetType = UNSET


class HistoryResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """``offset`` and ``epoch`` are the top of the log."""

    publications: list[Raw] = []
    offset: int = 0
    epoch: str = ""


class RefreshResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """``ttl`` is the seconds until the next refresh."""

    client: str
    version: str
    expires: bool = False
    ttl: int = 0


class ErrorReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a command failed; ``temporary`` means: try again later."""

    code: int
    message: str
    temporary: bool = False

    @classmethod
    def of(cls, error: FanwireError) -> ErrorReply:
        """Return the reply that tells ``error``."""
        return cls(error.code, error.public_message, error.temporary)


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one command; exactly one of the results, or ``error``."""

    id: int
    error: ErrorReply | UnsetType = UNSET
    connect: ConnectResult | UnsetType = UNSET
    subscribe: SubscribeResult | UnsetType = UNSET
    unsubscribe: Empty | UnsetType = UNSET
    publish: Empty | UnsetType = UNSET
    history: HistoryResult | UnsetType = UNSET
    refresh: RefreshResult | UnsetType = UNSET


class UnsubscribePush(msgspec.Struct, frozen=True):
    """The hub ended a subscription; codes from 2500 up ask the client to subscribe again."""

    code: int
    reason: str


class DisconnectPush(msgspec.Struct, frozen=True):
    """The hub ends the connection (for transports without close codes)."""

    code: int
    reason: str


class Push(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something the client did not ask for."""

    channel: str = ""
    unsubscribe: UnsubscribePush | UnsetType = UNSET
    disconnect: DisconnectPush | UnsetType = UNSET


class PushReply(msgspec.Struct, frozen=True):
    """A push in its frame."""

    push: Push


_encode = msgspec.json.Encoder().encode


def encode(message: Reply | PushReply) -> bytes:
    """Return a message as one line of JSON."""
    return _encode(message)
