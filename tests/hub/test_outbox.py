"""The outbox: what waits for one client, bounded in bytes."""

from __future__ import annotations

import asyncio
import socket

from hypothesis import given
from hypothesis import strategies as st

from hub.frame import Batch, Frame
from hub.frame_queue import Entry
from hub.outbox import MAX_TAKE_BYTES, Outbox
from hub.traffic import Traffic

from .harness import publication


def outbox_of(limit_bytes: int) -> Outbox:
    """Return an outbox that counts for itself."""
    return Outbox(limit_bytes, Traffic())


def test_what_waits_comes_out_in_order() -> None:
    """Replies and publications as they came."""
    outbox = outbox_of(1_000)
    frame = Frame(publication(1))
    assert outbox.push(b'{"id":1}')
    assert outbox.push(frame)
    assert len(outbox) == 8 + len(frame)
    assert outbox.take() == [b'{"id":1}', frame]
    assert (len(outbox), outbox.take(), bool(outbox)) == (0, [], False)


def test_whoever_writes_is_told_once() -> None:
    """When something begins to wait, and again only after all was taken."""
    outbox = outbox_of(1_000)
    calls: list[None] = []
    outbox.on_ready = lambda: calls.append(None)
    outbox.push(b"a")
    outbox.push(b"b")
    assert len(calls) == 1
    outbox.take()
    outbox.push(b"c")
    assert len(calls) == 2


def test_nothing_overtakes_what_waits() -> None:
    """Once something queues, the way past the queue is closed until a transport opens it."""
    outbox = outbox_of(1_000)
    outbox.open(lambda data: None)
    outbox.push(b"a")
    assert not outbox.write_now(b"b")
    outbox.take()
    assert not outbox.write_now(b"b")


def test_past_the_queue_it_goes_to_the_socket() -> None:
    """What the socket does not take goes to the transport, in order; so does all under TLS."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        outbox = outbox_of(1_000)
        held = bytearray()
        outbox.open(held.extend, ours.fileno())
        assert outbox.write_now(b"first")
        assert theirs.recv(100) == b"first"
        assert not held
        large = bytes(range(256)) * 40_000
        assert outbox.write_now(large)  # more than it takes
        assert outbox.write_now(b"last")  # and now nothing at all
        taken = len(large) + 4 - len(held)
        assert 0 < taken < len(large)
        assert _received(theirs, taken) + held == large + b"last"
        outbox.open(held.extend)
        assert outbox.write_now(b"more")
        assert held.endswith(b"lastmore")


def test_a_broken_socket_is_the_transports_to_find() -> None:
    """It gets the bytes, and notices."""
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        outbox = outbox_of(1_000)
        held: list[bytes] = []
        outbox.open(held.append, ours.fileno())
        assert outbox.write_now(b"lost")
        assert held == [b"lost"]


def _received(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += sock.recv(1 << 20)
    return data


def test_what_is_taken_at_once_is_bounded() -> None:
    """A backlog goes out in pieces; one large entry goes out alone."""
    outbox = outbox_of(1 << 22)
    for _ in range(10):
        outbox.push(b"x" * 20_000)
    outbox.push(b"y" * (2 * MAX_TAKE_BYTES))
    outbox.push(b"z")
    sizes = []
    while entries := outbox.take():
        sizes.append([len(entry) for entry in entries])
    assert sizes == [[20_000] * 3] * 3 + [[20_000], [2 * MAX_TAKE_BYTES], [1]]


def test_the_limit_refuses_and_keeps_what_is_there() -> None:
    """What does not fit is not queued; what was queued is."""
    outbox = outbox_of(10)
    assert outbox.push(b"12345")
    assert outbox.push(b"67890")
    assert not outbox.push(b"1")
    assert outbox.take() == [b"12345", b"67890"]
    assert outbox.push(b"1")


def test_what_was_asked_for_comes_on_top() -> None:
    """A recovery may be larger than the limit, and leaves the limit to what comes live."""
    outbox = outbox_of(10)
    outbox.push_backlog(b"x" * 1_000)
    assert outbox.push(b"1234567890")
    assert not outbox.push(b"1")
    while outbox.take():
        pass
    assert not outbox.push(b"12345678901")


def test_a_debt_before_a_batch_is_what_counts() -> None:
    """A batch larger than the limit is taken whole by who owed nothing; the next one is not.

    Publications without a key are never dropped to make room: the client is let go.
    """
    batch = Batch([publication(offset) for offset in range(1, 4)])
    outbox = outbox_of(batch.size - 1)
    assert outbox.push_batch(batch)
    assert not outbox.push_batch(batch)
    assert outbox.take() == batch.frames
    assert outbox.push_batch(batch)


def test_the_newest_of_a_key_takes_the_place_of_the_older() -> None:
    """A gauge costs a slow reader the room of one publication, however often it moves."""
    traffic = Traffic()
    gauge = [publication(offset, key="g") for offset in range(1, 1_001)]
    outbox = Outbox(3 * len(gauge[-1].wire), traffic)
    for each in gauge:
        assert outbox.push_batch(Batch([each]))
    assert traffic.drops == {"conflated": 999}
    [frame] = outbox.take()
    assert isinstance(frame, Frame)
    assert (frame.publication, frame.skipped) == (gauge[-1], 999)


async def test_drained_waits_for_the_reader() -> None:
    """It returns at once below the limit, and when the client took, or was given up."""
    outbox = outbox_of(10)
    await outbox.drained()
    for release in (outbox.take, outbox.clear):
        outbox.push_backlog(b"x" * 11)
        waiting = asyncio.create_task(outbox.drained())
        await asyncio.sleep(0)
        assert not waiting.done()
        release()
        async with asyncio.timeout(5):
            await waiting


async def test_drained_may_be_cancelled() -> None:
    """Nobody is woken that is not there, and the next one waits as well."""
    outbox = outbox_of(10)
    outbox.push_backlog(b"x" * 11)
    for _ in range(2):
        waiting = asyncio.create_task(outbox.drained())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    outbox.take()
    await outbox.drained()


@given(
    limit=st.integers(1, 200),
    steps=st.lists(st.one_of(st.integers(1, 60), st.integers(-60, -1), st.none()), max_size=60),
)
def test_nothing_is_lost_and_the_debt_is_bounded(limit: int, steps: list[int | None]) -> None:
    """Positive steps push, negative ones push a backlog, None takes: the text is the same."""
    outbox = outbox_of(limit)
    pushed: list[Entry] = []
    taken: list[Entry] = []
    asked = 0
    for number, step in enumerate(steps):
        if step is None:
            taken += outbox.take()
            asked = 0 if not len(outbox) else asked
            continue
        item = f"{number}:".ljust(abs(step), "x").encode()
        if step < 0:
            outbox.push_backlog(item)
            asked += len(item)
            pushed.append(item)
        elif outbox.push(item):
            pushed.append(item)
        assert len(outbox) <= limit + asked
    while entries := outbox.take():
        taken += entries
    assert taken == pushed
