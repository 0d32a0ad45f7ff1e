"""What operations cost where each command is billed: as ``docs/upstash.md`` has it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from channels.catalogue import Catalogue
from channels.position import Position
from services.context import Context
from services.event_log import EventLog
from services.redis_health import verify_redis_connection
from services.store.keys import Keys
from services.store.upstash import UpstashStore
from tests.rest_endpoint import RestEndpointServer

from .support import append, body, make_channel

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "upstash.md"
CHANNEL = make_channel()
#: A whole hour, so that tests say themselves when a second or an hour is over.
NOW_MS = 1_800_000_000_000 // 3_600_000 * 3_600_000


class Desk:
    """What the operations work with, in a time that stands still."""

    def __init__(self, store: UpstashStore, keys: Keys) -> None:
        self.store = store
        self.keys = keys
        self.log = EventLog(store, keys)
        self.context = Context(store, keys, Catalogue())
        self.now_ms = NOW_MS

    async def publish(self, number: int, *, size: int = 2_000, **options: str) -> None:
        """Publish to the channel."""
        await self.log.append(make_channel(size=size), body(number), **options)

    async def prepare(self) -> None:
        """Have five publications, and every script known."""
        await append(self.log, CHANNEL, 1, 2, 3, 4, 5)
        await self.publish(6, idempotency_key="used")
        page = await self.log.read(CHANNEL)
        await self.log.recover(CHANNEL, Position(page.top.epoch, 1))
        await self.log.fork(CHANNEL, "another epoch")
        await self.context.sweeper.sweep()
        self.epoch = page.top.epoch


Operation = Callable[[Desk], Awaitable[object]]


async def _after(desk: Desk, passed_ms: int) -> None:
    desk.now_ms += passed_ms
    await desk.publish(7)


async def _unknown(desk: Desk) -> None:
    await desk.store.execute("SCRIPT", "FLUSH")
    await desk.publish(7)


async def _first(desk: Desk) -> None:
    await desk.log.append(make_channel("test:new"), body(1))


#: By the name of their row; a number is what is paid for what stands around the operation.
OPERATIONS: dict[str, tuple[Operation, int]] = {
    "publish": (lambda desk: desk.publish(7), 0),
    "publish, first of a second": (lambda desk: _after(desk, 1_000), 0),
    "publish, first of an hour": (lambda desk: _after(desk, 3_600_000), 0),
    "publish, first of a channel": (_first, 0),
    "publish with an idempotency key": (lambda desk: desk.publish(7, idempotency_key="new"), 0),
    "publish with a key that was used": (lambda desk: desk.publish(7, idempotency_key="used"), 0),
    "publish without history": (lambda desk: desk.publish(7, size=0), 0),
    "publish, script not known yet": (_unknown, 1),
    "read a page": (lambda desk: desk.log.read(CHANNEL), 0),
    "read the top": (lambda desk: desk.log.read(CHANNEL, limit=0), 0),
    "recover, a page": (lambda desk: desk.log.recover(CHANNEL, Position(desk.epoch, 1)), 0),
    "tops, each channel": (lambda desk: desk.log.tops([CHANNEL]), 0),
    "list channels": (lambda desk: desk.log.names(), 0),
    "forget a history": (lambda desk: desk.log.remove(CHANNEL), 0),
    "begin a new epoch": (lambda desk: desk.log.fork(CHANNEL, desk.epoch), 0),
    "register a deadline": (lambda desk: desk.context.sweeper.register("w1", 2**50), 0),
    "look for what is due, nothing is": (lambda desk: desk.context.sweeper.sweep(), 0),
    "measure the clock": (lambda desk: desk.context.clock.measure(), 0),
    "verify the connection": (lambda desk: verify_redis_connection(desk.store, desk.keys), 0),
}


def _table() -> dict[str, int]:
    rows = re.findall(r"^\| ([^|]+?) \| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE)
    return {name: int(commands) for name, commands in rows}


@pytest.fixture
async def desk(rest_store: UpstashStore, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk with everything prepared."""
    desk = Desk(rest_store, keys)
    monkeypatch.setattr("services.event_log._now_ms", lambda: desk.now_ms)
    await desk.prepare()
    return desk


def test_every_row_is_measured() -> None:
    """And everything that is measured has its row."""
    assert _table().keys() == OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_costs_what_its_row_says(
    endpoint: RestEndpointServer, desk: Desk, name: str
) -> None:
    """Commands inside of scripts included; no script takes the lock of the whole database."""
    operation, around = OPERATIONS[name]
    with endpoint.bill() as bill:
        await operation(desk)
    assert bill.commands - around == _table()[name]
    assert endpoint.app.database.global_locks == 0
