"""What was asked on one connection and is still unanswered. No I/O and no clock.

RESP has no request ids: the n-th reply belongs to the n-th command. So everything that
keeps a reply from the wrong caller is here, and can be tested without a socket: the line of
commands not yet sent, the line of those sent, what a late or cancelled caller leaves behind,
and when the connection can no longer be trusted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final, Protocol, TypeAlias

import hiredis

from channels.errors import OutcomeUnknown, StoreRefused, StoreUnavailable

from .port import Reply

__all__ = ["AllSink", "Exchange", "ProtocolViolation", "Replies", "Sink"]

_MORE: Final = object()


class ProtocolViolation(Exception):
    """The server sent what is no answer to what was asked; the connection is of no use."""


class Sink(Protocol):
    """Who waits for a reply: an ``asyncio.Future`` is one."""

    def done(self) -> bool:
        """Whether the caller has left (cancelled, timed out)."""

    def set_result(self, reply: Reply, /) -> None:
        """Take the reply."""

    def set_exception(self, error: Exception, /) -> None:
        """Take the error."""


#: The caller, the packed command and the time at which the caller leaves. The second and
#: later commands of one write have no bytes of their own: they stand in the first's.
Entry: TypeAlias = tuple[Sink, bytes, float]


class Replies:
    """Collects the replies of several commands for one caller; refusals stand among them."""

    __slots__ = ("_replies", "_sink", "_wanted")

    def __init__(self, sink: AllSink, wanted: int) -> None:
        self._sink = sink
        self._wanted = wanted
        self._replies: list[Reply | Exception] = []

    def done(self) -> bool:
        """Whether the caller has left."""
        return self._sink.done()

    def set_result(self, reply: Reply) -> None:
        """Take the next reply."""
        self._take(reply)

    def set_exception(self, error: Exception) -> None:
        """Take a refusal as one of the replies; any other error ends the whole."""
        if isinstance(error, StoreRefused):
            self._take(error)
        else:
            self._sink.set_exception(error)

    def _take(self, reply: Reply | Exception) -> None:
        self._replies.append(reply)
        if len(self._replies) == self._wanted:
            self._sink.set_result(self._replies)


class AllSink(Protocol):
    """Who waits for all replies of :class:`Replies`."""

    def done(self) -> bool:
        """Whether the caller has left."""

    def set_result(self, replies: list[Reply | Exception], /) -> None:
        """Take them, in the order of the commands."""

    def set_exception(self, error: Exception, /) -> None:
        """Take the error that ended them."""


class Exchange:
    """The two lines of commands of one connection, and the matching of replies.

    ``window_bytes`` bounds what is sent and unanswered; a larger command goes alone.
    ``on_refused`` hears the prefix of each refusal (``READONLY``, ...) after its caller.
    """

    __slots__ = (
        "_awaiting",
        "_on_refused",
        "_reader",
        "_unanswered_bytes",
        "_unsent",
        "_where",
        "_window_bytes",
    )

    def __init__(
        self,
        *,
        where: str,
        window_bytes: int,
        on_refused: Callable[[StoreRefused], None] | None = None,
    ) -> None:
        self._where = where
        self._window_bytes = window_bytes
        self._on_refused = on_refused
        self._unsent: deque[Entry] = deque()
        self._awaiting: deque[Entry] = deque()
        self._unanswered_bytes = 0
        # hiredis builds the errors itself, also those inside of arrays.
        self._reader = hiredis.Reader(replyError=StoreRefused, notEnoughData=_MORE)

    @property
    def unsent(self) -> int:
        """How many commands stand in the first line."""
        return len(self._unsent)

    @property
    def awaiting(self) -> int:
        """How many replies are still to come, those of callers who left included."""
        return len(self._awaiting)

    def add(self, sink: Sink, packed: bytes, leaves_at: float) -> None:
        """Put one command in line; ``sink`` gets its reply or one error."""
        self._unsent.append((sink, packed, leaves_at))

    def add_all(self, sink: AllSink, packed: list[bytes], leaves_at: float) -> None:
        """Put several commands in line that leave in one write (at least one command)."""
        replies = Replies(sink, len(packed))
        self._unsent.append((replies, b"".join(packed), leaves_at))
        self._unsent.extend([(replies, b"", leaves_at)] * (len(packed) - 1))

    def take(self) -> bytes:
        """Move commands from the first line to the second; return the bytes to write now.

        Takes what the window has room for, never parting one write. Commands whose caller
        has left already are never sent.
        """
        unsent = self._unsent
        awaiting = self._awaiting
        room = self._window_bytes - self._unanswered_bytes
        taken = []
        size = 0
        while unsent:
            entry = unsent[0]
            packed = entry[1]
            # With nothing under way, whatever comes first goes, however large.
            if packed and size + len(packed) > room and awaiting:
                break
            unsent.popleft()
            if not entry[0].done():
                awaiting.append(entry)
                taken.append(packed)
                size += len(packed)
        self._unanswered_bytes += size
        return b"".join(taken)

    def feed(self, data: bytes) -> int:
        """Give each reply in ``data`` to its caller; return how many replies there were.

        Raises ``ProtocolViolation`` for bytes that are no reply and for a reply that nobody
        asked for. Replies before it were given out; nothing after it was.
        """
        reader = self._reader
        gets = reader.gets
        awaiting = self._awaiting
        replies = 0
        try:
            reader.feed(data)
            while (reply := gets()) is not _MORE:
                if type(reply) is hiredis.PushNotification:
                    continue  # out of band (an invalidation): an answer to nobody
                if not awaiting:
                    raise ProtocolViolation("a reply to no command")
                sink, packed, _ = awaiting.popleft()
                self._unanswered_bytes -= len(packed)
                replies += 1
                if type(reply) is StoreRefused:
                    self._refuse(sink, reply)
                elif not sink.done():
                    sink.set_result(reply)
        except hiredis.ProtocolError as error:
            raise ProtocolViolation(str(error)) from error
        except TypeError as error:
            # hiredis cannot build a map whose keys are lists; its state is lost with it.
            raise ProtocolViolation(f"a reply that Python cannot hold: {error}") from error
        return replies

    def _refuse(self, sink: Sink, refused: StoreRefused) -> None:
        if not sink.done():
            sink.set_exception(refused)
        if self._on_refused is not None:
            self._on_refused(refused)

    def expire(self, now: float) -> float:
        """Send away the callers whose time is over; return when the next one's is (or inf).

        The reply of a command that was sent is still read and dropped in its turn.
        """
        waiting: deque[Entry] = deque()
        next_at = inf
        for entry in self._unsent:
            sink, _, leaves_at = entry
            if leaves_at <= now:
                if not sink.done():
                    sink.set_exception(self._too_late_to_send())
                continue
            waiting.append(entry)
            next_at = min(next_at, leaves_at)
        self._unsent = waiting
        for sink, _, leaves_at in self._awaiting:
            if sink.done():
                continue
            if leaves_at <= now:
                sink.set_exception(self._no_reply())
            elif leaves_at < next_at:
                next_at = leaves_at
        return next_at

    def lose(self, reason: str) -> None:
        """End every wait: the connection is lost."""
        unsent, self._unsent = self._unsent, deque()
        awaiting = list(self._awaiting)
        self._awaiting.clear()
        self._unanswered_bytes = 0
        for sink, _, _ in awaiting:
            if not sink.done():
                sink.set_exception(
                    OutcomeUnknown(
                        f"expected a reply from Redis at {self._where}, got none: {reason};"
                        " the command may have been executed"
                    )
                )
        for sink, _, _ in unsent:
            if not sink.done():
                sink.set_exception(
                    StoreUnavailable(f"Redis at {self._where}: {reason}; nothing was sent")
                )

    def _too_late_to_send(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"Redis at {self._where} takes no commands: the deadline passed before this one"
            f" could be sent ({self._unanswered_bytes} bytes sent and unanswered)"
        )

    def _no_reply(self) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"expected a reply from Redis at {self._where} within the deadline, got none;"
            " the command may have been executed"
        )
