"""The ground of the services on every kind of store: the clock, what is due, changes that tell."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import chain

import pytest

from channels.errors import OutcomeUnknown, StoreRefused
from channels.publication import encode_body
from services.event_log import EventLog
from services.store.script import Script
from tests.rest_endpoint import Fault

from .support import make_channel

CHANNEL = make_channel()

#: A change as the contract has it: guarded, told first, then written.
_BODY = """
-- include event_log
if redis.call('GET', KEYS[3]) == ARGV[10] then
  return {0, 0}
end
local err, epoch, offset, hourly = append_event(KEYS[1], KEYS[2], 1, ARGV[11])
if err then
  return err
end
redis.call('SET', KEYS[3], ARGV[10])
redis.call('ZADD', KEYS[4], ARGV[12], 'light:' .. ARGV[10])
return {1, hourly, epoch, offset}
"""


@pytest.fixture(scope="module")
def switch() -> Script:
    """A script that sets a light and has it end."""
    from services.store.script import _INCLUDE, _read  # noqa: PLC0415

    text = _INCLUDE.sub(lambda found: _read("lib", f"{found[1]}.lua"), _BODY)
    return Script("switch", text)


async def test_a_change_is_told_and_written_or_neither(context, switch):
    """In one script; a guard that says no writes nothing, an error changes nothing."""
    keys = ["fw:{test:one}:light", context.keys.due("test:one")]
    body = encode_body(b'{"light":"on"}')
    done = await context.changes.run(switch, CHANNEL, keys, ["on", body, 2**50], event="e1")
    assert (done.code, done.values[1]) == (1, 1)
    again = await context.changes.run(switch, CHANNEL, keys, ["on", body, 2**50])
    assert again.code == 0
    page = await context.log.read(CHANNEL)
    assert [publication.id for publication in page.publications] == ["e1"]
    await context.store.execute("DEL", context.keys.log(CHANNEL))
    await context.store.execute("LPUSH", context.keys.log(CHANNEL), "foreign")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await context.changes.run(switch, CHANNEL, keys, ["off", body, 2**50])
    assert await context.store.execute("GET", keys[0]) == b"on"


async def test_what_is_due_ends_once(context):
    """By whichever node claims it; what is not due yet is looked at when it is."""
    now_ms = context.clock.now_ms()
    ended: list[tuple[str, str]] = []

    async def end(root: str, id: str) -> None:
        ended.append((root, id))
        await context.store.execute("ZREM", context.keys.due(root), context.sweeper.member("x", id))

    context.sweeper.handle("x", end)
    await context.sweeper.register("w1", now_ms - 1)
    await context.store.execute(
        "ZADD", context.keys.due("w1"), now_ms - 1, "x:one", now_ms + 60_000, "x:two"
    )
    await asyncio.gather(*(context.sweeper.sweep() for _ in range(4)))
    assert ended == [("w1", "one")]
    next_ms = await context.sweeper.sweep()
    # A second look first, for whoever wrote just after.
    assert next_ms is not None
    assert next_ms <= now_ms + 60_000
    assert ended == [("w1", "one")]


async def test_the_clock_is_the_servers(context):
    """Measured in one round trip."""
    await context.clock.measure()
    here = datetime.now(UTC).timestamp() * 1000
    assert abs(context.clock.now_ms() - here) < 10_000


async def test_a_log_is_one_log_on_every_store(any_store, tcp_log, keys):
    """What one store appends another reads, at the same positions."""
    log = EventLog(any_store, keys)
    first = await log.append(CHANNEL, encode_body(b"1"), id="a")
    second = await tcp_log.append(CHANNEL, encode_body(b"2"), id="b")
    assert second.position.epoch == first.position.epoch
    assert [one.id for one in (await log.read(CHANNEL)).publications] == ["a", "b"]


async def test_publishing_over_two_stores_at_once_leaves_no_hole(any_store, tcp_log, keys):
    """Every offset once, whichever way it came."""
    log = EventLog(any_store, keys)

    async def publish(through: EventLog) -> list[int]:
        done = [await through.append(CHANNEL, encode_body(b"1")) for _ in range(5)]
        return [one.position.offset for one in done]

    offsets = await asyncio.gather(*(publish(one) for one in [log, tcp_log] * 10))
    assert sorted(chain.from_iterable(offsets)) == list(range(1, 101))


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.TRUNCATE, Fault.RESET, Fault.HTML_503])
async def test_an_unknown_outcome_is_made_sure_by_the_key(endpoint, rest_store, keys, fault):
    """Whether it had been executed or not, the second attempt leaves exactly one publication."""
    log = EventLog(rest_store, keys)
    endpoint.fail(fault)
    with pytest.raises(OutcomeUnknown):
        await log.append(CHANNEL, encode_body(b"1"), id="a", idempotency_key="k")
    await log.append(CHANNEL, encode_body(b"1"), id="b", idempotency_key="k")
    page = await log.read(CHANNEL)
    assert len(page.publications) == 1
    assert page.top.offset == 1
