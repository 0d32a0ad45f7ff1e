"""Who listens to what, over connections that come and go, without a socket."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import StoreRefused, StoreUnavailable, UsageError
from services.store.exchange import ProtocolViolation
from services.store.subscription_book import SubscriptionBook


class Listener:
    """Remembers; ``None`` stands for an interruption."""

    def __init__(self) -> None:
        self.log: list[bytes | None] = []

    def on_message(self, payload: bytes) -> None:
        """Remember a message."""
        self.log.append(payload)

    def on_interrupted(self) -> None:
        """Remember an interruption."""
        self.log.append(None)


class Confirmation:
    """Remembers one outcome."""

    def __init__(self) -> None:
        self.confirmed = False
        self.error: Exception | None = None

    def done(self) -> bool:
        """Whether there is an outcome."""
        return self.confirmed or self.error is not None

    def set_result(self, nothing: None) -> None:
        """Take the good one."""
        assert not self.done()
        self.confirmed = True

    def set_exception(self, error: Exception) -> None:
        """Take the bad one."""
        assert not self.done()
        self.error = error


def add(book: SubscriptionBook, channel: bytes) -> tuple[Listener, Confirmation]:
    """Listen to a channel."""
    listener, confirmation = Listener(), Confirmation()
    book.add(channel, listener, confirmation)
    return listener, confirmation


def confirm(book: SubscriptionBook) -> list[tuple]:
    """Let the server answer all that the book has to say; return what that was."""
    commands = book.take()
    for verb, *channels in commands:
        for channel in channels:
            book.on_confirmed(verb.lower(), channel)
    return commands


def test_listens_when_confirmed() -> None:
    """Messages count from the server's word on, in order."""
    book = SubscriptionBook()
    book.opened()
    listener, confirmation = add(book, b"a")
    book.on_message(b"a", b"early")
    assert confirm(book) == [(b"SUBSCRIBE", b"a")]
    assert confirmation.confirmed
    book.on_message(b"a", b"1")
    book.on_message(b"b", b"nobody's")
    book.on_message(b"a", b"2")
    assert listener.log == [b"1", b"2"]


def test_neighbours_share_a_command() -> None:
    """Channels of one turn go in one SUBSCRIBE, in an order that keeps its meaning."""
    book = SubscriptionBook()
    book.opened()
    add(book, b"a")
    add(book, b"b")
    book.remove(b"a")
    add(book, b"a")
    assert confirm(book) == [
        (b"SUBSCRIBE", b"a", b"b"),
        (b"UNSUBSCRIBE", b"a"),
        (b"SUBSCRIBE", b"a"),
    ]


def test_commands_are_bounded() -> None:
    """Ten thousand channels do not make one huge command."""
    book = SubscriptionBook()
    book.opened()
    for number in range(10_000):
        add(book, b"%d" % number)
    commands = confirm(book)
    assert sum(len(command) - 1 for command in commands) == 10_000
    assert max(map(len, commands)) < 600


def test_a_later_listener_hears_nothing_of_an_earlier_subscription() -> None:
    """Between UNSUBSCRIBE and the next confirmation messages belong to nobody."""
    book = SubscriptionBook()
    book.opened()
    first, _ = add(book, b"a")
    confirm(book)
    book.remove(b"a")
    second, confirmation = add(book, b"a")
    book.take()
    book.on_message(b"a", b"old")
    book.on_confirmed(b"unsubscribe", b"a")
    assert not confirmation.confirmed
    book.on_confirmed(b"subscribe", b"a")
    book.on_message(b"a", b"new")
    assert (first.log, second.log) == ([], [b"new"])


def test_a_lost_connection_interrupts_every_listener_once_it_stands_again() -> None:
    """The news comes after the new confirmation and before the first new message."""
    book = SubscriptionBook()
    book.opened()
    listener, _ = add(book, b"a")
    confirm(book)
    assert book.stands
    book.closed()
    book.closed()
    assert not book.stands
    assert listener.log == []
    late, confirmation = add(book, b"b")
    book.opened()
    assert not book.stands
    book.on_message(b"a", b"unconfirmed")
    assert confirm(book) == [(b"SUBSCRIBE", b"a", b"b")]
    assert book.stands
    book.on_message(b"a", b"1")
    assert listener.log == [None, b"1"]
    assert confirmation.confirmed
    assert late.log == []


def test_a_connection_lost_while_subscribing() -> None:
    """Who was not told yet is told on a later connection; nobody is told twice for one cut."""
    book = SubscriptionBook()
    book.opened()
    first, _ = add(book, b"a")
    second, _ = add(book, b"b")
    confirm(book)
    book.closed()
    book.opened()
    book.take()
    book.on_confirmed(b"subscribe", b"a")
    assert (first.log, second.log) == ([None], [])
    book.closed()
    book.opened()
    confirm(book)
    assert (first.log, second.log) == ([None, None], [None])


def test_one_listener_a_channel() -> None:
    """A second one is refused and the first one stays."""
    book = SubscriptionBook()
    add(book, b"a")
    with pytest.raises(UsageError):
        add(book, b"a")


def test_remove_is_for_the_one_who_asks() -> None:
    """A listener that gave up does not take away its successor."""
    book = SubscriptionBook()
    first, confirmation = add(book, b"a")
    assert book.remove(b"a")
    assert isinstance(confirmation.error, StoreUnavailable)
    second, _ = add(book, b"a")
    assert not book.remove(b"a", first)
    assert book.remove(b"a", second)
    assert not book.remove(b"a")


def test_a_refusal_of_many_is_found_out_one_by_one() -> None:
    """Only the channel that the server refuses loses its listener."""
    book = SubscriptionBook()
    book.opened()
    confirmations = {name: add(book, name)[1] for name in (b"a", b"b", b"c")}
    assert len(book.take()) == 1
    book.on_refused(StoreRefused("NOPERM"))
    commands = book.take()
    assert commands == [(b"SUBSCRIBE", name) for name in (b"a", b"b", b"c")]
    book.on_confirmed(b"subscribe", b"a")
    book.on_refused(StoreRefused("NOPERM b"))
    book.on_confirmed(b"subscribe", b"c")
    assert confirmations[b"a"].confirmed
    assert isinstance(confirmations[b"b"].error, StoreRefused)
    assert confirmations[b"c"].confirmed
    assert b"b" not in book
    assert book.stands


def test_a_channel_refused_later_keeps_the_book_from_standing() -> None:
    """A listener that stood and may no more is not forgotten, and that shows."""
    book = SubscriptionBook()
    book.opened()
    listener, _ = add(book, b"a")
    confirm(book)
    book.closed()
    book.opened()
    book.take()
    book.on_refused(StoreRefused("NOPERM"))
    assert not book.stands
    book.closed()
    book.opened()
    confirm(book)
    assert book.stands
    assert listener.log == [None]


def test_a_word_on_what_was_not_asked_is_a_violation() -> None:
    """The server's words come in the order of ours, or the connection is not to be trusted."""
    book = SubscriptionBook()
    book.opened()
    with pytest.raises(ProtocolViolation):
        book.on_confirmed(b"subscribe", b"a")
    with pytest.raises(ProtocolViolation):
        book.on_refused(StoreRefused("ERR"))
    add(book, b"a")
    book.take()
    for word in ((b"unsubscribe", b"a"), (b"subscribe", b"b")):
        with pytest.raises(ProtocolViolation):
            book.on_confirmed(*word)


def test_a_listener_that_fails_does_not_hurt_others(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of a listener is logged, and the next message is delivered."""

    class Broken:
        def on_message(self, payload: bytes) -> None:
            raise RuntimeError("a bug")

        def on_interrupted(self) -> None:
            raise RuntimeError("a bug")

    book = SubscriptionBook()
    book.opened()
    book.add(b"broken", Broken(), Confirmation())
    listener, _ = add(book, b"a")
    confirm(book)
    book.on_message(b"broken", b"x")
    book.closed()
    book.opened()
    confirm(book)
    book.on_message(b"a", b"1")
    assert listener.log == [None, b"1"]
    assert len(caplog.records) == 2


def test_end_tells_who_waits() -> None:
    """Nobody waits for ever for a store that was closed."""
    book = SubscriptionBook()
    _, confirmation = add(book, b"a")
    book.end(StoreUnavailable("closed"))
    assert isinstance(confirmation.error, StoreUnavailable)
    assert len(book) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["add", "remove", "open", "close", "say", "server", "deliver", "publish"]
            ),
            st.sampled_from([b"a", b"b", b"c"]),
        ),
        max_size=80,
    )
)
def test_any_history_misses_nothing_in_silence(steps: list[tuple[str, bytes]]) -> None:
    """Between two interruptions a confirmed listener hears every message, in order.

    The model of the server processes commands in order and publishes to who subscribed; it
    numbers the messages of each channel, so that a hole without an interruption shows.
    """
    book = SubscriptionBook()
    listeners: dict[bytes, Listener] = {}
    everyone: list[Listener] = []
    published = dict.fromkeys((b"a", b"b", b"c"), 0)
    is_open = False
    to_server: list[tuple[bytes, bytes]] = []
    to_client: list[tuple[bytes, ...]] = []
    subscribed: set[bytes] = set()

    def deliver() -> None:
        for kind, *rest in to_client:
            if kind == b"message":
                book.on_message(*rest)
            else:
                book.on_confirmed(kind, *rest)
        to_client.clear()

    for step, channel in steps:
        if step == "add" and channel not in listeners:
            listeners[channel] = add(book, channel)[0]
            everyone.append(listeners[channel])
        elif step == "remove" and channel in listeners:
            book.remove(channel)
            del listeners[channel]
        elif step == "open" and not is_open:
            book.opened()
            is_open = True
        elif step == "close" and is_open:
            # What is on its way is lost, in both directions.
            book.closed()
            is_open = False
            to_server.clear()
            to_client.clear()
            subscribed.clear()
        elif step == "say":
            to_server += [(verb, name) for verb, *names in book.take() for name in names]
        elif step == "server":
            for verb, name in to_server:
                (subscribed.add if verb == b"SUBSCRIBE" else subscribed.discard)(name)
                to_client.append((verb.lower(), name))
            to_server.clear()
        elif step == "deliver":
            deliver()
        elif step == "publish":
            published[channel] += 1
            if channel in subscribed:
                to_client.append((b"message", channel, b"%d" % published[channel]))
    deliver()
    for listener in everyone:
        for before, after in pairwise(listener.log):
            if before is not None and after is not None:
                assert int(after) == int(before) + 1
