"""The requests and results of the server API, in Centrifugo's shape.

Field names are theirs. Unknown fields are tolerated, because their clients send more than
this hub knows.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from channels.position import MAX_OFFSET
from channels.wire import ErrorReply, HistoryResult, StreamPosition

__all__ = [
    "BatchRequest",
    "BatchResult",
    "BroadcastRequest",
    "BroadcastResult",
    "ChannelInfo",
    "ChannelsRequest",
    "ChannelsResult",
    "Empty",
    "HistoryRemoveRequest",
    "HistoryRequest",
    "HistoryResult",
    "InfoRequest",
    "InfoResult",
    "Node",
    "Outcome",
    "PublishRequest",
    "PublishResult",
    "Publishing",
]

#: Bounds of one request; its body is bounded anyway, but its work should be too.
_MAX_CHANNELS = 1_000
_MAX_COMMANDS = 1_000

_Key = Annotated[str, Meta(min_length=1, max_length=256)]
_Tags = Annotated[
    dict[Annotated[str, Meta(max_length=128)], Annotated[str, Meta(max_length=1024)]],
    Meta(max_length=64),
]


class Publishing(msgspec.Struct, frozen=True, kw_only=True):
    """What is published: ``data`` is any JSON, ``b64data`` the same in base64.

    ``idempotency_key`` makes it safe to send the request again, for five minutes.
    ``conflate`` is a conflation key (an addition of ours): a reader that is behind may get
    only the newest publication with this key. Where a channel carries typed events, the
    types decide and it is refused.
    ``skip_history`` is not offered: what is not in the log could be lost without a trace.
    """

    # Not Raw | None: msgspec accepts nothing but null for that.
    data: Raw | UnsetType = UNSET
    b64data: str | None = None
    tags: _Tags | None = None
    idempotency_key: _Key | None = None
    conflate: str | None = None
    skip_history: bool = False


class PublishRequest(Publishing, frozen=True, kw_only=True):
    """Publish to one channel."""

    channel: str


class BroadcastRequest(Publishing, frozen=True, kw_only=True):
    """Publish the same to many channels; each has an outcome of its own."""

    channels: Annotated[list[str], Meta(min_length=1, max_length=_MAX_CHANNELS)]


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``limit`` 0 asks for the position only, -1 for everything there is."""

    channel: str
    limit: Annotated[int, Meta(ge=-1, le=MAX_OFFSET)] = 0
    since: StreamPosition | None = None
    reverse: bool = False


class HistoryRemoveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Forget a channel's publications."""

    channel: str


class ChannelsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``pattern`` is a glob."""

    pattern: Annotated[str, Meta(max_length=255)] = ""


class InfoRequest(msgspec.Struct, frozen=True):
    """Ask how the nodes are."""


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Commands, each ``{"method": {...}}``; one after the other unless ``parallel``."""

    commands: Annotated[list[dict[str, Raw]], Meta(max_length=_MAX_COMMANDS)]
    parallel: bool = False


class Empty(msgspec.Struct, frozen=True):
    """A result that says nothing."""


class PublishResult(msgspec.Struct, frozen=True):
    """Where the publication stands."""

    offset: int
    epoch: str


class ChannelInfo(msgspec.Struct, frozen=True):
    """Subscribers of one channel, on all nodes."""

    num_clients: int = 0


class ChannelsResult(msgspec.Struct, frozen=True):
    """Channels that have subscribers or a log."""

    channels: dict[str, ChannelInfo]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node, as it told within the last seconds."""

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_subs: int
    num_channels: int
    uptime: int


class InfoResult(msgspec.Struct, frozen=True):
    """All nodes that live."""

    nodes: list[Node]


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one command: ``result`` or ``error``."""

    error: ErrorReply | None = None
    result: object = None


class BroadcastResult(msgspec.Struct, frozen=True):
    """One outcome for each channel, in the order asked."""

    responses: list[Outcome]


class BatchResult(msgspec.Struct, frozen=True):
    """One reply for each command: ``{"method": result}`` or ``{"error": {...}}``."""

    replies: list[dict[str, object]]
