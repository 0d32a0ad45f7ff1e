"""One client of the bidirectional protocol, as a state machine: frames in, effects out.

Knows the Centrifugal protocol and nothing of sockets, tasks or Redis. Whoever drives it
feeds it frames and carries out the effects it returns, in order. The last effect may ask
for something: the driver answers it, carries out what the answer brings, and then lets the
connection ``proceed``. So commands are taken strictly one after the other; those that came
in the same frame wait here, and the driver reads no further frame meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw

from channels import wire
from channels.catalogue import Channel
from channels.errors import (
    AlreadySubscribed,
    BadRequest,
    Disconnect,
    Disconnects,
    FanwireError,
    LimitExceeded,
    MethodNotFound,
    NotAvailable,
    TokenExpired,
    Unauthorized,
    UnrecoverablePosition,
    UnsubscribeCode,
)
from channels.identity import ANONYMOUS, Identity
from channels.position import Position
from channels.publication import Publication, check_json
from hub.access import Access
from hub.deadlines import Deadlines, Due
from hub.effects import Close, Effect, Join, Leave, Publish, ReadHistory, Send
from hub.wish import Wish
from services.snapshots import Snapshot

__all__ = ["Connection", "ConnectionSettings"]


class ConnectionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and times of one connection."""

    #: Seconds between pings. 25 keeps common proxies, which cut at 30 or 60, content.
    ping_interval_s: float = 25.0
    #: Seconds a client may take to answer a ping.
    pong_timeout_s: float = 10.0
    #: Seconds a client may take to send its connect command.
    connect_timeout_s: float = 10.0
    #: Channels one connection may be subscribed to.
    max_channels: int = 128
    #: Publications one history command may read; at 64 KiB each that is 19 MiB.
    max_history: int = 300
    #: Commands that may wait for their turn.
    max_waiting: int = 1_024
    #: Bytes of publications inside one reply. The rest of a recovery follows as pushes, the
    #: rest of a history must be asked for. Clients have a limit for one message (1 MiB in the
    #: official Python one).
    reply_bytes: int = 256 * 1024
    #: Bytes of a snapshot, which goes into one reply beside those publications: together they
    #: stay below the limit of such clients. One that takes more says so.
    snapshot_bytes: int = 640 * 1024
    #: Seconds before its end at which the client is asked to refresh its token.
    refresh_margin_s: float = 10.0
    #: Seconds a client may take to read what waits for it once the connection is to end.
    goodbye_timeout_s: float = 3.0


class _Info(msgspec.Struct, frozen=True, omit_defaults=True):
    user: str = msgspec.field()
    client: str = msgspec.field()
    conn_info: Raw | None = None


_encode = msgspec.json.Encoder().encode
_PONG = wire.Command()
#: What a client may wish for in the data of a subscribe command.
_WISHES: dict[object, Wish] = {False: Wish.NEVER, "gap": Wish.NEEDED, True: Wish.ALWAYS}
_ID_AND_METHOD = 2


class Connection:
    """The protocol state of one client.

    ``authenticate`` turns a token into an identity, or raises ``Unauthorized`` or
    ``TokenExpired``. ``now`` is a monotonic time in seconds wherever it appears; ``wall`` is
    Unix time, which only the end of tokens is measured in.
    """

    __slots__ = (
        "_access",
        "_authenticate",
        "_awaiting",
        "_closed",
        "_connected",
        "_deadlines",
        "_settings",
        "_version",
        "_waiting",
        "channels",
        "client",
        "identity",
    )

    def __init__(
        self,
        client: str,
        *,
        access: Access,
        authenticate: Callable[[str], Identity],
        settings: ConnectionSettings,
        version: str,
        now: float,
    ) -> None:
        self.client = client
        self.identity = ANONYMOUS
        #: The channels the client is subscribed to, or is about to be.
        self.channels: dict[str, Channel] = {}
        self._access = access
        self._authenticate = authenticate
        self._settings = settings
        self._version = version
        # A list: nearly always empty, and an empty deque costs 600 bytes a connection.
        self._waiting: list[wire.Command] = []
        #: The command whose effect the driver has not answered yet.
        self._awaiting: wire.Command | None = None
        self._connected = False
        self._closed = False
        self._deadlines = Deadlines(
            connect_by=now + settings.connect_timeout_s,
            ping_interval_s=settings.ping_interval_s,
            pong_timeout_s=settings.pong_timeout_s,
        )

    @property
    def connected(self) -> bool:
        """Whether the client has proved who it is."""
        return self._connected

    # -- what the driver feeds in ----------------------------------------------------------

    def receive(self, frame: str | bytes, now: float, wall: float) -> list[Effect]:
        """Take one frame from the client."""
        if self._closed:
            return []
        try:
            commands = wire.decode_commands(frame)
        except BadRequest as error:
            return self._close_for(Disconnects.BAD_REQUEST, error)
        if not commands:
            return self._close(Disconnects.BAD_REQUEST)
        self._waiting.extend(commands)
        if len(self._waiting) > self._settings.max_waiting:
            return self._close(Disconnects.TOO_MANY_REQUESTS)
        return self.proceed(now, wall)

    def proceed(self, now: float, wall: float) -> list[Effect]:
        """Take the commands that waited for an answer."""
        effects: list[Effect] = []
        while self._waiting and self._awaiting is None and not self._closed:
            effects += self._take(self._waiting.pop(0), now, wall)
        return effects

    def joined(
        self,
        publications: list[Publication],
        position: Position,
        gap: str | None,
        snapshot: Snapshot | None = None,
    ) -> list[Effect]:
        """Answer to ``Join``: the client is in; ``publications`` are what it missed.

        ``gap`` says why it cannot go on from the position it came with; ``snapshot`` is the
        state behind the channel, where it wished for it.
        """
        command = self._answered()
        request = command.subscribe
        if request is None:
            raise AssertionError("joined answers a subscribe command")
        if self._closed:
            return [Leave(request.channel)]
        channel = self.channels[request.channel]
        refused = self._refusal(request, gap, snapshot)
        if refused is not None:
            del self.channels[request.channel]
            return [Leave(request.channel), self._error(command, refused)]
        inside, after = self._split(publications)
        recovered = request.recover and gap is None
        result = wire.SubscribeResult(
            recoverable=channel.declaration.history.size > 0,
            positioned=True,
            epoch=position.epoch,
            offset=request.offset if recovered else position.offset,
            publications=[Raw(publication.object) for publication in inside],
            recovered=recovered,
            was_recovering=request.recover,
            data=UNSET if snapshot is None else _told(snapshot),
        )
        reply = wire.encode(wire.Reply(command.id, subscribe=result))
        return [
            Send(reply, backlog=bool(inside) or snapshot is not None),
            *(Send(publication.wire, backlog=True) for publication in after),
        ]

    def _refusal(
        self, request: wire.SubscribeRequest, gap: str | None, snapshot: Snapshot | None
    ) -> FanwireError | None:
        """Return why a client that is in has to leave again, if it has."""
        if gap is not None and request.flag & wire.FLAG_REJECT_UNRECOVERED:
            return UnrecoverablePosition(f"cannot recover {request.channel!r}: {gap}")
        if snapshot is None:
            return None
        most = request.wishes.snapshot_bytes or self._settings.snapshot_bytes
        if len(snapshot.data) > most:
            return LimitExceeded(
                f"the snapshot of {request.channel!r} is {len(snapshot.data)} bytes; the client "
                f'takes {most}: a larger "snapshot_bytes" says that it takes more'
            )
        return None

    def published(self) -> list[Effect]:
        """Answer to ``Publish``: it stands."""
        command = self._answered()
        if self._closed:
            return []
        return [Send(wire.encode(wire.Reply(command.id, publish=wire.Empty())))]

    def history_read(self, publications: list[Publication], top: Position) -> list[Effect]:
        """Answer to ``ReadHistory``: as many of ``publications`` as one reply takes."""
        command = self._answered()
        request = command.history
        if request is None:
            raise AssertionError("history_read answers a history command")
        if self._closed:
            return []
        if request.since is not None and request.since.epoch not in {"", top.epoch}:
            error = UnrecoverablePosition(
                f"the history of {request.channel!r} began anew: expected a position of epoch "
                f"{top.epoch!r}, got one of {request.since.epoch!r}"
            )
            return [self._error(command, error)]
        inside, _ = self._split(publications)
        result = wire.HistoryResult(
            publications=[Raw(publication.object) for publication in inside],
            offset=top.offset,
            epoch=top.epoch,
        )
        return [Send(wire.encode(wire.Reply(command.id, history=result)), backlog=True)]

    def failed(self, error: FanwireError) -> list[Effect]:
        """Answer to any effect: it could not be done."""
        command = self._answered()
        if self._closed:
            return []
        if command.subscribe is not None:
            self.channels.pop(command.subscribe.channel, None)
        return [self._error(command, error)]

    def lost(self, channel: str) -> list[Effect]:
        """Tell the client that it missed publications of ``channel`` for good.

        It subscribes again by itself, from its position, and learns then what can be had.
        For a channel that is still being joined, the answer to ``Join`` says it.
        """
        joining = self._awaiting.subscribe if self._awaiting is not None else None
        if joining is not None and joining.channel == channel:
            return []
        if self._closed or self.channels.pop(channel, None) is None:
            return []
        push = wire.UnsubscribePush(UnsubscribeCode.INSUFFICIENT_STATE, "insufficient state")
        return [
            Leave(channel),
            Send(wire.encode(wire.PushReply(wire.Push(channel, unsubscribe=push)))),
        ]

    def tick(self, now: float, *, busy: bool = False) -> list[Effect]:
        """Do what is due at ``now``; see ``deadline``.

        ``busy`` says that the hub is at work for the client, and so has not read its pong.
        """
        if self._closed:
            return []
        match self._deadlines.due(now, busy=busy):
            case Due.EXPIRED:
                return self._close(Disconnects.EXPIRED)
            case Due.SILENT:
                return self._close(Disconnects.NO_PONG if self._connected else Disconnects.STALE)
            case Due.PING:
                return [Send(wire.PING)]
        return []

    @property
    def deadline(self) -> float | None:
        """When ``tick`` must be called next."""
        return self._deadlines.next

    def close(self, disconnect: Disconnect) -> list[Effect]:
        """End the connection for a reason of the hub's own."""
        return self._close(disconnect)

    # -- commands --------------------------------------------------------------------------

    def _take(self, command: wire.Command, now: float, wall: float) -> list[Effect]:
        if sum(value is not None for value in msgspec.structs.astuple(command)) > _ID_AND_METHOD:
            return self._close(Disconnects.BAD_REQUEST)  # which one was meant?
        if command.connect is not None:
            return self._connect(command, command.connect, now, wall)
        if not self._connected:
            return self._close(Disconnects.BAD_REQUEST)
        if command.id == 0:
            return self._take_without_id(command, now)
        try:
            return self._dispatch(command, now, wall)
        except FanwireError as error:
            return [self._error(command, error)]

    def _take_without_id(self, command: wire.Command, now: float) -> list[Effect]:
        if command.send is not None:
            return []  # a message to an application that is not there
        if command != _PONG or not self._deadlines.pong(now):
            return self._close(Disconnects.BAD_REQUEST)
        return []

    def _dispatch(self, command: wire.Command, now: float, wall: float) -> list[Effect]:
        match command:
            case wire.Command(subscribe=wire.SubscribeRequest() as request):
                return self._subscribe(command, request)
            case wire.Command(unsubscribe=wire.UnsubscribeRequest() as request):
                return self._unsubscribe(command, request)
            case wire.Command(publish=wire.PublishRequest() as request):
                return self._publish(command, request)
            case wire.Command(history=wire.HistoryRequest() as request):
                return self._history(command, request)
            case wire.Command(refresh=wire.RefreshRequest() as request):
                return self._refresh(command, request, now, wall)
        for method in ("presence", "presence_stats", "rpc", "sub_refresh", "ping"):
            if getattr(command, method) is not None:
                raise NotAvailable(f"the hub does not offer {method!r}")
        raise MethodNotFound(
            "expected one of connect, subscribe, unsubscribe, publish, history, refresh; "
            "got a command with none of them"
        )

    def _connect(
        self, command: wire.Command, request: wire.ConnectRequest, now: float, wall: float
    ) -> list[Effect]:
        if self._connected or command.id == 0:
            return self._close(Disconnects.BAD_REQUEST)
        try:
            self.identity = self._authenticate(request.token)
        except TokenExpired as error:
            # The client gets a new token and connects again; this connection ends as stale.
            return [self._error(command, error)]
        except Unauthorized as error:
            return self._close_for(Disconnects.INVALID_TOKEN, error)
        ttl = self._set_expiry(now, wall)
        self._connected = True
        self._deadlines.begin_pinging(now)
        result = wire.ConnectResult(
            client=self.client,
            version=self._version,
            expires=ttl is not None,
            ttl=ttl or 0,
            ping=max(1, round(self._settings.ping_interval_s)),
            pong=True,
        )
        return [Send(wire.encode(wire.Reply(command.id, connect=result)))]

    def _set_expiry(self, now: float, wall: float) -> int | None:
        """Note when the token ends; return the seconds until the client should refresh it."""
        if self.identity.expires_at is None:
            self._deadlines.expires = None
            return None
        left_s = self.identity.expires_at - wall
        self._deadlines.expires = now + left_s
        return max(1, int(left_s - self._settings.refresh_margin_s))

    def _subscribe(self, command: wire.Command, request: wire.SubscribeRequest) -> list[Effect]:
        if request.channel in self.channels:
            raise AlreadySubscribed(f"already subscribed to {request.channel!r}")
        if len(self.channels) >= self._settings.max_channels:
            raise LimitExceeded(
                f"a connection may have {self._settings.max_channels} subscriptions, "
                "and this one has them"
            )
        channel = self._access.to_subscribe(self.identity, request.channel)
        wish = _WISHES[request.wishes.snapshot]
        self.channels[request.channel] = channel
        since = Position(request.epoch, request.offset) if request.recover else None
        self._awaiting = command
        return [Join(channel, since, wish)]

    def _unsubscribe(self, command: wire.Command, request: wire.UnsubscribeRequest) -> list[Effect]:
        reply = Send(wire.encode(wire.Reply(command.id, unsubscribe=wire.Empty())))
        if self.channels.pop(request.channel, None) is None:
            return [reply]
        return [Leave(request.channel), reply]

    def _publish(self, command: wire.Command, request: wire.PublishRequest) -> list[Effect]:
        channel = self._access.to_publish(self.identity, request.channel)
        # Checked, because the token's ``info`` came as it was written, perhaps on many lines.
        info = check_json(_encode(_Info(self.identity.user, self.client, self.identity.info)))
        self._awaiting = command
        return [Publish(channel, request.data, info)]

    def _history(self, command: wire.Command, request: wire.HistoryRequest) -> list[Effect]:
        channel = self._access.to_subscribe(self.identity, request.channel)
        since = Position(request.since.epoch, request.since.offset) if request.since else None
        most = self._settings.max_history
        limit = most if request.limit < 0 else min(request.limit, most)
        self._awaiting = command
        return [ReadHistory(channel, since, limit, request.reverse)]

    def _refresh(
        self, command: wire.Command, request: wire.RefreshRequest, now: float, wall: float
    ) -> list[Effect]:
        try:
            identity = self._authenticate(request.token)
        except TokenExpired:
            raise
        except Unauthorized as error:
            return self._close_for(Disconnects.INVALID_TOKEN, error)
        if identity.user != self.identity.user:
            # What the client may see was decided for the other user.
            return self._close(Disconnects.INVALID_TOKEN)
        self.identity = identity
        ttl = self._set_expiry(now, wall)
        result = wire.RefreshResult(
            client=self.client, version=self._version, expires=ttl is not None, ttl=ttl or 0
        )
        return [
            Send(wire.encode(wire.Reply(command.id, refresh=result))),
            *self._leave_what_is_forbidden(),
        ]

    def _leave_what_is_forbidden(self) -> list[Effect]:
        """End the subscriptions that the new token does not allow."""
        effects: list[Effect] = []
        for name in list(self.channels):
            try:
                self._access.to_subscribe(self.identity, name)
            except FanwireError:
                del self.channels[name]
                push = wire.UnsubscribePush(UnsubscribeCode.SERVER, "permission denied")
                effects += (
                    Leave(name),
                    Send(wire.encode(wire.PushReply(wire.Push(name, unsubscribe=push)))),
                )
        return effects

    # -- small things ----------------------------------------------------------------------

    def _answered(self) -> wire.Command:
        command, self._awaiting = self._awaiting, None
        if command is None:
            raise AssertionError("an answer came though no effect asked for one")
        return command

    def _error(self, command: wire.Command, error: FanwireError) -> Send:
        return Send(wire.encode(wire.Reply(command.id, error=wire.ErrorReply.of(error))))

    def _split(
        self, publications: list[Publication]
    ) -> tuple[list[Publication], list[Publication]]:
        """Split what was recovered into what fits in the reply and what follows it."""
        size = 0
        for index, publication in enumerate(publications):
            size += len(publication.wire)
            if size > self._settings.reply_bytes and index:
                return publications[:index], publications[index:]
        return publications, []

    def _close_for(self, disconnect: Disconnect, error: FanwireError) -> list[Effect]:
        # The standard reason first, because clients compare it; a close frame holds 123 bytes.
        reason = f"{disconnect.reason}: {error}".encode()[:123].decode("utf-8", "ignore")
        return self._close(Disconnect(disconnect.code, reason))

    def _close(self, disconnect: Disconnect) -> list[Effect]:
        if self._closed:
            return []
        self._closed = True
        self._waiting.clear()
        self._deadlines.stop()
        left = [Leave(channel) for channel in self.channels]
        self.channels.clear()
        return [*left, Close(disconnect)]


def _told(snapshot: Snapshot) -> Raw:
    """Return what a reply says about ``snapshot``."""
    # With its position: a client that recovers applies only what comes after it, and official
    # clients tell their application nothing else that says where that is.
    return Raw(b'{"snapshot":%b,"position":%b}' % (snapshot.data, _encode(snapshot.position)))
