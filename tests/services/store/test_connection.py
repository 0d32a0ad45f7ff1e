"""The shared connection under faults, through a proxy that misbehaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from channels.errors import OutcomeUnknown, StoreError, StoreUnavailable
from services.store.connection import RespConnection, open_connection
from services.store.endpoint import Endpoint
from services.store.packing import pack
from services.store.port import Argument, Reply
from tests.faults import FaultProxy

from .conftest import Valkey


class Client:
    """One connection through the proxy, with a short way to ask."""

    def __init__(self, proxy: FaultProxy, connection: RespConnection) -> None:
        self.proxy = proxy
        self.connection = connection
        self.lost: list[str] = []

    def ask(self, *command: Argument, timeout_s: float = 5.0) -> asyncio.Future[Reply]:
        """Submit one command."""
        leaves_at = asyncio.get_running_loop().time() + timeout_s
        return self.connection.submit(pack(command), leaves_at)


@pytest.fixture
def connect(server: Valkey) -> Callable[..., object]:
    """A context manager that gives a client."""

    @asynccontextmanager
    async def open_client(
        *, silence_s: float = 5.0, window_bytes: int = 1 << 20
    ) -> AsyncIterator[Client]:
        async with FaultProxy(server.port) as proxy:
            lost: list[str] = []
            connection = await open_connection(
                Endpoint(host="127.0.0.1", port=proxy.port),
                timeout_s=2,
                silence_s=silence_s,
                window_bytes=window_bytes,
                on_lost=lambda _, reason: lost.append(reason),
            )
            client = Client(proxy, connection)
            client.lost = lost
            try:
                yield client
            finally:
                connection.give_up("end of test")

    return open_client


async def outcomes(waiting: list[Awaitable[Reply]]) -> list[object]:
    """Return replies and errors."""
    return list(await asyncio.gather(*waiting, return_exceptions=True))


async def test_commands_of_one_turn_share_few_writes(connect) -> None:
    """A hundred commands of one turn of the loop are no hundred writes."""
    async with connect() as client:
        written: list[bytes] = []
        transport = client.connection._transport
        write = transport.write

        class Spy:
            def write(self, data: bytes) -> None:
                written.append(data)
                write(data)

            def __getattr__(self, name: str) -> object:
                return getattr(transport, name)

        client.connection._transport = Spy()
        replies = await outcomes([client.ask("ECHO", n) for n in range(100)])
        client.connection._transport = transport
        assert replies == [b"%d" % n for n in range(100)]
        assert len(written) == 7


async def test_replies_in_pieces(connect) -> None:
    """Single bytes make the same replies."""
    async with connect() as client:
        client.proxy.piece_bytes = 1
        replies = await outcomes([client.ask("ECHO", n) for n in range(50)])
        assert replies == [b"%d" % n for n in range(50)]


async def test_a_cut_is_an_unknown_outcome(connect) -> None:
    """Sent commands may have been executed; later ones were not."""
    async with connect() as client:
        client.proxy.drop_replies = True
        sent = [client.ask("INCR", "n") for _ in range(3)]
        await asyncio.sleep(0)
        assert client.connection.unanswered == 3
        client.proxy.cut()
        assert [type(o) for o in await outcomes(sent)] == [OutcomeUnknown] * 3
        with pytest.raises(StoreUnavailable):
            await client.ask("PING")
        assert len(client.lost) == 1


async def test_unsent_commands_were_not_executed(connect) -> None:
    """A command that is in line when the connection goes is certainly not executed."""
    async with connect() as client:
        asked = client.ask("INCR", "n")
        client.connection.give_up("test")
        with pytest.raises(StoreUnavailable, match="nothing was sent"):
            await asked


async def test_a_dropped_reply_is_an_unknown_outcome_and_not_repeated(connect, server) -> None:
    """Executed once, although the reply was lost: nobody tries again in secret."""
    async with connect(silence_s=0.2) as client:
        client.proxy.drop_replies = True
        with pytest.raises(OutcomeUnknown):
            await client.ask("INCR", "n")
        client.proxy.drop_replies = False
    async with connect() as client:
        assert await client.ask("GET", "n") == b"1"


async def test_a_deadline_leaves_the_connection_in_order(connect) -> None:
    """After a time-out the late reply is dropped and the next caller gets its own."""
    async with connect() as client:
        client.proxy.delay_s = 0.05
        late = client.ask("ECHO", "late", timeout_s=0.01)
        with pytest.raises(OutcomeUnknown, match="deadline"):
            await late
        assert await client.ask("ECHO", "next") == b"next"
        assert client.connection.lost is None


async def test_a_silent_server_is_given_up(connect) -> None:
    """A peer that owes replies and sends nothing is dead, however patient the callers are."""
    async with connect(silence_s=0.1) as client:
        client.proxy.blackhole = True
        started = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="no answer"):
            await client.ask("PING", timeout_s=60)
        assert time.monotonic() - started < 5
        assert client.lost


async def test_an_idle_connection_is_not_silent(connect) -> None:
    """Silence counts from the first command that waits, not from the last reply."""
    async with connect(silence_s=0.1) as client:
        await client.ask("PING")
        await asyncio.sleep(0.3)  # idle for longer than the silence that kills
        assert await client.ask("PING") == b"PONG"


async def test_a_busy_event_loop_is_not_a_silent_server(connect) -> None:
    """When the loop was blocked, replies that lie in the socket count before deadlines do."""
    async with connect(silence_s=0.1) as client:
        asked = client.ask("PING", timeout_s=0.05)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - the blocked loop is the test
        assert await asked == b"PONG"


@pytest.mark.parametrize("garbage", [b"hello\r\n", b"\xff\x00", b":1\r\n:2\r\n:3\r\n"])
async def test_garbage_closes_the_connection(connect, garbage: bytes) -> None:
    """What is no answer to what was asked ends the connection with a clean error."""
    async with connect() as client:
        client.proxy.garble = lambda _: garbage
        first = client.ask("GET", "a")
        second = client.ask("GET", "b")
        results = await outcomes([first, second])
        assert all(isinstance(r, OutcomeUnknown) or r in {1, 2} for r in results)
        assert "protocol violation" in client.lost[0]


async def test_a_cut_in_the_middle_of_a_reply(connect) -> None:
    """Half a reply is no reply."""
    async with connect() as client:
        await client.ask("SET", "big", b"x" * 100_000)
        client.proxy.garble = lambda data: data[:1000]
        asked = client.ask("GET", "big")
        await asyncio.wait({asked}, timeout=0.05)
        client.proxy.cut()
        with pytest.raises(OutcomeUnknown):
            await asked


async def test_the_window_holds_callers_back(connect) -> None:
    """Beyond the window callers wait in line; those whose time is over were not executed."""
    async with connect(window_bytes=2000) as client:
        client.proxy.delay_s = 0.2
        asked = [client.ask("SET", "k", b"x" * 500, timeout_s=0.05) for _ in range(10)]
        results = [type(result) for result in await outcomes(asked)]
        assert results == [OutcomeUnknown] * 3 + [StoreUnavailable] * 7
        client.proxy.delay_s = 0
        # More of them than leave before a turn of the loop is over.
        for burst in range(3):
            asked = [client.ask("ECHO", b"%d" % n * 500) for n in range(100)]
            for _ in range(burst):
                await asyncio.sleep(0)
            asked += [client.ask("ECHO", b"%d" % n * 500) for n in range(100)]
            assert await outcomes(asked) == [b"%d" % n * 500 for n in range(100)] * 2


async def test_a_full_socket_keeps_commands_in_line(connect, server: Valkey) -> None:
    """When the socket takes no more, commands wait; all are answered when it does again."""
    async with connect(window_bytes=1 << 30, silence_s=30) as client:
        server.pause()
        asked = []
        while not client.connection._paused:
            asked.append(client.ask("ECHO", b"%d" % len(asked) * 100_000, timeout_s=30))
            await asyncio.sleep(0)
        asked.append(client.ask("ECHO", b"last", timeout_s=30))
        await asyncio.sleep(0)
        assert client.connection._exchange.unsent == 1
        server.resume()
        replies = await outcomes(asked)
        assert replies == [b"%d" % n * 100_000 for n in range(len(asked) - 1)] + [b"last"]


async def test_retire_answers_first(connect) -> None:
    """A connection that is left ends when the replies that were due have come."""
    async with connect() as client:
        asked = [client.ask("ECHO", n) for n in range(3)]
        client.connection.retire("moved")
        assert await outcomes(asked) == [b"0", b"1", b"2"]
        assert client.lost == ["moved"]


async def test_a_cancelled_caller_leaves_its_reply_behind(connect) -> None:
    """Cancelling one of three leaves the other two with their own replies."""
    async with connect() as client:
        first, second, third = (client.ask("ECHO", n) for n in range(3))
        await asyncio.sleep(0)
        second.cancel()
        assert await outcomes([first, third]) == [b"0", b"2"]


async def test_nobody_answers_the_greeting(server: Valkey) -> None:
    """A server that accepts and says nothing is unavailable within the time-out."""
    async with FaultProxy(server.port) as proxy:
        proxy.blackhole = True
        with pytest.raises(StoreUnavailable):
            await open_connection(
                Endpoint(host="127.0.0.1", port=proxy.port),
                timeout_s=0.1,
                silence_s=1,
                window_bytes=1000,
            )


async def test_random_garbling_never_gives_a_wrong_reply(connect) -> None:
    """A hundred connections with a broken byte each: errors, and never another's value."""
    for seed in range(100):
        async with connect(silence_s=0.05) as client:
            names = [b"<%03d>" % n * 20 for n in range(20)]
            spoilt = seed * 7 % 1500

            def garble(data: bytes, spoilt: int = spoilt) -> bytes:
                at = spoilt % len(data)
                return data[:at] + bytes([data[at] ^ (1 + spoilt % 255)]) + data[at + 1 :]

            client.proxy.garble = garble
            results = await outcomes([client.ask("ECHO", name) for name in names])
            for name, result in zip(names, results, strict=True):
                assert result not in names or result == name
                assert isinstance(result, StoreError | bytes | int | float | bool | None | list)
