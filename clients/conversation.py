"""One subscriber's side of the Centrifugal protocol, without I/O.

A :class:`Conversation` outlives its connections: it remembers which channels are followed
and how far each was read, so that after a cut it asks exactly for what came since. What it
hands out is in order, without duplicates, and every possible loss is a :class:`Gap`.

The owner connects, sends what :meth:`Conversation.take_outgoing` returns, and gives every
frame to :meth:`Conversation.receive`.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from channels import Catalogue, FanwireError, Position, check_channel
from channels.errors import (
    BadRequest,
    Disconnect,
    HubError,
    LimitExceeded,
    NotAvailable,
    PermissionDenied,
    TokenExpired,
    Unauthorized,
    UsageError,
    error_from_code,
)
from channels.position import MAX_OFFSET

from .delivery import Delivery, Gap, Snapshot

__all__ = ["Connected", "Conversation", "Ended", "Happening", "Joined", "Over", "Reply"]

_encode = msgspec.json.Encoder().encode

#: How long the hub may take to answer the connect command.
_CONNECT_S = 10.0
#: How much later than announced a ping may come before the connection counts as dead.
_PING_GRACE_S = 10.0
#: The largest snapshot that is taken; far below the longest frame that a subscriber reads.
_SNAPSHOT_BYTES = 64 * 1024 * 1024


class Connected(NamedTuple):
    """The hub accepted the connection."""


class Joined(NamedTuple):
    """The channel is followed: whatever is published from now on arrives."""

    channel: str


class Ended(NamedTuple):
    """The channel is no longer followed, and asking again would not help."""

    channel: str
    error: FanwireError


class Over(NamedTuple):
    """The connection is over. ``reconnect`` says whether a new one may help."""

    error: FanwireError
    reconnect: bool


class Reply(NamedTuple):
    """The answer to :meth:`Conversation.ask`: the result, or the error."""

    id: int
    result: bytes
    error: FanwireError | None


Happening: TypeAlias = Delivery | Gap | Snapshot | Connected | Joined | Ended | Over | Reply

_Offset = Annotated[int, Meta(ge=0, le=MAX_OFFSET)]


class _Error(msgspec.Struct):
    code: int = 100
    message: str = ""
    temporary: bool = False


class _Connect(msgspec.Struct):
    ping: int = 0
    pong: bool = False


class _Pub(msgspec.Struct):
    data: Raw
    offset: _Offset = 0
    skipped: _Offset = 0


class _Subscribe(msgspec.Struct):
    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: _Offset = 0
    publications: list[_Pub] = []
    recovered: bool = False
    data: Raw | UnsetType = UNSET


class _Position(msgspec.Struct):
    epoch: str
    offset: _Offset


class _Told(msgspec.Struct):
    snapshot: Raw
    position: _Position


class _Leaving(msgspec.Struct):
    code: int = 0
    reason: str = ""


class _Push(msgspec.Struct):
    channel: str = ""
    pub: _Pub | None = None
    unsubscribe: _Leaving | None = None
    disconnect: _Leaving | None = None


class _Incoming(msgspec.Struct):
    id: int = 0
    error: _Error | None = None
    connect: _Connect | None = None
    subscribe: _Subscribe | None = None
    history: Raw | UnsetType = UNSET
    push: _Push | None = None


_decode = msgspec.json.Decoder(_Incoming).decode
_decode_told = msgspec.json.Decoder(_Told).decode


class _Following:
    """A followed channel. ``position`` is the last publication handed out, once known."""

    __slots__ = ("channel", "joined", "met", "position", "snapshot")

    def __init__(self, channel: str, position: Position | None, *, snapshot: bool) -> None:
        self.channel = channel
        self.position = position
        #: Whether the state behind the channel is wanted where it cannot go on from a position.
        self.snapshot = snapshot
        #: Whether the hub sends publications now.
        self.joined = False
        #: Whether it ever did.
        self.met = False


class Conversation:
    """What is said to the hub and understood from it."""

    def __init__(self, catalogue: Catalogue, *, name: str = "fanwire-python") -> None:
        self._catalogue = catalogue
        self._name = name
        self._followed: dict[str, _Following] = {}
        self._outgoing: list[bytes] = []
        self._next_id = 0
        #: What is being waited for: None for the connect reply and for :meth:`ask`.
        self._asked: dict[int, _Following | None] = {}
        self._connect_id = 0
        self._pong = False
        self.connected = False
        #: Longest silence in seconds that a live hub can fall into; None when it sends no pings.
        self.silence_s: float | None = None

    @property
    def settled(self) -> bool:
        """Whether every followed channel is joined."""
        return self.connected and all(each.joined for each in self._followed.values())

    def start(self, token: str = "") -> None:
        """Begin to talk over a new connection."""
        self.stop()
        self.silence_s = _CONNECT_S
        self._connect_id = self._ask({"connect": {"token": token, "name": self._name}}, None)

    def stop(self) -> None:
        """Forget the connection; positions stay."""
        self.connected = False
        self.silence_s = None
        self._connect_id = 0
        self._outgoing.clear()
        self._asked.clear()
        for following in self._followed.values():
            following.joined = False

    def follow(
        self, channel: str, since: Position | None = None, *, snapshot: bool = False
    ) -> None:
        """Follow ``channel`` from now on, or from the publication after ``since``.

        With ``snapshot`` it begins with the state behind the channel, where it does not begin
        after ``since``, and has it after each gap.

        Raises:
            BadRequest: no channel can be called so.
            UsageError: it is followed already; the protocol knows one subscription a
                channel and connection.
        """
        if check_channel(channel) in self._followed:
            raise UsageError(f"channel {channel!r} is followed already; use another Subscriber")
        following = _Following(channel, since, snapshot=snapshot)
        self._followed[channel] = following
        if self.connected:
            self._subscribe(following)

    def leave(self, channel: str) -> None:
        """Stop following ``channel``; unknown channels are ignored."""
        if self._followed.pop(channel, None) is not None and self.connected:
            self._ask({"unsubscribe": {"channel": channel}}, None)

    def ask(self, method: str, params: dict[str, object]) -> int:
        """Send a command of the caller's own; its :class:`Reply` carries the returned id."""
        return self._ask({method: params}, None)

    def take_outgoing(self) -> bytes:
        """Return what is to be sent as one text frame, empty when there is nothing."""
        frame = b"\n".join(self._outgoing)
        self._outgoing.clear()
        return frame

    def receive(self, frame: bytes) -> list[Happening]:
        """Return what a frame says. After :class:`Over`, the rest of it is not read."""
        happenings: list[Happening] = []
        for line in frame.split(b"\n"):
            if not line:
                continue
            try:
                incoming = _decode(line)
            # Bad UTF-8 and too deep nesting are not DecodeErrors.
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                happenings.append(Over(_not_protocol(line, error), reconnect=True))
                break
            happenings += self._understand(incoming)
            if happenings and isinstance(happenings[-1], Over):
                break
        return happenings

    def closed(self, code: int, reason: str) -> Over:
        """Return what the end of the connection with this close code means."""
        # 1009 is ours or the hub's "message too big", and would come again.
        terminal = code == 1009 or not Disconnect(code, reason).reconnect
        what = f"the hub closed the connection: {reason or 'no reason given'} (code {code})"
        return Over(_BY_CLOSE_CODE.get(code, HubError)(what), reconnect=not terminal)

    def _ask(self, command: dict[str, object], following: _Following | None) -> int:
        self._next_id += 1
        self._asked[self._next_id] = following
        self._outgoing.append(_encode({"id": self._next_id, **command}))
        return self._next_id

    def _subscribe(self, following: _Following) -> None:
        request: dict[str, object] = {
            "channel": following.channel,
            "positioned": True,
            "recoverable": True,
        }
        if following.position is not None:
            request["recover"] = True
            request["epoch"] = following.position.epoch
            request["offset"] = following.position.offset
        if following.snapshot:
            request["data"] = {"snapshot": "gap", "snapshot_bytes": _SNAPSHOT_BYTES}
        self._ask({"subscribe": request}, following)

    def _understand(self, incoming: _Incoming) -> list[Happening]:
        if incoming.push is not None:
            return self._pushed(incoming.push)
        if incoming.id == 0:
            if self._pong:
                self._outgoing.append(b"{}")
            return []
        if incoming.id not in self._asked:
            return []
        following = self._asked.pop(incoming.id)
        if incoming.id == self._connect_id:
            return self._answered_connect(incoming)
        if following is not None:
            return self._answered_subscribe(following, incoming)
        error = None if incoming.error is None else _named(incoming.error)
        result = b"{}" if incoming.history is UNSET else bytes(incoming.history)
        return [Reply(incoming.id, result, error)]

    def _answered_connect(self, incoming: _Incoming) -> list[Happening]:
        if incoming.connect is None:
            return [_refused(incoming.error or _Error(message="the hub answered no connect"))]
        self.connected = True
        self._pong = incoming.connect.pong
        ping_s = incoming.connect.ping
        self.silence_s = ping_s + _PING_GRACE_S if ping_s > 0 else None
        for following in self._followed.values():
            self._subscribe(following)
        return [Connected()]

    def _answered_subscribe(self, following: _Following, incoming: _Incoming) -> list[Happening]:
        if self._followed.get(following.channel) is not following:
            return []
        if incoming.subscribe is None:
            over = _refused(incoming.error or _Error(message="the hub answered no subscribe"))
            if over.reconnect:
                return [over]
            del self._followed[following.channel]
            return [Ended(following.channel, over.error)]
        return self._joined(following, incoming.subscribe)

    def _joined(self, following: _Following, result: _Subscribe) -> list[Happening]:
        going_on = following.position is not None and result.recovered
        snapshot: Snapshot | None = None
        if following.snapshot and not going_on:
            try:
                snapshot = _snapshot_in(following.channel, result)
            except FanwireError as error:
                self.leave(following.channel)
                return [Ended(following.channel, error)]
        happenings: list[Happening] = [Joined(following.channel)]
        after, top = following.position, Position(result.epoch, result.offset)
        keeps_history = result.recoverable or result.positioned
        if after is not None and result.recovered:
            following.position = Position(result.epoch, after.offset)
        else:
            following.position = top if keeps_history else None
            if after is not None or following.met:
                happenings.append(Gap(following.channel, after, top))
            if snapshot is not None:
                happenings.append(snapshot)
        following.joined = following.met = True
        for pub in result.publications:
            happenings += self._published(following, pub)
        return happenings

    def _pushed(self, push: _Push) -> list[Happening]:
        if push.disconnect is not None:
            return [self.closed(push.disconnect.code, push.disconnect.reason)]
        following = self._followed.get(push.channel)
        if following is None or not following.joined:
            # For a subscription that was left, or before the reply that says where it begins.
            return []
        if push.pub is not None:
            return self._published(following, push.pub)
        if push.unsubscribe is not None:
            return self._unsubscribed(following, push.unsubscribe)
        return []

    def _published(self, following: _Following, pub: _Pub) -> list[Happening]:
        position = following.position
        if position is None:
            position = Position("", pub.offset)
        else:
            if pub.offset <= position.offset:
                return []
            # What was superseded is told, so that any other jump is a loss.
            expected = position.offset + 1 + pub.skipped
            if pub.offset != expected:
                told = f" after {pub.skipped} skipped" if pub.skipped else ""
                message = (
                    f"expected offset {expected}{told} on {following.channel!r}; got {pub.offset}"
                )
                return [Over(HubError(message), reconnect=True)]
            position = following.position = Position(position.epoch, pub.offset)
        raw = bytes(pub.data)
        return [Delivery(following.channel, position, raw, self._catalogue, skipped=pub.skipped)]

    def _unsubscribed(self, following: _Following, leaving: _Leaving) -> list[Happening]:
        following.joined = False
        if leaving.code >= 2500:
            self._subscribe(following)
            return []
        del self._followed[following.channel]
        message = (
            f"the hub ended the subscription to {following.channel!r}: "
            f"{leaving.reason or 'no reason given'} (code {leaving.code})"
        )
        return [Ended(following.channel, PermissionDenied(message))]


#: Which error a final close code stands for; the others are HubErrors.
_BY_CLOSE_CODE: dict[int, type[FanwireError]] = {
    1009: LimitExceeded,
    3005: TokenExpired,
    3500: Unauthorized,
    3501: BadRequest,
    3503: Unauthorized,
    3504: LimitExceeded,
    3505: LimitExceeded,
    3506: BadRequest,
    3507: PermissionDenied,
    3508: NotAvailable,
}


def _named(error: _Error) -> FanwireError:
    return error_from_code(error.code, error.message)


def _refused(error: _Error) -> Over:
    """Return what an error reply to connect or subscribe means."""
    named = _named(error)
    again = error.temporary or error.code < 100 or isinstance(named, TokenExpired)
    return Over(named, reconnect=again)


def _snapshot_in(channel: str, result: _Subscribe) -> Snapshot:
    """Return the snapshot that was asked for.

    Raises:
        NotAvailable: the hub does not know what a snapshot is.
        HubError: what came is none, or another than where the subscription begins.
    """
    if result.data is UNSET:
        raise NotAvailable(f"expected a snapshot of {channel!r}; the hub sent none")
    try:
        told = _decode_told(result.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubError(f"expected a snapshot of {channel!r} ({error})") from None
    position = Position(told.position.epoch, told.position.offset)
    if position != Position(result.epoch, result.offset):
        raise HubError(
            f"expected the snapshot of {channel!r} at {result.epoch}:{result.offset}; "
            f"got one at {position.epoch}:{position.offset}"
        )
    return Snapshot(channel, position, bytes(told.snapshot))


def _not_protocol(line: bytes, error: Exception) -> HubError:
    return HubError(f"expected a reply of the Centrifugal protocol ({error}); got {line[:80]!r}")
