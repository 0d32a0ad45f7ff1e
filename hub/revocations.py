"""Ends the connections of login sessions that are over, on whichever node that was decided.

A node follows ``auth:{user}`` for every user who has a connection here by a login session, as
it follows any channel: from the log, without holes. A message that pub/sub loses costs a
moment, never a revocation; where the log cannot say what happened, the sessions are read.

    revoked    closed with 3503, and the client stays away
    rotated    closed with 3011: the client comes back with the new secret, and new rights
    expired    closed with 3005, as at the end of any token
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from channels.catalogue import AUTH, Catalogue, Channel
from channels.errors import BadRequest, Disconnect, Disconnects, StoreError, Unauthorized
from channels.events import AuthSessionExpired, AuthSessionRevoked, AuthSessionRotated
from channels.identity import Identity
from channels.position import Position
from hub.engine import Engine
from hub.frame import Batch
from hub.registry import Client
from services.auth_sessions import AuthSessions
from services.event_log import Gap

__all__ = ["Hold", "Revocations"]

_log = logging.getLogger(__name__)

#: Seconds before sessions that could not be read are read again.
_AGAIN_S = 0.5
_OVER = "the login session is over: log in again"


class _Wire(msgspec.Struct):
    data: msgspec.Raw


_decode = msgspec.json.Decoder(_Wire).decode


class Hold:
    """One connection's claim on its login session; :meth:`release` it in the end."""

    __slots__ = ("_client", "_ended", "_release", "identity")

    def __init__(self, identity: Identity, release: Callable[[Hold], None]) -> None:
        self.identity = identity
        self._client: Client | None = None
        self._ended: Disconnect | None = None
        self._release = release

    def attach(self, client: Client) -> None:
        """Have ``client`` ended with the session.

        Raises:
            Unauthorized: the session is over.
        """
        if self._ended is not None:
            raise Unauthorized(_OVER)
        self._client = client

    def end(self, disconnect: Disconnect) -> None:
        """Learn that the session is over."""
        if self._ended is None:
            self._ended = disconnect
            if self._client is not None:
                self._client.end(disconnect)

    def release(self) -> None:
        """Let go of the session: the connection is gone, or goes on by another token."""
        self._client = None
        self._release(self)


class _Watch:
    """One user with connections here: a subscriber of the channel that tells of the sessions."""

    __slots__ = ("_check_soon", "channel", "checking", "holds", "joined", "lock", "user")

    def __init__(self, user: str, channel: Channel, check_soon: Callable[[_Watch], None]) -> None:
        self.user = user
        self.channel = channel
        self.holds: set[Hold] = set()
        #: Spans the way into the room: the second connection waits for the first one.
        self.lock = asyncio.Lock()
        self.joined = False
        self.checking: asyncio.Task[None] | None = None
        self._check_soon = check_soon

    def deliver(self, batch: Batch) -> None:
        """Take what happened to the user's sessions."""
        for publication in batch.publications:
            try:
                event = AUTH.check_data(bytes(_decode(publication.object).data))
            except (BadRequest, msgspec.DecodeError):
                self._check_soon(self)  # a newer version tells something else
                continue
            match event:
                case AuthSessionRevoked(data=data):
                    self._end(data.sessions, Disconnects.SESSION_REVOKED)
                case AuthSessionExpired(data=data):
                    self._end([data.session], Disconnects.EXPIRED)
                case AuthSessionRotated(data=data):
                    self._end([data.session], Disconnects.SESSION_ROTATED, before=data.version)

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:  # noqa: ARG002
        """Learn that something was missed: look at the sessions themselves."""
        self._check_soon(self)

    def _end(
        self, sessions: list[str], disconnect: Disconnect, *, before: int | None = None
    ) -> None:
        """End the connections of ``sessions``; only those by a secret older than ``before``."""
        for hold in list(self.holds):
            identity = hold.identity
            if identity.session in sessions and (
                before is None or identity.session_version < before
            ):
                hold.end(disconnect)

    def compare(self, standing: dict[str, int], now: float) -> None:
        """End what is not among the versions of the sessions that stand."""
        for hold in list(self.holds):
            identity = hold.identity
            version = standing.get(identity.session)
            if version is None:
                expired = identity.expires_at is not None and identity.expires_at <= now
                hold.end(Disconnects.EXPIRED if expired else Disconnects.SESSION_REVOKED)
            elif version > identity.session_version:
                hold.end(Disconnects.SESSION_ROTATED)


class Revocations:
    """The login sessions that have connections on this node."""

    __slots__ = ("_catalogue", "_closing", "_engine", "_sessions", "_tasks", "_wall", "_watches")

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        sessions: AuthSessions,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._sessions = sessions
        self._wall = wall
        self._watches: dict[str, _Watch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def __len__(self) -> int:
        """How many users are watched."""
        return len(self._watches)

    async def hold(self, identity: Identity) -> Hold:
        """Return a claim on the login session that ``identity`` was proved by.

        From the moment at which it was proved on, no end of the session is missed: this looks
        at it once more after the node has begun to follow it.

        Raises:
            Unauthorized: it is over by now, or has another secret.
            StoreError: that cannot be found out, or not be followed.
        """
        watch = self._watches.get(identity.user)
        if watch is None:
            channel = self._catalogue.find(AUTH.name(user=identity.user))
            watch = self._watches[identity.user] = _Watch(identity.user, channel, self._check_soon)
        hold = Hold(identity, self._release)
        watch.holds.add(hold)
        try:
            await self._join(watch)
            await self._look(identity)
        except BaseException:
            hold.release()
            raise
        return hold

    async def _join(self, watch: _Watch) -> None:
        async with watch.lock:
            if not watch.joined:
                (await self._engine.join(watch.channel, watch)).release()
                watch.joined = True

    async def _look(self, identity: Identity) -> None:
        found = await self._sessions.find(identity.user, identity.session)
        if found is None or found.version != identity.session_version:
            raise Unauthorized(_OVER)

    def _release(self, hold: Hold) -> None:
        user = hold.identity.user
        watch = self._watches.get(user)
        if watch is None or hold not in watch.holds:
            return
        watch.holds.discard(hold)
        if not watch.holds:
            del self._watches[user]
            if watch.checking is not None:
                watch.checking.cancel()
            self._engine.leave(watch.channel.name, watch)

    def _check_soon(self, watch: _Watch) -> None:
        if self._closing:
            return
        if watch.checking is not None:
            watch.checking.cancel()  # what it reads may be older than what was missed
        task = asyncio.create_task(self._check(watch), name=f"fanwire-auth {watch.user}")
        watch.checking = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check(self, watch: _Watch) -> None:
        """Read the sessions of a user until that succeeds, and end what does not stand."""
        while True:
            try:
                sessions = await self._sessions.list_sessions(watch.user)
            except StoreError as error:
                _log.info("cannot look at the sessions of %r: %s", watch.user, error)
            except Exception:  # noqa: BLE001 - whatever it is, nobody may stay who is revoked
                _log.exception("looking at the sessions of %r failed", watch.user)
            else:
                standing = {session.id: session.version for session in sessions}
                watch.compare(standing, self._wall())
                return
            await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """Stop looking; connections are left as they are."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
