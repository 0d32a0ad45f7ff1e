"""Who listens to what, and what the server has confirmed of it. No I/O and no clock.

The server confirms SUBSCRIBE and UNSUBSCRIBE in the order in which they were sent, one
message a channel. A message is given to a listener only when nothing asked of the server
about its channel is still unconfirmed: so what was published for an earlier subscription
of the same channel never reaches a later listener as if it were its own.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final, Protocol

from channels.errors import StoreError, StoreRefused, StoreUnavailable, UsageError

from .exchange import ProtocolViolation
from .port import Argument, Listener

__all__ = ["Confirmation", "SubscriptionBook"]

_log = logging.getLogger(__name__)

#: Channels in one SUBSCRIBE: long enough to be cheap, short enough to be a small write.
_BATCH: Final = 512


class Confirmation(Protocol):
    """Who waits for the server's word: an ``asyncio.Future`` is one."""

    def done(self) -> bool:
        """Whether the caller has left."""

    def set_result(self, nothing: None, /) -> None:
        """Learn that the subscription stands."""

    def set_exception(self, error: Exception, /) -> None:
        """Learn that it never will."""


class _Subscription:
    """One channel's listener, and whether messages go to it."""

    __slots__ = ("confirmation", "listener", "stands")

    def __init__(self, listener: Listener, confirmation: Confirmation) -> None:
        self.listener = listener
        self.confirmation = confirmation
        self.stands = False


class _Asked:
    """One SUBSCRIBE or UNSUBSCRIBE on its way, and the channels not yet confirmed."""

    __slots__ = ("channels", "verb")

    def __init__(self, verb: bytes) -> None:
        self.verb = verb
        self.channels: deque[bytes] = deque()


class SubscriptionBook:
    """The listeners, over any number of connections one after another."""

    __slots__ = ("_asked", "_cut", "_open", "_subscriptions", "_to_say", "_unconfirmed")

    def __init__(self) -> None:
        self._subscriptions: dict[bytes, _Subscription] = {}
        self._open = False
        self._to_say: list[tuple[bytes, bytes, bool]] = []
        #: Channels that stood once, were cut off, and do not stand yet.
        self._cut: set[bytes] = set()
        self._asked: deque[_Asked] = deque()
        self._unconfirmed: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._subscriptions)

    @property
    def stands(self) -> bool:
        """Whether a connection is there and all that it was to take up again is confirmed."""
        return self._open and not self._cut

    def hears(self, channel: bytes) -> bool:
        """Whether messages on ``channel`` reach a listener at present."""
        subscription = self._subscriptions.get(channel)
        return subscription is not None and subscription.stands

    def __contains__(self, channel: bytes) -> bool:
        return channel in self._subscriptions

    # -- listeners -------------------------------------------------------------------------

    def add(self, channel: bytes, listener: Listener, confirmation: Confirmation) -> None:
        """Have ``listener`` told what arrives on ``channel``; a second one is refused."""
        if channel in self._subscriptions:
            raise UsageError(f"expected one listener a channel, got a second on {channel!r}")
        self._subscriptions[channel] = _Subscription(listener, confirmation)
        self._ask(b"SUBSCRIBE", channel)

    def remove(self, channel: bytes, listener: Listener | None = None) -> bool:
        """Forget the channel's listener (if it is ``listener``); return whether it was there."""
        subscription = self._subscriptions.get(channel)
        if subscription is None or (listener is not None and subscription.listener is not listener):
            return False
        del self._subscriptions[channel]
        if not subscription.confirmation.done():
            subscription.confirmation.set_exception(
                StoreUnavailable(f"stopped listening to {channel!r} before it was confirmed")
            )
        self._cut.discard(channel)
        self._ask(b"UNSUBSCRIBE", channel)
        return True

    def _ask(self, verb: bytes, channel: bytes, *, alone: bool = False) -> None:
        if self._open:
            self._to_say.append((verb, channel, alone))
            self._unconfirmed[channel] = self._unconfirmed.get(channel, 0) + 1

    # -- the connection --------------------------------------------------------------------

    def opened(self) -> None:
        """A connection stands: everything is to be asked of it."""
        self._open = True
        for channel in self._subscriptions:
            self._ask(b"SUBSCRIBE", channel)

    def closed(self) -> None:
        """The connection is lost: nothing stands, whatever was on its way is void."""
        self._open = False
        self._to_say.clear()
        self._asked.clear()
        self._unconfirmed.clear()
        for channel, subscription in self._subscriptions.items():
            if subscription.stands:
                subscription.stands = False
                self._cut.add(channel)

    def end(self, error: StoreError) -> None:
        """Nothing will be listened to any more; whoever waits is told ``error``."""
        self.closed()
        self._cut.clear()
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription in subscriptions.values():
            if not subscription.confirmation.done():
                subscription.confirmation.set_exception(error)

    def take(self) -> list[tuple[Argument, ...]]:
        """Return the commands to send now, neighbours of one kind in one command."""
        batches: list[_Asked] = []
        batch: _Asked | None = None
        for verb, channel, alone in self._to_say:
            if batch is None or alone or batch.verb != verb or len(batch.channels) == _BATCH:
                batch = _Asked(verb)
                batches.append(batch)
            batch.channels.append(channel)
            if alone:
                batch = None
        self._to_say.clear()
        self._asked.extend(batches)
        return [(asked.verb, *asked.channels) for asked in batches]

    def on_message(self, channel: bytes, payload: bytes) -> None:
        """Give one message to its listener."""
        subscription = self._subscriptions.get(channel)
        if subscription is not None and subscription.stands:
            try:
                subscription.listener.on_message(payload)
            except Exception:  # noqa: BLE001 - its bug must not cost others their messages
                _log.exception("a listener failed on a message of %r", channel)

    def on_confirmed(self, verb: bytes, channel: bytes) -> None:
        """Take the server's word on one channel; raises ``ProtocolViolation`` if unasked."""
        asked = self._asked[0] if self._asked else None
        if asked is None or asked.verb.lower() != verb or asked.channels[0] != channel:
            raise ProtocolViolation(f"{verb!r} of {channel[:100]!r}, which was not asked")
        self._settle(asked)
        subscription = self._subscriptions.get(channel)
        if subscription is None or channel in self._unconfirmed:
            return
        subscription.stands = True
        if not subscription.confirmation.done():
            subscription.confirmation.set_result(None)
        if channel in self._cut:
            self._cut.discard(channel)
            try:
                subscription.listener.on_interrupted()
            except Exception:  # noqa: BLE001 - as above
                _log.exception("a listener failed on the interruption of %r", channel)

    def on_refused(self, refused: StoreRefused) -> None:
        """Take an error reply: it ends the oldest command that is on its way.

        A command of several channels is asked again one by one, to learn which is refused.
        A refused channel loses its listener if that was never confirmed; one that stood
        before stays, so that the book does not stand until a later connection allows it.
        """
        if not self._asked:
            raise ProtocolViolation(f"an error that answers nothing: {refused}")
        asked = self._asked[0]
        channels = list(asked.channels)
        for _ in channels:
            self._settle(asked)
        for channel in channels:
            subscription = self._subscriptions.get(channel)
            if asked.verb != b"SUBSCRIBE" or subscription is None:
                continue
            if len(channels) > 1:
                self._ask(b"SUBSCRIBE", channel, alone=True)
            elif channel not in self._unconfirmed:
                self._deny(channel, subscription, refused)

    def _deny(self, channel: bytes, subscription: _Subscription, refused: StoreRefused) -> None:
        if channel in self._cut:
            _log.error("the server no longer lets us listen to %r: %s", channel, refused)
            return
        del self._subscriptions[channel]
        if not subscription.confirmation.done():
            subscription.confirmation.set_exception(refused)

    def _settle(self, asked: _Asked) -> None:
        """Strike the first channel of ``asked``, and ``asked`` itself when it was the last."""
        channel = asked.channels.popleft()
        left = self._unconfirmed[channel] - 1
        if left:
            self._unconfirmed[channel] = left
        else:
            del self._unconfirmed[channel]
        if not asked.channels:
            self._asked.popleft()
