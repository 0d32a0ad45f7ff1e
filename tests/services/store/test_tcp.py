"""The store as its users see it, on a real server."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import (
    OutcomeUnknown,
    SettingsError,
    StoreRefused,
    StoreUnavailable,
    UsageError,
)
from services.store.port import Store
from services.store.script import Script
from services.store.tcp import TcpStore, TcpStoreOptions

from .conftest import QUICK, Valkey, free_port
from .recorder import Recorder

ECHO = Script("echo", "return {KEYS[1], ARGV[1]}")


async def test_executes_commands(store: Store) -> None:
    """A command's reply comes back as RESP gives it."""
    assert await store.execute("SET", "k", b"\0\xff") == b"OK"
    assert await store.execute("GET", "k") == b"\0\xff"
    assert await store.execute("GET", "missing") is None
    assert await store.execute("INCRBY", "n", 7) == 7


async def test_an_error_reply_is_refused(store: TcpStore) -> None:
    """The server's own words and their first word reach the caller."""
    await store.execute("SET", "k", "text")
    with pytest.raises(StoreRefused, match="not an integer") as caught:
        await store.execute("INCR", "k")
    assert caught.value.prefix == "ERR"
    with pytest.raises(StoreRefused) as caught:
        await store.execute("LPUSH", "k", "x")
    assert caught.value.prefix == "WRONGTYPE"


async def test_runs_scripts_that_the_server_does_not_know(store: TcpStore) -> None:
    """A script works the first time, again, and after the server forgot it."""
    for _ in range(2):
        assert await store.run(ECHO, ["k"], ["a"]) == [b"k", b"a"]
    await store.execute("SCRIPT", "FLUSH")
    replies = await asyncio.gather(*(store.run(ECHO, ["k"], [n]) for n in range(100)))
    assert replies == [[b"k", str(n).encode()] for n in range(100)]


async def test_pipeline_keeps_refusals_in_their_place(store: TcpStore) -> None:
    """One refused command of a pipeline does not touch the others."""
    replies = await store.pipeline([("SET", "a", 1), ("LPUSH", "a", 1), ("GET", "a")])
    assert replies[0] == b"OK"
    assert isinstance(replies[1], StoreRefused)
    assert replies[2] == b"1"
    assert await store.pipeline([]) == []


@pytest.mark.parametrize(
    "command",
    [
        ("SUBSCRIBE", "c"),
        (b"subscribe", "c"),
        ("multi",),
        ("BLPOP", "k", 0),
        ("XREAD", "block", 0, "STREAMS", "s", "$"),
        ("CLIENT", "REPLY", "OFF"),
        ("SELECT", 1),
        (),
    ],
)
async def test_refuses_what_would_disturb_others(store: TcpStore, command) -> None:
    """Commands that need a connection of their own are a bug of the caller."""
    with pytest.raises(UsageError):
        await store.execute(*command)
    with pytest.raises(UsageError):
        await store.pipeline([("PING",), command])
    assert await store.execute("PING") == b"PONG"


async def test_a_listener_hears_in_order(store: TcpStore) -> None:
    """What is published arrives once, in order, as the bytes that were published."""
    listener = Recorder()
    await store.listen("room", listener)
    await asyncio.gather(*(store.execute("PUBLISH", "room", n) for n in range(1000)))
    await listener.wait_for(1000)
    assert listener.messages == [str(n).encode() for n in range(1000)]
    assert listener.interruptions == 0
    await store.unlisten("room")
    assert await store.execute("PUBLISH", "room", "late") == 0
    assert len(listener.messages) == 1000


async def test_one_listener_a_channel(store: TcpStore) -> None:
    """A second listener on a channel is a bug of the caller; after unlisten it is not."""
    first, second = Recorder(), Recorder()
    await store.listen("room", first)
    with pytest.raises(UsageError):
        await store.listen("room", second)
    await store.unlisten("room")
    await store.unlisten("room")
    await store.listen("room", second)
    await store.execute("PUBLISH", "room", "x")
    await second.wait_for(1)
    assert first.messages == []


async def test_over_a_unix_socket(server: Valkey) -> None:
    """unix:// works for commands and subscriptions."""
    async with TcpStore(f"unix://{server.path}?db=3", QUICK) as store:
        listener = Recorder()
        await store.listen("room", listener)
        await store.execute("PUBLISH", "room", "x")
        await listener.wait_for(1)
        info = await store.execute("CLIENT", "INFO")
        assert b" db=3 " in info


async def test_resp2(server: Valkey) -> None:
    """Without RESP3 the same calls work."""
    async with TcpStore(f"{server.url}?protocol=2", QUICK) as store:
        listener = Recorder()
        await store.listen("room", listener)
        await store.execute("PUBLISH", "room", "x")
        await listener.wait_for(1)
        assert b" resp=2 " in await store.execute("CLIENT", "INFO")


async def test_wrong_password(start_server) -> None:
    """The server's words say why, at once, and the password is in no message."""
    server = await start_server("--requirepass", "right")
    for password in (":wrong@", ""):
        with pytest.raises(StoreRefused) as caught:
            await TcpStore.connect(f"redis://{password}127.0.0.1:{server.port}", QUICK)
        assert caught.value.prefix in {"WRONGPASS", "NOAUTH"}
        assert "wrong" not in str(caught.value)
    async with TcpStore(f"redis://:right@127.0.0.1:{server.port}", QUICK) as store:
        assert await store.execute("PING") == b"PONG"


async def test_nobody_there() -> None:
    """open() says what could not be reached, and gives up after its time-out."""
    port = free_port()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
        await TcpStore.connect(f"redis://127.0.0.1:{port}", TcpStoreOptions(timeout_s=0.1))


async def test_opens_without_a_server(server: Valkey) -> None:
    """A store can be opened before its server: not ready, then ready, without a restart."""
    await server.kill()
    store = await TcpStore.connect(server.url, QUICK, wait=False)
    try:
        states: list[bool] = []
        ready = asyncio.Event()
        store.on_state(states.append)
        store.on_state(lambda state: ready.set() if state else None)
        assert not store.ready
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            await store.execute("PING", timeout_s=0.05)
        waiting = asyncio.create_task(store.execute("PING", timeout_s=10))
        await server.start()
        assert await waiting == b"PONG"
        await ready.wait()
        assert states == [True]
        assert store.trouble is None
    finally:
        await store.close()


async def test_close_ends_waiting_calls(server: Valkey) -> None:
    """A closed store answers every call, waiting or new, with a store error."""
    store = await TcpStore.connect(server.url, QUICK)
    await store.execute("CLIENT", "PAUSE", 5000)
    waiting = [asyncio.create_task(store.execute("GET", n)) for n in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await store.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} <= {OutcomeUnknown, StoreUnavailable}
    with pytest.raises(StoreUnavailable):
        await store.execute("PING")
    with pytest.raises(StoreUnavailable):
        await store.listen("c", Recorder())
    await store.close()


async def test_a_store_must_be_opened() -> None:
    """Calls on a store that was never opened are a bug of the caller."""
    store = TcpStore("redis://127.0.0.1")
    with pytest.raises(UsageError):
        await store.execute("PING")
    await store.close()


def test_wrong_url() -> None:
    """A URL is judged before anything is opened."""
    with pytest.raises(SettingsError):
        TcpStore("http://127.0.0.1")
