"""Real processes for tests: a hub that can be killed and started again, and any other program.

Everything a test starts belongs to one temporary directory (:class:`Place`) and bears its
mark, which is how the end of a test finds what was left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

import httpx
import redis.asyncio

from tests.servers import PATIENCE_S, gone

__all__ = ["ROOT", "HubProcess", "Place", "Program", "eventually", "free_port"]

#: The repository.
ROOT = Path(__file__).parents[2]
#: A line of output longer than this is an error of the test.
_LINE_LIMIT_BYTES = 16 * 1024 * 1024
#: Variable that whatever is started in a place inherits, whichever directory it works in.
_MARK = "FW_TEST_PLACE"


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def eventually(holds: Callable[[], Awaitable[bool]], *, every_s: float = 0.02) -> None:
    """Return when ``holds`` does, for what sends no event: the state of another process."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 -- nobody would set an Event
            await asyncio.sleep(every_s)


class Place:
    """A directory for the processes of one test, and the processes themselves."""

    def __init__(self) -> None:
        # Short, so that the path of the embedded server's socket fits.
        self.path = Path(tempfile.mkdtemp(prefix="fw-"))
        self.programs: list[Program] = []

    def environ(self, **more: str) -> dict[str, str]:
        """Return an environment without settings of Fanwire but those in ``more``."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FANWIRE_", "UPSTASH_"))
        }
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            _MARK: str(self.path),
            **more,
        }

    def pids(self) -> dict[int, str]:
        """Return the processes of this place that run, with their commands."""
        found = {}
        mark = f"{_MARK}={self.path}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                # The embedded server gets no environment of ours, but it works in the data.
                ours = (entry / "cwd").readlink().is_relative_to(self.path)
                if ours or mark in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if command:  # a zombie has none
                        found[int(entry.name)] = command.strip()
        return found

    async def close(self) -> None:
        """End what runs, and fail when something ran on that nobody ended."""
        for program in reversed(self.programs):
            await program.close()
        left = {pid: what for pid, what in self.pids().items() if not gone(pid, 5)}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
        for program in self.programs:
            program.print_logs()  # pytest shows them when the test failed
        shutil.rmtree(self.path, ignore_errors=True)
        assert not left, f"processes were left behind: {left}"


class Program:
    """One program: its output read line by line as it comes, its end awaited."""

    def __init__(
        self,
        place: Place,
        *command: str,
        name: str = "",
        env: dict[str, str] | None = None,
        on_line: Callable[[str], object] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.place = place
        self.command = command
        self.name = name or Path(command[0]).name
        self.env = place.environ(**(env or {}))
        self.directory = directory or place.path
        self.out: list[str] = []
        self.err: list[str] = []
        self._on_line = on_line
        self._process: Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._news = asyncio.Condition()
        place.programs.append(self)

    @property
    def process(self) -> Process:
        """The process that was started last."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and did not end."""
        return self._process is not None and self._process.returncode is None

    async def spawn(self) -> None:
        """Start the process."""
        assert not self.running, f"{self.name} runs already"
        self._process = process = await asyncio.create_subprocess_exec(
            *self.command,
            cwd=self.directory,
            env=self.env,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LINE_LIMIT_BYTES,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self.out, self._on_line)),
            asyncio.create_task(self._read(process.stderr, self.err, None)),
        ]

    async def _read(
        self,
        stream: asyncio.StreamReader,
        lines: list[str],
        on_line: Callable[[str], object] | None,
    ) -> None:
        async for line in stream:
            text = line.decode("utf-8", "replace").rstrip("\n")
            lines.append(text)
            if on_line is not None:
                on_line(text)
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def until(self, reached: Callable[[], bool], what: str = "") -> None:
        """Return when ``reached`` holds, which is asked after each line of output."""
        try:
            async with asyncio.timeout(PATIENCE_S), self._news:
                while not reached():
                    assert not all(reader.done() for reader in self._readers), (
                        f"{self.name} ended without {what or 'what was awaited'}"
                    )
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name}: {what} did not come in {PATIENCE_S} s") from None

    async def line(self, part: str) -> str:
        """Return the first line of standard output that contains ``part``, waiting for it."""
        await self.until(lambda: any(part in line for line in self.out), repr(part))
        return next(line for line in self.out if part in line)

    async def ended(self, timeout_s: float = PATIENCE_S) -> int:
        """Return the exit status, waiting for the end and for the rest of the output."""
        async with asyncio.timeout(timeout_s):
            status = await self.process.wait()
            await asyncio.gather(*self._readers)
        return status

    async def feed(self, data: bytes, *, end: bool = True) -> None:
        """Write to standard input, and close it."""
        stdin = self.process.stdin
        assert stdin is not None
        # uvloop says RuntimeError where the process has ended already.
        with contextlib.suppress(ConnectionError, RuntimeError):
            stdin.write(data)
            await stdin.drain()
            if end:
                stdin.close()

    async def run(self, stdin: bytes = b"", timeout_s: float = PATIENCE_S) -> int:
        """Start the process, give it ``stdin``, and return its exit status."""
        await self.spawn()
        await self.feed(stdin)
        return await self.ended(timeout_s)

    def signal(self, number: Signals) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def kill(self) -> None:
        """Kill the process (-9) and wait for its end."""
        self.signal(SIGKILL)
        await self.ended()

    async def stop(self, number: Signals = SIGTERM) -> int:
        """Ask the process to end and return its status."""
        self.signal(number)
        return await self.ended()

    async def close(self) -> None:
        """End the process if it runs: politely, then not."""
        if self.running:
            try:
                await self.stop()
            except TimeoutError:
                await self.kill()

    def print_logs(self) -> None:
        """Show the ends of what it wrote."""
        for stream, lines in (("stdout", self.out), ("stderr", self.err)):
            if lines:
                ends = "\n".join(line[:300] for line in lines[-12:])
                sys.stdout.write(f"--- {self.name}: {stream} ({len(lines)} lines)\n{ends}\n")


class HubProcess(Program):
    """``fanwire serve`` as a process of its own, on a port that stays the same.

    Flags beyond the port and the data directory are the test's; the hub is insecure unless
    the test says how it is secured.
    """

    def __init__(
        self,
        place: Place,
        *flags: str,
        name: str = "hub",
        insecure: bool = True,
        env: dict[str, str] | None = None,
        command: tuple[str, ...] = (sys.executable, "-m", "hub.cli", "serve"),
    ) -> None:
        self.port = free_port()
        self.data_dir = place.path / f"{name}.data"
        args = ["--port", str(self.port), "--data-dir", str(self.data_dir)]
        if insecure:
            args.append("--insecure")
        super().__init__(place, *command, *args, *flags, name=name, env=env)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where it takes WebSockets."""
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    @property
    def valkey_pid(self) -> int:
        """Process id of the embedded server that was started last."""
        record = json.loads((self.data_dir / "server.lock").read_bytes())
        pid: int = record["pid"]
        return pid

    def valkey(self) -> redis.asyncio.Redis:
        """Return a client of the embedded server; close it (it is a context manager)."""
        url = (self.data_dir / "redis.url").read_text(encoding="ascii").strip()
        return redis.asyncio.Redis.from_url(url)

    async def start(self) -> None:
        """Start it and return when it accepts connections and is ready."""
        before = len(self.out)
        await self.spawn()
        await self.until(
            lambda: any(f"127.0.0.1:{self.port}" in line for line in self.out[before:]),
            "the line that it accepts connections",
        )
        await self.ready()

    async def ready(self) -> None:
        """Return when it says that it is ready: it and Redis are there."""
        async with httpx.AsyncClient(base_url=self.url) as http:

            async def is_ready() -> bool:
                try:
                    return (await http.get("/health/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_ready)

    async def restart(self) -> None:
        """Kill it (-9), wait for its end, and start it on the same port and data."""
        await self.kill()
        await self.start()

    async def kill_valkey(self) -> int:
        """Kill the embedded server (-9), wait for its end, and return the id it had."""
        pid = self.valkey_pid
        os.kill(pid, SIGKILL)
        assert await asyncio.to_thread(gone, pid)
        return pid

    async def valkey_back(self, former: int) -> None:
        """Return when another server than ``former`` runs and the hub is ready again."""

        async def is_another() -> bool:
            try:
                return self.valkey_pid not in {0, former}
            except (OSError, ValueError, KeyError):  # it is being written
                return False

        await eventually(is_another, every_s=0.01)
        await self.ready()
