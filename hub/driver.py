"""Drives one connection: carries out what its state machine decides.

The shell of a transport feeds frames in with :meth:`Driver.receive` and writes out what
:attr:`Driver.outbox` holds until :attr:`Driver.closing` says with which code to end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from channels.cursor import CursorPosition
from channels.errors import Disconnect, Disconnects, FanwireError
from channels.identity import Identity
from channels.ids import new_id
from channels.position import Position
from hub.access import Access
from hub.connection import Connection, ConnectionSettings
from hub.effects import Close, Effect, Join, Leave, Publish, ReadHistory, Send
from hub.engine import Engine
from hub.frame import Frame
from hub.outbox import Outbox
from services.event_log import Gap
from services.events import Events

__all__ = ["Driver"]


class Driver:
    """One client of the bidirectional protocol: a subscriber of rooms, a client of the node."""

    __slots__ = (
        "_busy",
        "_connection",
        "_engine",
        "_events",
        "_goodbye_timeout_s",
        "_loop",
        "_timer",
        "closing",
        "on_drop",
        "outbox",
    )

    def __init__(
        self,
        *,
        engine: Engine,
        events: Events,
        access: Access,
        authenticate: Callable[[str], Identity],
        settings: ConnectionSettings,
        outbox_bytes: int,
        version: str,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._events = events
        self._connection = Connection(
            new_id(),
            access=access,
            authenticate=authenticate,
            settings=settings,
            version=version,
            now=self._loop.time(),
        )
        #: Whether the client waits for us (and not for itself to read what it asked for).
        self._busy = False
        self._goodbye_timeout_s = settings.goodbye_timeout_s
        self.outbox = Outbox(outbox_bytes)
        #: Set when the connection is to be ended after what the outbox holds.
        self.closing: Disconnect | None = None
        #: Called when the client is given up: it reads too slowly, or not at all.
        self.on_drop: Callable[[], object] = lambda: None
        self._timer: asyncio.TimerHandle | None = None
        self._set_timer()

    @property
    def user(self) -> str:
        """Id of the user, empty while unknown or anonymous."""
        return self._connection.identity.user

    # -- from the client -------------------------------------------------------------------

    async def receive(self, frame: str | bytes) -> None:
        """Take one frame from the client and do all it asks for."""
        effects = self._connection.receive(frame, self._loop.time(), time.time())
        while effects:
            asking = self._carry_out(effects)
            if asking is None:
                break
            await self.outbox.drained()
            if self.closing is not None:
                break
            self._busy = True
            try:
                await self._answer(asking)
            except FanwireError as error:
                self._carry_out(self._connection.failed(error))
            finally:
                self._busy = False
            effects = self._connection.proceed(self._loop.time(), time.time())
        self._set_timer()

    async def _answer(self, asking: Join | Publish | ReadHistory) -> None:
        match asking:
            case Join(channel, since):
                cursor = None if since is None else CursorPosition(since)
                joined = await self._engine.join(channel, self, cursor)
                gap = None if joined.gap is None else joined.gap.value
                # From here to release nothing may be awaited: what comes live in between
                # would overtake the reply.
                self._carry_out(self._connection.joined(joined.publications, joined.position, gap))
                joined.release()
            case Publish(channel, data, info):
                await self._events.append(channel, data, info=info)
                self._carry_out(self._connection.published())
            case ReadHistory(channel, since, limit, reverse):
                page = await self._events.log.read(
                    channel, since=since, limit=limit, reverse=reverse
                )
                self._carry_out(self._connection.history_read(page.publications, page.top))

    # -- from the rooms --------------------------------------------------------------------

    def deliver(self, frame: Frame) -> None:
        """Queue a live publication; a client that owes too much is let go."""
        if self.closing is None and not self.outbox.push(frame):
            self._drop(Disconnects.SLOW)

    def lose(self, channel: str, gap: Gap, top: Position, top_id: str) -> None:  # noqa: ARG002
        """Tell the client that it missed something; it comes back from its own position."""
        self._carry_out(self._connection.lost(channel))

    # -- from the node ---------------------------------------------------------------------

    def end(self, disconnect: Disconnect) -> None:
        """Write what is queued, then close."""
        self._carry_out(self._connection.close(disconnect))

    def gone(self) -> None:
        """Learn that the transport is closed: leave everything behind."""
        self._carry_out(self._connection.close(Disconnects.CLOSED))
        self._cancel_timer()
        self.outbox.clear()

    # -- within ----------------------------------------------------------------------------

    def _carry_out(self, effects: list[Effect]) -> Join | Publish | ReadHistory | None:
        """Do what needs no waiting; return the effect that does, always the last one."""
        for effect in effects:
            match effect:
                # Even after the client was dropped half way: a room must not keep it.
                case Leave(channel):
                    self._engine.leave(channel, self)
                case Close(disconnect):
                    self._close(disconnect)
                case _ if self.closing is not None:
                    pass
                case Send(data, backlog=True):
                    self.outbox.push_backlog(data)
                case Send(data):
                    if not self.outbox.push(data):
                        self._drop(Disconnects.SLOW)
                case _:
                    return effect
        return None

    def _close(self, disconnect: Disconnect) -> None:
        self.closing = disconnect
        self.outbox.ready.set()
        # A client that does not read would keep the goodbye waiting for ever.
        self._cancel_timer()
        self._timer = self._loop.call_later(self._goodbye_timeout_s, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        self.outbox.clear()
        self.on_drop()

    def _drop(self, disconnect: Disconnect) -> None:
        # What waits would only delay the goodbye; the client recovers it from the log.
        self._carry_out(self._connection.close(disconnect))
        self._cancel_timer()
        self._give_up()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        if self.closing is not None:
            return
        self._cancel_timer()
        deadline = self._connection.deadline
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._carry_out(self._connection.tick(self._loop.time(), busy=self._busy))
        if self.closing == Disconnects.NO_PONG:
            self._drop(Disconnects.NO_PONG)
        self._set_timer()
