"""Listening on a real server: cuts by the thousand, and a connection that lies."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from channels.errors import StoreRefused, StoreUnavailable
from services.store.tcp import TcpStore
from tests.faults import FaultProxy

from .conftest import QUICK, Valkey
from .recorder import Recorder

#: Cuts of the pub/sub connection in one test.
CUTS = 2000


async def test_cut_by_the_thousand_no_listener_is_lost_and_no_cut_is_hushed_up(
    server: Valkey,
) -> None:
    """After each of thousands of CLIENT KILLs every listener is told, and hears again."""
    options = msgspec.structs.replace(QUICK, backoff_s=(0.0001, 0.001))
    async with TcpStore(server.url, options) as store, TcpStore(server.url) as killer:
        listeners = [Recorder() for _ in range(10)]
        await asyncio.gather(*(store.listen(f"c{n}", one) for n, one in enumerate(listeners)))
        done = False

        async def publish() -> int:
            """Number the messages of one channel, until the end."""
            number = 0
            while not done:
                number += 1
                await killer.execute("PUBLISH", "c0", number)
            return number

        publishing = asyncio.create_task(publish())
        for cut in range(1, CUTS + 1):
            assert await killer.execute("CLIENT", "KILL", "TYPE", "pubsub") >= 1
            for listener in listeners:
                await listener.wait_for(interruptions=cut)
        done = True
        # The one that was under way may have come before the channel was heard again.
        last = await publishing + 1
        await killer.execute("PUBLISH", "c0", last)
        await listeners[0].wait_for_message(b"%d" % last)
        for n, listener in enumerate(listeners):
            assert listener.interruptions == CUTS
            assert await store.execute("PUBLISH", f"c{n}", "still there") == 1
            await listener.wait_for_message(b"still there")
        # A hole in the numbers is always told: nothing is missed between two interruptions.
        before: int | None = None
        for heard in listeners[0].log[:-1]:
            assert heard is None or before is None or int(heard) == before + 1
            before = None if heard is None else int(heard)


async def test_listening_and_unlistening_while_cut(server: Valkey) -> None:
    """Listeners that come and go during cuts are confirmed, told, or gone for good."""
    options = msgspec.structs.replace(QUICK, backoff_s=(0.0001, 0.001), timeout_s=20)
    async with TcpStore(server.url, options) as store, TcpStore(server.url) as killer:
        done = False

        async def cut() -> None:
            while not done:
                await killer.execute("CLIENT", "KILL", "TYPE", "pubsub")

        async def come_and_go(n: int) -> None:
            for _ in range(50):
                listener = Recorder()
                await store.listen(f"c{n}", listener)
                await store.unlisten(f"c{n}")
                listener.messages.clear()
                await killer.execute("PUBLISH", f"c{n}", "x")
                assert listener.messages == []

        cutting = asyncio.create_task(cut())
        await asyncio.gather(*(come_and_go(n) for n in range(20)))
        done = True
        await cutting
        listener = Recorder()
        await store.listen("last", listener)
        await store.execute("PUBLISH", "last", "x")
        await listener.wait_for(1)


async def test_server_killed_and_restarted(server: Valkey) -> None:
    """The listener is told when it stands again; readiness shows the time between."""
    async with TcpStore(server.url, QUICK) as store:
        states: asyncio.Queue[bool] = asyncio.Queue()
        listener = Recorder()
        await store.listen("room", listener)
        store.on_state(states.put_nowait)
        for round_ in range(1, 4):
            await server.kill()
            assert await states.get() is False
            assert not store.ready
            await server.start()
            await listener.wait_for(interruptions=round_)
            assert await states.get() is True
            await store.execute("PUBLISH", "room", round_)
            await listener.wait_for(round_)
        assert listener.log == [None, b"1", None, b"2", None, b"3"]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_connection_that_lies_is_found_by_the_probe(server: Valkey, protocol) -> None:
    """A pub/sub connection that stands and stays silent is replaced, and the listener told."""
    options = msgspec.structs.replace(QUICK, probe_interval_s=0.05, probe_timeout_s=0.1)
    async with FaultProxy(server.port) as proxy:
        url = f"{proxy.url}?protocol={protocol}"
        async with TcpStore(url, options) as store:
            listener = Recorder()
            await store.listen("room", listener)
            # Pushes vanish, replies to commands pass: what a moved replica looks like.
            proxy.garble = lambda data: b"" if b"\nmessage\r\n" in data else data
            proxy.connected.clear()
            await store.execute("PUBLISH", "room", "lost")
            await proxy.connected.wait()
            proxy.garble = None
            await listener.wait_for(interruptions=1)
            await store.execute("PUBLISH", "room", "heard")
            await listener.wait_for_message(b"heard")
            assert b"lost" not in listener.messages


async def test_a_dead_peer_is_found(server: Valkey) -> None:
    """When the network swallows everything for a while, all stands again after it."""
    options = msgspec.structs.replace(
        QUICK, probe_interval_s=0.05, probe_timeout_s=0.1, silence_s=0.1, connect_timeout_s=0.1
    )
    async with (
        FaultProxy(server.port) as proxy,
        TcpStore(proxy.url, options) as store,
        TcpStore(server.url) as outside,
    ):
        listener = Recorder()
        await store.listen("room", listener)
        down, up = asyncio.Event(), asyncio.Event()
        store.on_state(lambda ready: up.set() if ready else down.set())
        proxy.blackhole = True
        assert await outside.execute("PUBLISH", "room", "swallowed") == 1
        await down.wait()
        proxy.blackhole = False
        await up.wait()
        await listener.wait_for(interruptions=1)
        await store.execute("PUBLISH", "room", "x", timeout_s=10)
        await listener.wait_for_message(b"x")
        assert listener.log == [None, b"x"]


async def test_probes_do_not_disturb_a_healthy_connection(server: Valkey) -> None:
    """Many probes later nobody was interrupted."""
    options = msgspec.structs.replace(QUICK, probe_interval_s=0.001)
    async with TcpStore(server.url, options) as store:
        listener = Recorder()
        await store.listen("room", listener)
        echo = store._subscriptions._echo
        first = echo._nonce
        seen = {first}
        while len(seen) < 50:
            await store.execute("PING")
            seen.add(echo._nonce)
        assert listener.log == []
        assert store.ready


async def test_listen_gives_up_at_its_deadline(server: Valkey) -> None:
    """Without a server there is no subscription, and none comes into being later."""
    options = msgspec.structs.replace(QUICK, timeout_s=0.1)
    async with TcpStore(server.url, options) as store:
        await server.kill()
        listener = Recorder()
        with pytest.raises(StoreUnavailable, match="room"):
            await store.listen("room", listener)
        await server.start()
        while True:
            try:
                await store.listen("room", listener)
                break
            except StoreUnavailable:
                continue
        assert listener.log == []


async def test_a_cancelled_listen_leaves_nothing(store: TcpStore) -> None:
    """A caller that leaves in the middle can listen again."""
    listener = Recorder()
    listening = asyncio.create_task(store.listen("room", listener))
    await asyncio.sleep(0)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await store.listen("room", listener)
    assert await store.execute("PUBLISH", "room", "x") == 1
    await listener.wait_for(1)


async def test_a_channel_that_the_server_refuses(start_server) -> None:
    """The server's words reach the caller; other channels are not touched."""
    server = await start_server()
    async with TcpStore(server.url, QUICK) as admin:
        await admin.execute(
            *("ACL", "SETUSER", "limited", "on", ">pw", "+@all", "~*", "&good*", "&fw:probe:*")
        )
    url = f"redis://limited:pw@127.0.0.1:{server.port}"
    async with TcpStore(url, QUICK) as store:
        good = [Recorder() for _ in range(3)]
        results = await asyncio.gather(
            store.listen("good0", good[0]),
            store.listen("bad", Recorder()),
            store.listen("good1", good[1]),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), StoreRefused, type(None)]
        await store.execute("PUBLISH", "good1", "x")
        await good[1].wait_for(1)
        assert store.ready


async def test_many_channels(store: TcpStore) -> None:
    """Thousands of channels are confirmed, and taken up again after a cut."""
    listeners = [Recorder() for _ in range(5000)]
    await asyncio.gather(*(store.listen(f"c{n}", one) for n, one in enumerate(listeners)))
    await store.execute("CLIENT", "KILL", "TYPE", "pubsub")
    for listener in listeners:
        await listener.wait_for(interruptions=1)
    assert await store.execute("PUBLISH", "c4999", "x") == 1
    await listeners[-1].wait_for(1)
