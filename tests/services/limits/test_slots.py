"""Slots: so many at the same time, each leased."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import RateLimited, SettingsError

from ..test_session_commands import counted
from .support import exceeded, make, policy

SLOTS = policy("slots", 2, 30, algorithm="slots")


async def test_no_more_than_there_are(any_store):
    """The third waits until one is given back, or its lease is over."""
    limiter, hand = make(any_store, SLOTS)
    first = await limiter.acquire_slot("ann")
    hand.move(1)
    assert await limiter.acquire_slot("ann")
    third = await limiter.acquire_slot("ann")
    assert not third
    assert third.result.retry_after_ms == 29_000
    await limiter.release_slot(first)
    assert await limiter.acquire_slot("ann")
    hand.move(31)
    assert await limiter.acquire_slot("ann")


async def test_the_same_holder_has_the_same_slot(any_store):
    """So that an unknown outcome can be asked for again."""
    limiter, _ = make(any_store, SLOTS)
    for _ in range(3):
        assert await limiter.acquire_slot("ann", holder="h1")
    assert await any_store.execute("ZCARD", "fw:{ann}:rl:slots") == 1


async def test_a_lease_is_renewed_or_lost(any_store):
    """Who comes too late does not get it back."""
    limiter, hand = make(any_store, SLOTS)
    lease = await limiter.acquire_slot("ann")
    hand.move(29)
    assert await limiter.renew_slot(lease)
    hand.move(29)
    assert await limiter.renew_slot(lease)
    hand.move(30)
    assert not await limiter.renew_slot(lease)
    assert lease.lost.is_set()


async def test_a_slot_is_held_for_the_time_of_a_context(any_store):
    """Also when the body fails or is cancelled."""
    limiter, _ = make(any_store, SLOTS)
    async with limiter.slot("ann"), limiter.slot("ann"):
        with pytest.raises(RateLimited):
            async with limiter.slot("ann"):
                pass
    with pytest.raises(ZeroDivisionError):
        async with limiter.slot("ann"):
            raise ZeroDivisionError

    inside = asyncio.Event()

    async def work():
        async with limiter.slot("ann"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    await asyncio.wait({task})
    assert await any_store.execute("ZCARD", "fw:{ann}:rl:slots") - 1 <= 0  # the mark may stay


async def test_many_at_once_get_as_many_as_there_are(any_store):
    """Two of forty, and the user is told once."""
    limiter, _ = make(any_store, SLOTS)
    leases = await asyncio.gather(*(limiter.acquire_slot("ann") for _ in range(40)))
    assert sum(map(bool, leases)) == 2
    assert await exceeded(any_store) == 1


async def test_slots_and_rates_are_not_mixed_up(any_store):
    """Each says what to call instead."""
    limiter, _ = make(any_store, SLOTS, policy())
    with pytest.raises(SettingsError, match="use slot"):
        await limiter.check_limit("ann", "slots")
    with pytest.raises(SettingsError, match="use check_limit"):
        await limiter.acquire_slot("ann", "p")


async def test_what_slots_cost(tcp_store):
    """One read and two writes to take, one read to be refused."""
    limiter, _ = make(tcp_store, SLOTS)
    await limiter.acquire_slot("bob")
    found = await counted(tcp_store, lambda: limiter.acquire_slot("ann"))
    assert found == {"evalsha": 1, "zrange": 1, "zadd": 1, "pexpire": 1}
    await limiter.acquire_slot("ann")
    await limiter.acquire_slot("ann")
    found = await counted(tcp_store, lambda: limiter.acquire_slot("ann"))
    assert found == {"evalsha": 1, "zrange": 1}


async def test_who_is_cancelled_while_a_slot_is_taken_gives_it_back(tcp_store, monkeypatch):
    """Nobody else knows its holder: it would be held until its lease ends."""
    limiter, _ = make(tcp_store, SLOTS)
    run, taken = tcp_store.run, asyncio.Event()

    async def late(*arguments, **options):
        await run(*arguments, **options)
        taken.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(type(tcp_store), "run", lambda _, *a, **o: late(*a, **o))
    task = asyncio.create_task(limiter.acquire_slot("ann"))
    await taken.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert await tcp_store.execute("ZCARD", "fw:{ann}:rl:slots") == 0
