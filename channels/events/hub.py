"""What a hub node tells about itself: for dashboards, never for delivery."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from ..event import Event
from ..ids import Id

__all__ = ["ChannelActivity", "NodeReport", "NodeReported"]

_Count = Annotated[int, Meta(ge=0)]


class ChannelActivity(msgspec.Struct, frozen=True, kw_only=True):
    """One channel: its subscribers on this node, and its publications so far on all nodes.

    ``publications`` is the offset of the last one.
    """

    subscribers: _Count = 0
    publications: _Count = 0


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one node. Counters count from the node's start; rates are the reader's.

    ``channels`` holds the busiest channels only, so that a report stays small.
    """

    node: Id
    name: str = ""
    version: str = ""
    uptime_s: Annotated[float, Meta(ge=0)] = 0
    clients: _Count = 0
    users: _Count = 0
    subscriptions: _Count = 0
    rooms: _Count = 0
    publications: _Count = 0
    deliveries: _Count = 0
    channels: dict[str, ChannelActivity] = {}


class NodeReported(Event, frozen=True, kw_only=True, tag="hub.node.reported"):
    """A node told how it is, every few seconds."""

    # A whole report each time; its counters count from the node's start.
    conflate_by: ClassVar[str] = "node"

    data: NodeReport
