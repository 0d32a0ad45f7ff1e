"""The load client counts every message of every connection, and notices what is wrong."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import subprocess
from typing import Any

import pytest

from benchmarks.harness.load_client import Group, Load, LoadResult, run_load
from benchmarks.harness.programs import program
from benchmarks.peers import Subscribe, http_publish, payload

from .fake_server import FakeServer, Script, chunk, fake_server, text_frame

CONNECTIONS = 3


def number_of(message: bytes) -> int:
    """Return the number in a message's marker."""
    found = re.search(rb"~SEQ:(\d{8})~", message)
    assert found is not None
    return int(found[1])


async def measure(server: FakeServer, *, sse: bool = False, **settings: Any) -> LoadResult:
    """Run the load client against ``server`` for a moment."""
    subscribe = settings.pop("subscribe", Subscribe("/"))
    load = Load(
        groups=[Group(subscribe, CONNECTIONS, sse=sse)],
        publish=http_publish(server.port, "/", payload()),
        **{"seconds": 0.2, "warm_up_s": 0.05, "patience_s": 5, **settings},
    )
    return await asyncio.to_thread(run_load, load, server.port)


def cut(data: bytes, size: int) -> list[bytes]:
    """Return ``data`` in pieces of ``size``."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def plainly(index: int, message: bytes) -> list[bytes]:
    """Send every message in a frame of its own."""
    return [text_frame(message)]


def in_fragments(index: int, message: bytes) -> list[bytes]:
    """Cut the message in its marker, over two frames with a ping between, and write bytewise."""
    at = message.index(b"~SEQ:") + 7
    frames = (
        text_frame(message[:at], final=False)
        + text_frame(b"?", opcode=9)
        + text_frame(message[at:], opcode=0)
    )
    return cut(frames, 3)


def in_chunks(index: int, message: bytes) -> list[bytes]:
    """Cut an event in its marker, over three chunks, and the chunks over many writes."""
    at = message.index(b"~SEQ:") + 3
    pieces = b"data: " + message[:at], message[at : at + 5], message[at + 5 :] + b"\n\n"
    return cut(b"".join(map(chunk, pieces)), 7)


@pytest.mark.parametrize(
    ("script", "sse"), [(plainly, False), (in_fragments, False), (in_chunks, True)]
)
async def test_every_message_is_counted(script: Script, sse: bool) -> None:
    """However the bytes are cut, each connection is seen to get each message once."""
    async with fake_server(script) as server:
        result = await measure(server, sse=sse)
    assert result.errors == 0
    assert result.published > 1
    assert result.received == result.published * CONNECTIONS
    assert result.latency is not None
    assert 0 < result.latency.count < result.received
    assert result.latency.p50_us <= result.latency.p99_us <= result.latency.max_us


async def test_several_messages_of_one_frame_are_counted() -> None:
    """Pushes that share a frame, separated by newlines, count one by one."""
    held: dict[int, list[bytes]] = {}

    def in_threes(index: int, message: bytes) -> list[bytes]:
        waiting = held.setdefault(index, [])
        waiting.append(message)
        if len(waiting) < 3:
            return []
        frame = text_frame(b"\n".join(waiting))
        waiting.clear()
        return [frame]

    async with fake_server(in_threes) as server:
        result = await measure(server, window=3)
    # The last one or two may have waited for company.
    assert result.missing <= 2 * CONNECTIONS
    assert result.holes == result.repeats == result.strangers == 0
    assert result.received == result.published * CONNECTIONS - result.missing > 0


async def test_a_dropped_message_is_a_hole() -> None:
    """A message that one connection does not get is counted once, and the run goes on."""

    def drops_one(index: int, message: bytes) -> list[bytes]:
        return [] if (index, number_of(message)) == (1, 5) else [text_frame(message)]

    async with fake_server(drops_one) as server:
        result = await measure(server, window=2)
    assert (result.holes, result.repeats, result.strangers, result.missing) == (1, 0, 0, 0)
    assert result.received == result.published * CONNECTIONS - 1


async def test_a_repeated_message_is_an_error() -> None:
    """A message that a connection gets twice is no delivery the second time."""

    def repeats_one(index: int, message: bytes) -> list[bytes]:
        return [text_frame(message)] * (2 if (index, number_of(message)) == (0, 5) else 1)

    async with fake_server(repeats_one) as server:
        result = await measure(server)
    assert (result.holes, result.repeats, result.strangers, result.missing) == (0, 1, 0, 0)
    assert result.received == result.published * CONNECTIONS


async def test_messages_out_of_order_are_errors() -> None:
    """Of two that change places one is a hole, and what comes late counts as a repetition."""
    late: dict[int, bytes] = {}

    def swaps_two(index: int, message: bytes) -> list[bytes]:
        match number_of(message):
            case 5:
                late[index] = message
                return []
            case 6:
                return [text_frame(message) + text_frame(late[index])]
            case _:
                return [text_frame(message)]

    async with fake_server(swaps_two) as server:
        result = await measure(server, window=4)
    assert (result.holes, result.repeats) == (CONNECTIONS, CONNECTIONS)
    assert result.errors == 2 * CONNECTIONS


async def test_what_never_comes_is_missing() -> None:
    """A server that falls silent ends the run, and what it owes is counted."""

    def falls_silent(index: int, message: bytes) -> list[bytes]:
        return [text_frame(message)] if number_of(message) < 5 else []

    async with fake_server(falls_silent) as server:
        result = await measure(server, patience_s=0.2)
    assert (result.published, result.received) == (6, 5 * CONNECTIONS)
    assert result.missing == CONNECTIONS


async def test_a_message_that_nobody_published_is_an_error() -> None:
    """A number from nowhere is not taken for a delivery."""

    def invents_one(index: int, message: bytes) -> list[bytes]:
        frames = [text_frame(message)]
        if number_of(message) == 5:
            frames.append(text_frame(b"~SEQ:99999999~"))
        return frames

    async with fake_server(invents_one) as server:
        result = await measure(server)
    assert result.strangers == CONNECTIONS == result.errors


async def test_hello_and_pings() -> None:
    """A connection greets, waits for the answer, and answers the server's pings."""

    def pings(index: int, message: bytes) -> list[bytes]:
        return [text_frame(message + b"\n{}")]

    async with fake_server(pings) as server:
        subscribe = Subscribe("/", hello=("one", "two"), ping="{}", pong="{pong}")
        result = await measure(server, subscribe=subscribe)
    assert result.errors == 0
    assert server.heard.count(b"one") == server.heard.count(b"two") == CONNECTIONS
    # The answers to the last pings may still have been on their way when the client ended.
    assert server.heard.count(b"{pong}") >= (result.published - 1) * CONNECTIONS


async def test_paced_messages_are_published_at_their_time() -> None:
    """At a pace, so many messages are published as the time has room for."""
    async with fake_server(plainly) as server:
        result = await measure(server, rate_per_s=100, seconds=0.5, warm_up_s=0.1)
    assert result.errors == 0
    assert abs(result.published - 60) <= 1


async def test_a_refusal_is_told() -> None:
    """A server that does not upgrade is quoted."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    load = Load(groups=[Group(Subscribe("/"), 1)])
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        with pytest.raises(RuntimeError, match=r"expected 101.*got: HTTP/1.1 503 Service"):
            await asyncio.to_thread(run_load, load, port)


def percentiles(values: list[int]) -> dict[str, float]:
    """Return what the load client's histogram makes of nanoseconds, in microseconds."""
    done = subprocess.run(
        [program("load"), "percentiles"],
        input="\n".join(map(str, values)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_percentiles_are_right() -> None:
    """Each percentile is that of the sorted values, to the histogram's 0.8 %."""
    chooser = random.Random(7)
    values = [round(math.exp(chooser.uniform(0, 25))) for _ in range(20_000)]
    found, ordered = percentiles(values), sorted(values)
    assert found["count"] == len(values)
    assert found["max_us"] == pytest.approx(max(values) / 1000, abs=0.06)
    for name, percent in (("p50_us", 50), ("p99_us", 99), ("p999_us", 99.9)):
        exact = ordered[math.ceil(len(values) * percent / 100) - 1] / 1000
        assert found[name] == pytest.approx(exact, rel=0.008, abs=0.06)


def test_percentiles_of_few_values() -> None:
    """No values give zeros, and one value is each percentile."""
    assert set(percentiles([]).values()) == {0}
    assert set(percentiles([5_000_000]).values()) == {1, 5000}
