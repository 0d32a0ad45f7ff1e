"""The outbox: what waits for one client, bounded in bytes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from hub.frame import Frame
from hub.outbox import MAX_MESSAGE_BYTES, Outbox

from .harness import publication


def test_what_waits_goes_out_together() -> None:
    """Replies and publications in the order they came, one a line."""
    outbox = Outbox(1_000)
    frame = Frame(publication(1))
    assert outbox.push(b'{"id":1}')
    assert outbox.push(frame)
    assert len(outbox) == 8 + len(frame)
    assert outbox.take() == '{"id":1}\n' + frame.text
    assert (len(outbox), outbox.take()) == (0, "")


def test_ready_says_whether_something_waits() -> None:
    """It is set by a push, and cleared once all is taken."""
    outbox = Outbox(100_000)
    assert not outbox.ready.is_set()
    outbox.push(b"x" * MAX_MESSAGE_BYTES)
    outbox.push(b"y")
    assert outbox.ready.is_set()
    outbox.take()
    assert outbox.ready.is_set()
    outbox.take()
    assert not outbox.ready.is_set()


def test_clearing_keeps_the_writer_awake() -> None:
    """Whoever clears has something else to tell the writer."""
    outbox = Outbox(100)
    outbox.push(b"x")
    outbox.clear()
    assert outbox.ready.is_set()
    assert (len(outbox), outbox.take()) == (0, "")


def test_a_message_has_a_sensible_size() -> None:
    """A backlog goes out in pieces; one large item goes out alone."""
    outbox = Outbox(1 << 20)
    for _ in range(10):
        outbox.push(b"x" * 10_000)
    outbox.push(b"y" * (2 * MAX_MESSAGE_BYTES))
    outbox.push(b"z")
    sizes = []
    while text := outbox.take():
        sizes.append(len(text))
    assert sizes == [30_002, 30_002, 30_002, 10_000, 2 * MAX_MESSAGE_BYTES, 1]


def test_the_limit_refuses_and_keeps_what_is_there() -> None:
    """What does not fit is not queued; what was queued is."""
    outbox = Outbox(10)
    assert outbox.push(b"12345")
    assert outbox.push(b"67890")
    assert not outbox.push(b"1")
    assert outbox.take() == "12345\n67890"
    assert outbox.push(b"1")


def test_what_was_asked_for_comes_on_top() -> None:
    """A recovery may be larger than the limit, and leaves the limit to what comes live."""
    outbox = Outbox(10)
    outbox.push_backlog(b"x" * 1_000)
    assert outbox.push(b"1234567890")
    assert not outbox.push(b"1")
    while outbox.take():
        pass
    assert not outbox.push(b"12345678901")


async def test_drained_waits_for_the_reader() -> None:
    """It returns at once below the limit, and when the client took, or was given up."""
    outbox = Outbox(10)
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
    outbox = Outbox(10)
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
    outbox = Outbox(limit)
    pushed: list[str] = []
    taken: list[str] = []
    asked = 0
    for number, step in enumerate(steps):
        if step is None:
            taken += outbox.take().split("\n")
            asked = 0 if not len(outbox) else asked
            continue
        item = f"{number}:".ljust(abs(step), "x")
        if step < 0:
            outbox.push_backlog(item.encode())
            asked += len(item)
            pushed.append(item)
        elif outbox.push(item.encode()):
            pushed.append(item)
        assert len(outbox) <= limit + asked
    while text := outbox.take():
        taken += text.split("\n")
    assert [text for text in taken if text] == pushed
