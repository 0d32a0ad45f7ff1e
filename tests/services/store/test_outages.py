"""The store while its server dies, freezes, moves and comes back."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import msgspec
import pytest

from channels.errors import OutcomeUnknown, StoreError, StoreRefused, StoreUnavailable
from services.store.script import Script
from services.store.tcp import TcpStore
from tests.faults import FaultProxy

from .conftest import QUICK, Valkey
from .recorder import Recorder


async def test_killed_and_restarted_under_load(start_server) -> None:
    """Every increment is acknowledged, unknown or refused, and the sum agrees with that."""
    server = await start_server("--appendonly", "yes", "--appendfsync", "always")
    acknowledged = unknown = 0
    done = False
    async with TcpStore(server.url, QUICK) as store:
        up = asyncio.Event()
        store.on_state(lambda ready: up.set() if ready else up.clear())

        async def work() -> None:
            nonlocal acknowledged, unknown
            while not done:
                try:
                    await store.execute("INCR", "n")
                    acknowledged += 1
                except OutcomeUnknown:
                    unknown += 1
                except StoreUnavailable:
                    pass

        async with asyncio.TaskGroup() as group:
            for _ in range(32):
                group.create_task(work())
            for _ in range(5):
                seen = acknowledged
                while acknowledged < seen + 100:
                    await store.execute("PING")
                await server.kill()
                await server.start()
                await up.wait()
            done = True
        total = int(await store.execute("GET", "n") or 0)
        assert acknowledged <= total <= acknowledged + unknown
        assert acknowledged > 0
        assert unknown > 0


async def test_a_frozen_server_costs_nobody_more_than_its_deadline(server: Valkey) -> None:
    """A stopped process answers nobody: unknown first, then unavailable, then well again."""
    options = msgspec.structs.replace(QUICK, timeout_s=0.1, silence_s=0.1, connect_timeout_s=0.1)
    async with TcpStore(server.url, options) as store:
        server.pause()
        with pytest.raises(OutcomeUnknown):
            await store.execute("PING")
        with pytest.raises(StoreUnavailable):
            await store.execute("PING")
        assert not store.ready
        assert store.trouble is not None
        up = asyncio.Event()
        store.on_state(lambda ready: up.set() if ready else None)
        server.resume()
        await up.wait()
        assert await store.execute("PING", timeout_s=5) == b"PONG"


async def test_a_paused_server_is_waited_for(store: TcpStore) -> None:
    """CLIENT PAUSE holds writes back; who has time gets the reply, who has not gets unknown."""
    await store.execute("CLIENT", "PAUSE", 200, "WRITE")
    patient = asyncio.create_task(store.execute("INCR", "n"))
    with pytest.raises(OutcomeUnknown):
        await store.execute("INCR", "n", timeout_s=0.02)
    assert await patient == 2
    assert await store.execute("GET", "n") == b"2"


async def test_a_master_that_became_a_replica_is_left(start_server) -> None:
    """READONLY ends the connection; nothing is ready until the address leads to a master."""
    server, master = await start_server(), await start_server()
    async with TcpStore(server.url, QUICK) as store:
        listener = Recorder()
        await store.listen("room", listener)
        down, up = asyncio.Event(), asyncio.Event()
        store.on_state(lambda ready: up.set() if ready else down.set())
        async with TcpStore(server.url) as admin:
            await admin.execute("REPLICAOF", "127.0.0.1", master.port)
            with pytest.raises(StoreRefused) as caught:
                await store.execute("SET", "k", "v")
            assert caught.value.prefix == "READONLY"
            await down.wait()
            with pytest.raises(StoreUnavailable, match=r"replica|READONLY"):
                await store.execute("SET", "k", "v", timeout_s=0.1)
            await admin.execute("REPLICAOF", "NO", "ONE")
        await up.wait()
        assert await store.execute("SET", "k", "v", timeout_s=5) == b"OK"
        await listener.wait_for(interruptions=1)


async def test_readonly_inside_of_a_script(start_server) -> None:
    """A script that runs into READONLY says the same about the server."""
    server, master = await start_server(), await start_server()
    async with TcpStore(server.url, QUICK) as store, TcpStore(server.url) as admin:
        down = asyncio.Event()
        store.on_state(lambda ready: None if ready else down.set())
        await admin.execute("REPLICAOF", "127.0.0.1", master.port)
        script = Script("write", "return redis.call('SET', KEYS[1], ARGV[1])")
        with pytest.raises(StoreRefused):
            await store.run(script, ["k"], ["v"])
        await down.wait()


async def test_full_memory_is_the_servers_word(start_server) -> None:
    """OOM refuses writes with its own word and leaves reads and the connection alone."""
    server = await start_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    async with TcpStore(server.url, QUICK) as store:
        writes = [("SET", f"k{n}", b"x" * 100_000) for n in range(100)]
        last = (await store.pipeline(writes))[-1]
        assert isinstance(last, StoreRefused)
        assert last.prefix == "OOM"
        assert store.ready
        assert await store.execute("PING") == b"PONG"


async def test_a_server_that_slams_the_door(server: Valkey) -> None:
    """Connections that end at once are tried again, slower and slower, not in a storm."""
    async with FaultProxy(server.port) as proxy:
        proxy.refuse = True
        store = await TcpStore.connect(proxy.url, wait=False)
        try:
            with pytest.raises(StoreUnavailable, match=str(proxy.port)):
                await store.execute("PING", timeout_s=0.5)
            assert 2 <= proxy.connections <= 12
            proxy.refuse = False
            assert await store.execute("PING", timeout_s=5) == b"PONG"
        finally:
            await store.close()


async def test_over_tls(server: Valkey, tmp_path: Path) -> None:
    """rediss:// verifies the server; a certificate nobody vouches for is refused."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    openssl = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
        " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    process = await asyncio.create_subprocess_exec(
        *(*openssl.split(), "-keyout", str(key), "-out", str(certificate)),
        stderr=subprocess.DEVNULL,
    )
    assert await process.wait() == 0
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    # The packaged server is built without TLS, so a proxy speaks it in its place.
    async with FaultProxy(server.port, tls=tls) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}"
        async with TcpStore(f"{url}?ssl_ca_certs={certificate}", QUICK) as store:
            listener = Recorder()
            await store.listen("room", listener)
            await store.execute("PUBLISH", "room", b"x" * 1_000_000)
            await listener.wait_for(1)
            replies = await asyncio.gather(*(store.execute("ECHO", n) for n in range(1000)))
            assert replies == [b"%d" % n for n in range(1000)]
        with pytest.raises(StoreError, match="certificate"):
            await TcpStore.connect(url, msgspec.structs.replace(QUICK, timeout_s=0.2))
