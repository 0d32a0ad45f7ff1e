"""A caller that leaves never shifts the replies of those who stay.

In 2023 a cancelled call left its reply in the connection, and strangers read each other's
data (CVE-2023-28858). Here every call asks for a value of its own, so that any reply that
reaches the wrong caller shows, and calls are cancelled and timed out at random, before they
are sent, on their way and when the reply is there.
"""

from __future__ import annotations

import asyncio
import random
import re

import msgspec

from channels.errors import OutcomeUnknown, StoreError, StoreUnavailable
from services.store.tcp import TcpStore
from tests.faults import FaultProxy

from .conftest import QUICK, Valkey

#: Calls that end early in the great storm (some fifteen seconds).
CALLS = 1_000_000


class Tally:
    """What became of the calls."""

    def __init__(self) -> None:
        self.made = 0
        self.cancelled = 0
        self.timed_out = 0
        self.right = 0
        self.wrong: list[tuple[bytes, object]] = []

    @property
    def left_early(self) -> int:
        """Calls whose caller did not wait for the reply."""
        return self.cancelled + self.timed_out

    def count(self, name: bytes, outcome: object) -> None:
        """Judge one outcome; an error that is no deadline is an error of the test."""
        if isinstance(outcome, asyncio.CancelledError):
            self.cancelled += 1
        elif isinstance(outcome, OutcomeUnknown | StoreUnavailable):
            self.timed_out += 1
        elif isinstance(outcome, BaseException):
            raise outcome
        elif outcome in (name, [name, name]):
            self.right += 1
        else:
            self.wrong.append((name, outcome))


async def worker(store: TcpStore, tally: Tally, calls: int, seed: int) -> None:
    """Make calls in batches and let most of them end early, until ``calls`` have."""
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    while tally.left_early < calls and not tally.wrong:
        names = [b"%d.%d" % (seed, tally.made + n) for n in range(64)]
        tally.made += len(names)
        tasks: list[asyncio.Task[object]] = []
        for name in names:
            chance = rng.random()
            if chance < 0.05:
                call = store.execute("ECHO", name, timeout_s=rng.choice((0.0, 0.0005, 0.001)))
            elif chance < 0.1:
                call = store.pipeline([("ECHO", name), ("ECHO", name)])
            else:
                call = store.execute("ECHO", name)
            tasks.append(loop.create_task(call))
        # Some are cancelled before they start, most a few turns of the loop later.
        rng.shuffle(victims := tasks[:])
        for turn in range(4):
            for task in victims[turn * 13 : turn * 13 + 13]:
                task.cancel()
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for name, outcome in zip(names, outcomes, strict=True):
            tally.count(name, outcome)


async def storm(store: TcpStore, calls: int) -> Tally:
    """Let eight workers share the store."""
    tally = Tally()
    async with asyncio.TaskGroup() as group:
        for seed in range(8):
            group.create_task(worker(store, tally, calls, seed))
    return tally


async def test_no_wrong_reply_among_a_million_cancelled_calls(store: TcpStore) -> None:
    """However many callers leave at whatever moment, everybody else gets the right reply."""
    await store.execute("CONFIG", "RESETSTAT")
    tally = await storm(store, CALLS)
    assert tally.wrong == []
    assert tally.left_early >= CALLS
    assert tally.right > CALLS // 20
    # Many left when their command was on its way, so that its reply had to be dropped.
    found = re.search(rb"cmdstat_echo:calls=(\d+)", await store.execute("INFO", "commandstats"))
    assert found is not None
    assert int(found[1]) - tally.right > CALLS // 4
    assert await store.execute("ECHO", "after") == b"after"


async def test_no_wrong_reply_when_replies_are_slow_and_split(server: Valkey) -> None:
    """The same when every reply is on its way for a while and comes in pieces."""
    async with FaultProxy(server.port) as proxy, TcpStore(proxy.url, QUICK) as store:
        proxy.delay_s = 0.001
        proxy.piece_bytes = 700
        tally = await storm(store, 5000)
        assert tally.wrong == []
        assert tally.right > 0


async def test_no_wrong_reply_when_connections_are_killed(server: Valkey) -> None:
    """The same while the connection is cut a thousand times under load."""
    options = msgspec.structs.replace(QUICK, backoff_s=(0.0001, 0.001))
    async with TcpStore(server.url, options) as store, TcpStore(server.url, QUICK) as other:
        tally = Tally()
        done = False
        killed = 0

        async def call(name: bytes) -> None:
            try:
                outcome: object = await store.execute("ECHO", name)
            except StoreError as error:
                outcome = error
            tally.count(name, outcome)

        async def work(seed: int) -> None:
            number = 0
            while not done:
                number += 1
                await call(b"%d.%d" % (seed, number))

        async with asyncio.TaskGroup() as group:
            for seed in range(32):
                group.create_task(work(seed))
            while killed < 1000:
                killed += await other.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            done = True
        assert tally.wrong == []
        assert tally.right > 0
        assert tally.timed_out > 0
        assert await store.execute("ECHO", "after") == b"after"
