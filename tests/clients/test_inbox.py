"""The bounded buffer."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import UsageError
from clients.inbox import Inbox


async def test_items_come_in_order_and_never_more_than_fit() -> None:
    """The writer waits for room."""
    inbox: Inbox[int] = Inbox(3)
    most = 0

    async def write() -> None:
        nonlocal most
        for number in range(100):
            await inbox.put(number)
            most = max(most, len(inbox))
        inbox.close()

    writing = asyncio.create_task(write())
    found = [await inbox.get() for _ in range(100)]
    with pytest.raises(StopAsyncIteration):
        await inbox.get()
    await writing
    assert (found, most) == (list(range(100)), 3)


async def test_an_error_comes_after_what_is_left() -> None:
    """And again, for whoever asks again; the first end counts."""
    inbox: Inbox[int] = Inbox(3)
    await inbox.put(1)
    inbox.close(LookupError("end"))
    inbox.close()
    assert await inbox.get() == 1
    for _ in range(2):
        with pytest.raises(LookupError):
            await inbox.get()


async def test_a_closed_inbox_drops_and_lets_the_writer_go() -> None:
    """Nobody waits for a reader that left."""
    inbox: Inbox[int] = Inbox(1)
    await inbox.put(1)
    writing = asyncio.create_task(inbox.put(2))
    await asyncio.sleep(0)
    inbox.close(discard=True)
    await writing
    await inbox.put(3)
    with pytest.raises(StopAsyncIteration):
        await inbox.get()


async def test_a_cancelled_reader_loses_nothing() -> None:
    """What comes after it goes to the next one."""
    inbox: Inbox[int] = Inbox(1)
    reading = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await inbox.put(1)
    assert await inbox.get() == 1


async def test_two_readers_are_a_mistake() -> None:
    """Items would be dealt out between them."""
    inbox: Inbox[int] = Inbox(1)
    reading = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    with pytest.raises(UsageError):
        await inbox.get()
    await inbox.put(1)
    assert await reading == 1
