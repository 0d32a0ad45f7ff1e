"""Whose reply is whose: the two lines of commands, without a socket."""

from __future__ import annotations

import zlib
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import OutcomeUnknown, StoreRefused, StoreUnavailable
from services.store.exchange import Exchange, ProtocolViolation


class Caller:
    """A sink that remembers; like a future, it takes one outcome and can leave."""

    def __init__(self) -> None:
        self.left = False
        self.reply: object = None
        self.error: Exception | None = None
        self.outcomes = 0

    def done(self) -> bool:
        """Whether nothing more is to be told."""
        return self.left or self.outcomes > 0

    def set_result(self, reply: object) -> None:
        """Take the reply."""
        assert not self.done()
        self.outcomes += 1
        self.reply = reply

    def set_exception(self, error: Exception) -> None:
        """Take the error."""
        assert not self.done()
        self.outcomes += 1
        self.error = error


def an_exchange(window_bytes: int = 1 << 20) -> Exchange:
    """Return an empty exchange."""
    return Exchange(where="test", window_bytes=window_bytes)


def ask(exchange: Exchange, count: int, leaves_at: float = inf) -> list[Caller]:
    """Put ``count`` commands in line, 8 bytes each."""
    callers = [Caller() for _ in range(count)]
    for caller in callers:
        exchange.add(caller, b"<packed>", leaves_at)
    return callers


def value(number: int) -> bytes:
    """A value that says whose it is and proves that no byte of it was changed."""
    text = b"value of %d " % number * 3
    return text + b"%08x" % zlib.crc32(text)


def bulk(text: bytes) -> bytes:
    """A bulk string in RESP."""
    return b"$%d\r\n%s\r\n" % (len(text), text)


def test_replies_in_order() -> None:
    """The n-th reply goes to the n-th command; refusals are errors of their caller alone."""
    exchange = an_exchange()
    first, second, third = ask(exchange, 3)
    assert exchange.take() == b"<packed>" * 3
    assert exchange.feed(b":1\r\n-ERR no\r\n_\r\n") == 3
    assert first.reply == 1
    assert isinstance(second.error, StoreRefused)
    assert third.outcomes == 1
    assert third.reply is None
    assert exchange.awaiting == 0


def test_a_refusal_inside_a_reply_stays_there() -> None:
    """An error in an array is a value of the array."""
    exchange = an_exchange()
    (caller,) = ask(exchange, 1)
    exchange.take()
    exchange.feed(b"*2\r\n:1\r\n-ERR no\r\n")
    assert isinstance(caller.reply, list)
    assert isinstance(caller.reply[1], StoreRefused)


def test_who_left_gets_nothing_and_disturbs_nobody() -> None:
    """The reply of a caller that left is dropped in its turn."""
    exchange = an_exchange()
    first, second, third = ask(exchange, 3)
    exchange.take()
    second.left = True
    exchange.feed(b":1\r\n:2\r\n:3\r\n")
    assert (first.reply, second.outcomes, third.reply) == (1, 0, 3)


def test_who_left_before_sending_is_never_sent() -> None:
    """A command whose caller left in time does not reach the server."""
    exchange = an_exchange()
    first, second = ask(exchange, 2)
    first.left = True
    assert exchange.take() == b"<packed>"
    exchange.feed(b":2\r\n")
    assert second.reply == 2


def test_several_commands_of_one_caller() -> None:
    """One write, one list of replies, refusals in their place; others keep their order."""
    exchange = an_exchange()
    many, one = Caller(), Caller()
    exchange.add_all(many, [b"<a>", b"<b>", b"<c>"], inf)
    exchange.add(one, b"<d>", inf)
    assert exchange.take() == b"<a><b><c><d>"
    exchange.feed(b":1\r\n-ERR no\r\n")
    assert not many.done()
    exchange.feed(b":3\r\n:4\r\n")
    assert isinstance(many.reply, list)
    assert [type(reply) for reply in many.reply] == [int, StoreRefused, int]
    assert one.reply == 4


def test_the_window_bounds_what_is_unanswered() -> None:
    """Commands beyond the window wait in line, and go when replies have come."""
    exchange = an_exchange(window_bytes=20)
    callers = ask(exchange, 5)
    assert exchange.take() == b"<packed>" * 2
    assert exchange.take() == b""
    exchange.feed(b":0\r\n")
    assert exchange.take() == b"<packed>"
    exchange.feed(b":1\r\n:2\r\n")
    assert exchange.take() == b"<packed>" * 2
    exchange.feed(b":3\r\n:4\r\n")
    assert [caller.reply for caller in callers] == [0, 1, 2, 3, 4]


def test_a_command_larger_than_the_window_goes_alone() -> None:
    """It neither waits for ever nor shares the window."""
    exchange = an_exchange(window_bytes=4)
    first, second = ask(exchange, 2)
    assert exchange.take() == b"<packed>"
    exchange.feed(b":1\r\n")
    assert exchange.take() == b"<packed>"
    exchange.feed(b":2\r\n")
    assert (first.reply, second.reply) == (1, 2)


def test_one_write_is_never_parted() -> None:
    """Commands that belong together wait until there is room for all of them."""
    exchange = an_exchange(window_bytes=12)
    (first,) = ask(exchange, 1)
    together = Caller()
    exchange.add_all(together, [b"<a>", b"<b>"], inf)
    assert exchange.take() == b"<packed>"
    exchange.feed(b":1\r\n")
    assert exchange.take() == b"<a><b>"
    assert first.reply == 1


def test_deadlines() -> None:
    """Unsent means unavailable, sent means unknown; the reply that comes late is dropped."""
    exchange = an_exchange(window_bytes=20)
    early = ask(exchange, 1, leaves_at=1.0)
    late = ask(exchange, 1, leaves_at=3.0)
    unsent = ask(exchange, 1, leaves_at=1.0)
    exchange.take()
    assert exchange.expire(0.5) == 1.0
    assert exchange.expire(1.0) == 3.0
    assert isinstance(early[0].error, OutcomeUnknown)
    assert isinstance(unsent[0].error, StoreUnavailable)
    exchange.feed(b":1\r\n:2\r\n")
    assert late[0].reply == 2
    assert exchange.expire(9.0) == inf
    assert exchange.unsent == 0


def test_loss() -> None:
    """A lost connection ends every wait with the outcome that is certain."""
    exchange = an_exchange()
    sent = ask(exchange, 2)
    exchange.take()
    unsent = ask(exchange, 2)
    together = Caller()
    exchange.add_all(together, [b"a", b"b"], inf)
    exchange.lose("cut")
    assert [type(caller.error) for caller in sent] == [OutcomeUnknown] * 2
    assert [type(caller.error) for caller in unsent] == [StoreUnavailable] * 2
    assert type(together.error) is StoreUnavailable
    assert exchange.take() == b""


@pytest.mark.parametrize(
    "garbage", [b"hello\r\n", b"\0", b":x\r\n", b"*1\r\n?\r\n", b"%1\r\n*0\r\n:1\r\n"]
)
def test_garbage_is_a_violation(garbage: bytes) -> None:
    """Bytes that are no reply are never taken for one."""
    exchange = an_exchange()
    (caller,) = ask(exchange, 1)
    exchange.take()
    with pytest.raises(ProtocolViolation):
        exchange.feed(garbage)
    assert not caller.done()


def test_a_reply_to_no_command_is_a_violation() -> None:
    """One reply too many means that the order can no longer be trusted."""
    exchange = an_exchange()
    (caller,) = ask(exchange, 1)
    exchange.take()
    with pytest.raises(ProtocolViolation):
        exchange.feed(b":1\r\n:2\r\n")
    assert caller.reply == 1


def test_pushes_are_nobodys_reply() -> None:
    """What comes out of band does not shift the replies."""
    exchange = an_exchange()
    (caller,) = ask(exchange, 1)
    exchange.take()
    exchange.feed(b">2\r\n$10\r\ninvalidate\r\n*0\r\n:1\r\n")
    assert caller.reply == 1


@given(
    replies=st.lists(
        st.sampled_from(["bulk", "null", "error", "array", "push", "int"]), max_size=20
    ),
    cuts=st.lists(st.integers(0, 2000), max_size=20),
)
def test_replies_split_anywhere(replies: list[str], cuts: list[int]) -> None:
    """However the bytes arrive, each caller gets its own reply."""
    exchange = an_exchange()
    shapes = {
        "null": b"_\r\n",
        "push": b">1\r\n+x\r\n",
    }
    stream = b""
    expected: list[object] = []
    for number, kind in enumerate(replies):
        match kind:
            case "bulk":
                stream += bulk(value(number))
                expected.append(value(number))
            case "int":
                stream += b":%d\r\n" % number
                expected.append(number)
            case "array":
                stream += b"*2\r\n" + bulk(value(number)) + b"*1\r\n:%d\r\n" % number
                expected.append([value(number), [number]])
            case "error":
                stream += b"-ERR %d\r\n" % number
                expected.append(f"ERR {number}")
            case "push" | "null":
                stream += shapes[kind]
                if kind == "null":
                    expected.append(None)
    callers = ask(exchange, len(expected))
    exchange.take()
    points = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    for start, end in pairwise(points):
        exchange.feed(stream[start:end])
    got = [str(c.error) if c.error is not None else c.reply for c in callers]
    assert got == expected


@given(
    count=st.integers(1, 12),
    at=st.integers(0, 1000),
    bits=st.integers(1, 255),
    step=st.integers(1, 64),
)
def test_a_garbled_byte_never_gives_a_caller_anothers_reply(
    count: int, at: int, bits: int, step: int
) -> None:
    """Whatever one changed byte does to the framing, nobody gets the value of somebody else.

    (A changed byte inside of a value is that value's caller's only; TCP guards against it.)
    """
    exchange = an_exchange()
    callers = ask(exchange, count)
    exchange.take()
    stream = bytearray(b"".join(bulk(value(number)) for number in range(count)))
    stream[at % len(stream)] ^= bits
    try:
        for start in range(0, len(stream), step):
            exchange.feed(bytes(stream[start : start + step]))
    except ProtocolViolation:
        pass
    exchange.lose("garbled")
    whole = {value(number): number for number in range(count)}
    for number, caller in enumerate(callers):
        assert caller.outcomes == 1
        owner = whole.get(caller.reply) if isinstance(caller.reply, bytes) else None
        assert owner in {None, number}


@given(
    steps=st.lists(
        st.sampled_from(["ask", "ask2", "take", "reply", "leave", "expire"]), max_size=60
    ),
    window=st.integers(1, 64),
)
def test_any_order_of_events(steps: list[str], window: int) -> None:
    """Over any history of asking, sending, replying, leaving and expiring, replies are own.

    The model of the server answers every command it was sent with the command itself.
    """
    exchange = an_exchange(window_bytes=window)
    sent = b""
    now = 0.0
    callers: list[tuple[Caller, object]] = []
    for number, step in enumerate(steps):
        name = b"<%06d>" % number
        caller = Caller()
        if step == "ask":
            callers.append((caller, name))
            exchange.add(caller, name, now + 3)
        elif step == "ask2":
            callers.append((caller, [name, name]))
            exchange.add_all(caller, [name, name], now + 3)
        elif step == "take":
            sent += exchange.take()
        elif step == "reply" and sent:
            exchange.feed(bulk(sent[:8]))
            sent = sent[8:]
        elif step == "leave" and callers:
            callers[number % len(callers)][0].left = True
        elif step == "expire":
            now += 1
            exchange.expire(now)
    exchange.take()
    exchange.lose("end")
    for caller, name in callers:
        assert caller.left or caller.outcomes == 1
        assert caller.error is not None or caller.left or caller.reply == name
