"""The port to Redis: what every service may ask of a store, and what it is promised.

Adapters stand beside it: ``tcp.py`` (one server over TCP, TLS or a unix socket) and
``upstash.py`` (a database behind Upstash's REST API). A store knows nothing about channels,
events or sessions; it runs scripts and carries messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from .script import Script

__all__ = ["Argument", "Listener", "Reply", "Store", "Traits"]

#: What may stand in a command: text is sent as UTF-8, integers in decimal.
Argument: TypeAlias = str | bytes | int
#: What comes back, as RESP gives it: bytes for strings, never decoded, ``None`` for null.
Reply: TypeAlias = "bytes | int | float | bool | list[Reply] | dict[bytes, Reply] | None"


class Traits(NamedTuple):
    """What a store is like, for those who treat stores differently."""

    #: Whether :meth:`Store.listen` works; without it it raises ``NotAvailable``.
    subscriptions: bool = True
    #: Whether somebody pays for each command: then nobody should ask often in vain.
    billed: bool = False


class Listener(Protocol):
    """Who is told what arrives on a pub/sub channel.

    Called on the event loop between two reads of the socket: it must not block and must not
    raise. Order is that of the server.
    """

    def on_message(self, payload: bytes) -> None:
        """Take one message, exactly as it was published."""

    def on_interrupted(self) -> None:
        """Learn that messages may have been missed since the last call.

        Called after the subscription stands again (so reading the log now leaves no hole
        between the log and the live messages), whatever the interruption was: a lost
        connection, a failed probe, a killed subscriber.
        """


class Store(Protocol):
    """One Redis, however it is reached.

    Every call ends within its deadline. Nothing is retried: a call that raises
    :class:`~channels.errors.OutcomeUnknown` may have been executed, one that raises
    :class:`~channels.errors.StoreUnavailable` or :class:`~channels.errors.StoreRefused`
    was not. A cancelled call is an unknown outcome, and its reply never reaches another
    caller.
    """

    @property
    def traits(self) -> Traits:
        """What this store is like; the same for its whole life."""

    async def open(self, *, wait: bool = True) -> None:
        """Connect, and stay connected until :meth:`close`.

        With ``wait`` it returns when the server answers, or raises ``StoreUnavailable`` or
        ``StoreRefused``; without, it returns at once and ``ready`` tells.
        """

    async def execute(self, *command: Argument, timeout_s: float | None = None) -> Reply:
        """Send one command and return its reply; an error reply raises ``StoreRefused``."""

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        timeout_s: float | None = None,
    ) -> Reply:
        """Run ``script`` by its SHA; sent in full when the server does not know it yet."""

    async def pipeline(
        self, commands: Sequence[Sequence[Argument]], *, timeout_s: float | None = None
    ) -> list[Reply | Exception]:
        """Send ``commands`` in one write; return a reply or a ``StoreRefused`` for each."""

    async def listen(self, channel: str, listener: Listener) -> None:
        """Subscribe to a pub/sub channel; returns when the server has confirmed it.

        One listener a channel. Survives reconnects; see :class:`Listener`. Raises
        ``NotAvailable`` where ``traits.subscriptions`` is false.
        """

    async def unlisten(self, channel: str) -> None:
        """Undo :meth:`listen`; no call reaches the listener after it returns."""

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """Have ``callback`` told ``True``/``False`` when the store becomes usable or not."""

    @property
    def ready(self) -> bool:
        """Whether commands and subscriptions are both connected and answering."""

    async def close(self) -> None:
        """End every connection; waiting calls raise ``StoreUnavailable`` or ``OutcomeUnknown``."""
