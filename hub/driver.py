"""Drives one connection: carries out what its state machine decides.

The shell of a transport feeds messages in with :meth:`Driver.receive` and writes out what
:attr:`Driver.outbox` holds until :attr:`Driver.closing` says with which code to end. There is
a task only while a command waits for Redis: an idle connection is a few objects and a timer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeAlias

from channels.cursor import CursorPosition
from channels.errors import Disconnect, Disconnects, FanwireError
from channels.identity import Identity
from channels.ids import new_id
from channels.position import Position
from hub.access import Access
from hub.connection import Connection, ConnectionSettings
from hub.effects import Close, Effect, Join, Leave, Publish, ReadHistory, Send
from hub.engine import Engine
from hub.frame import Batch
from hub.outbox import Outbox
from services.event_log import Gap
from services.events import Events

__all__ = ["Driver"]

_log = logging.getLogger(__name__)


class Driver:
    """One client of the bidirectional protocol: a subscriber of rooms, a client of the node."""

    __slots__ = (
        "_connection",
        "_due",
        "_engine",
        "_events",
        "_goodbye_timeout_s",
        "_loop",
        "_task",
        "_timer",
        "_waits_for_us",
        "closing",
        "on_drop",
        "on_gone",
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
        self._waits_for_us = False
        self._task: asyncio.Task[None] | None = None
        self._goodbye_timeout_s = settings.goodbye_timeout_s
        self.outbox = Outbox(outbox_bytes, engine.traffic)
        #: Set when the connection is to be ended after what the outbox holds.
        self.closing: Disconnect | None = None
        #: Called when the client is given up: it reads too slowly, or not at all.
        self.on_drop: Callable[[], object] = _nothing
        #: Called when the connection has left everything behind.
        self.on_gone: Callable[[], object] = _nothing
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._set_timer()

    @property
    def user(self) -> str:
        """Id of the user, empty while unknown or anonymous."""
        return self._connection.identity.user

    # -- from the client -------------------------------------------------------------------

    def receive(self, message: str | bytes) -> asyncio.Task[None] | None:
        """Take one message from the client.

        Returns None when all it asks for is done, else a task that ends when it is; give it
        no further message before that. The task never fails.
        """
        effects = self._connection.receive(message, self._loop.time(), time.time())
        asking = self._carry_out(effects)
        if asking is None:
            self._set_timer()
            return None
        self._task = self._loop.create_task(self._work(asking))
        return self._task

    async def _work(self, asking: _Asking | None) -> None:
        """Do what waits for Redis, and what the client asked for after it."""
        try:
            while asking is not None:
                await self.outbox.drained()
                if self.closing is not None:
                    return
                self._waits_for_us = True
                try:
                    await self._answer(asking)
                except FanwireError as error:
                    self._carry_out(self._connection.failed(error))
                finally:
                    self._waits_for_us = False
                effects = self._connection.proceed(self._loop.time(), time.time())
                asking = self._carry_out(effects)
            self._set_timer()
        except Exception:  # noqa: BLE001 - a bug of ours ends one connection, not its task unheard
            _log.exception("a connection failed")
            self.end(Disconnects.SERVER_ERROR)
        finally:
            self._task = None

    async def _answer(self, asking: _Asking) -> None:
        match asking:
            case Join(channel, since, wish):
                cursor = None if since is None else CursorPosition(since)
                joined = await self._engine.join(channel, self, cursor, snapshot=wish)
                gap = None if joined.gap is None else joined.gap.value
                # From here to release nothing may be awaited: what comes live in between
                # would overtake the reply.
                self._carry_out(
                    self._connection.joined(
                        joined.publications, joined.position, gap, joined.snapshot
                    )
                )
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

    def deliver(self, batch: Batch) -> None:
        """Write or queue live publications; a client that owes too much is let go."""
        if self.outbox.write_now(batch.websocket):
            return
        if self.closing is None and not self.outbox.push_batch(batch):
            self._drop(Disconnects.SLOW, "slow")

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
        if self._task is not None:
            self._task.cancel()
        self.outbox.clear()
        self.on_gone()

    # -- within ----------------------------------------------------------------------------

    def _carry_out(self, effects: list[Effect]) -> _Asking | None:
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
                        self._drop(Disconnects.SLOW, "slow")
                case _:
                    return effect
        return None

    def _close(self, disconnect: Disconnect) -> None:
        self.closing = disconnect
        self.outbox.shut()
        self.outbox.on_ready()
        # A client that does not read would keep the goodbye waiting for ever.
        self._cancel_timer()
        self._timer = self._loop.call_later(self._goodbye_timeout_s, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        self.outbox.clear()
        self.on_drop()

    def _drop(self, disconnect: Disconnect, reason: str) -> None:
        # What waits would only delay the goodbye; the client recovers it from the log.
        self._engine.traffic.dropped(reason)
        self._carry_out(self._connection.close(disconnect))
        self._cancel_timer()
        self._give_up()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        """Have :meth:`_tick` called when the connection wants it, or earlier."""
        deadline = self._connection.deadline
        if self.closing is not None or deadline is None:
            return
        if self._timer is not None:
            if self._due <= deadline:
                return  # it looks again then; most messages only move the deadline away
            self._timer.cancel()
        # Noted here: the handle of a timer that is due at once cannot tell (uvloop).
        self._due = deadline
        self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._carry_out(self._connection.tick(self._loop.time(), busy=self._waits_for_us))
        if self.closing == Disconnects.NO_PONG:
            self._drop(Disconnects.NO_PONG, "no_pong")
        self._set_timer()


def _nothing() -> None:
    pass


_Asking: TypeAlias = Join | Publish | ReadHistory
