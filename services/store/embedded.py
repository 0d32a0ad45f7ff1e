"""The embedded server: a real Valkey as a child process, for a hub that was given no Redis.

One process of an application owns it (the one process of a hub, or the parent of its
workers) and passes :attr:`EmbeddedServer.url` on to the others. A thread of its own starts
the server, waits for its end and starts it again on the same data and address, so the owner
needs no event loop and may fork or spawn workers; their stores reconnect by themselves.

How it ends with its owner, however that ends: on a clean stop it is asked and waited for.
On Linux the kernel signals it when its owner dies. Elsewhere, and should that fail, the
next start finds the left-over server by the lock it holds on the data directory, and stops
it before its own begins. What it acknowledged is on disk within a second
(``appendfsync everysec``); what the kernel was handed survives a crash of the process.

It is reached by its password over a unix socket in the data directory, or over a loopback
port where that path would be too long for a socket; never from another machine.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from channels.errors import SettingsError, StoreUnavailable, UsageError

from .backoff import Backoff
from .binary import ServerBinary, find_server_binary
from .data_dir import DataDir, ServerRecord

__all__ = ["EmbeddedServer"]

_log = logging.getLogger(__name__)

#: The kernel's room for a socket's path is 104 bytes on macOS, 108 on Linux.
_SOCKET_PATH_LIMIT_BYTES = 100
#: Between two looks at a server that is starting or ending.
_POLL_S = 0.01
#: One answer of a server on this machine, which may be busy.
_ANSWER_TIMEOUT_S = 2.0
#: Shortest and longest pause before a server that died is started again.
_BACKOFF_S = (0.05, 5.0)
#: A server that lived this long was healthy: the next pause is the shortest again.
_HEALTHY_AFTER_S = 10.0
#: Another program may take a free port between our look and the server's bind.
_PORT_ATTEMPTS = 5
#: The server needs no more of our environment, and must not see our secrets.
_PASSED_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")

_CONFIGURATION = """\
# Written by Fanwire at every start; paths are relative to this directory.
{address}
requirepass {password}
protected-mode yes
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
always-show-logo no
"""


class EmbeddedServer:
    """A supervised Valkey on ``data_dir``; used as a context manager, or started and stopped.

    The methods block for as long as a server takes to start or stop (tens of milliseconds,
    a long append-only file aside): from a coroutine, call them in ``asyncio.to_thread``.
    """

    def __init__(
        self, data_dir: Path, *, start_timeout_s: float = 60.0, stop_timeout_s: float = 10.0
    ) -> None:
        self._dir = DataDir(data_dir)
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._url: str | None = None
        self._supervisor: _Supervisor | None = None
        self._owner_pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the server is, as redis-py writes it; the same for as long as we own it."""
        if self._url is None:
            raise UsageError("the embedded server has no URL before start()")
        return self._url

    @property
    def pid(self) -> int:
        """The server's process id, another one after each restart."""
        if self._supervisor is None:
            raise UsageError("the embedded server has no process: it was not started")
        return self._supervisor.pid

    @property
    def restarts(self) -> int:
        """How often the server died and was started again."""
        return 0 if self._supervisor is None else self._supervisor.restarts

    def start(self) -> None:
        """Start the server; returns when it answers, its data loaded.

        Raises:
            SettingsError: no server program runs here, or the data directory is held by
                another hub or cannot be written.
            StoreUnavailable: the server ended or did not answer in time; the message has
                the last lines of its log. Nothing is left running.
            UsageError: it was started before.
        """
        if self._supervisor is not None:
            raise UsageError("the embedded server was started before")
        binary = find_server_binary()
        self._dir.claim()
        self._owner_pid = os.getpid()
        try:
            _end_left_over(self._dir, self._stop_timeout_s)
            self._start_claimed(binary)
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """End the server cleanly, its data on disk, and let go of the directory.

        Killed when it takes longer than ``stop_timeout_s``. Does nothing when it does not
        run, or in a forked child: only the process that started it may end it.
        """
        if self._owner_pid == os.getpid():
            self._end()

    def _start_claimed(self, binary: ServerBinary) -> None:
        password = self._dir.password()
        socket_path = self._dir.path / "valkey.sock"
        if len(os.fsencode(socket_path)) <= _SOCKET_PATH_LIMIT_BYTES:
            url = f"unix://:{password}@{quote(str(socket_path))}?db=0"
            address = "port 0\nunixsocket valkey.sock\nunixsocketperm 700"
            return self._launch(binary, url, address, password)
        attempt = 1
        while True:
            port = _free_port()
            url = f"redis://:{password}@127.0.0.1:{port}/0"
            try:
                return self._launch(binary, url, f"port {port}\nbind 127.0.0.1", password)
            except StoreUnavailable as error:
                if attempt == _PORT_ATTEMPTS or "Address already in use" not in error.message:
                    raise
                attempt += 1

    def _launch(self, binary: ServerBinary, url: str, address: str, password: str) -> None:
        """Run a supervised server at ``address`` and wait until it answers."""
        self._dir.write("valkey.conf", _CONFIGURATION.format(address=address, password=password))
        supervisor = _Supervisor(self._dir, binary, url)
        try:
            supervisor.start(self._start_timeout_s)
            self._dir.publish_url(url)
        except BaseException:
            supervisor.stop(self._stop_timeout_s)
            raise
        self._url, self._supervisor = url, supervisor

    def _end(self) -> None:
        if self._supervisor is not None:
            self._dir.withdraw_url()
            self._supervisor.stop(self._stop_timeout_s)
            self._supervisor = None
        self._dir.release()
        self._owner_pid = 0


class _Supervisor:
    """The thread that starts the server, waits for its end and starts it again.

    It is one thread because Linux ties the server's life to the thread that forked it.
    """

    def __init__(self, data_dir: DataDir, binary: ServerBinary, url: str) -> None:
        self._dir = data_dir
        self._binary = binary
        self._url = url
        #: Guards ``_process`` and ``_stopping``: no server is started once a stop has begun.
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._first_attempt = threading.Event()
        self._first_failure: Exception | None = None
        self._thread = threading.Thread(
            target=self._run, name="fanwire-embedded-server", daemon=True
        )
        self.restarts = 0

    @property
    def pid(self) -> int:
        process = self._process
        return 0 if process is None else process.pid

    def start(self, timeout_s: float) -> None:
        """Start the first server and wait until it answers; ``StoreUnavailable`` otherwise."""
        deadline = time.monotonic() + timeout_s
        self._thread.start()
        self._first_attempt.wait()
        if self._first_failure is not None:
            raise self._first_failure
        first = self._process
        with _client(self._url) as client:
            why = f"did not answer within {timeout_s:g} s"
            said = "nothing"
            while time.monotonic() < deadline:
                try:
                    client.ping()
                except redis.RedisError as error:  # LOADING is one of them
                    said = str(error)
                else:
                    return
                if first is None or first.poll() is not None:
                    why = "ended before it answered"
                    break
                time.sleep(_POLL_S)
        raise StoreUnavailable(
            f"the embedded server ({self._binary.path}) {why} (last: {said})."
            f" Its log ends:\n{self._dir.log_tail()}"
        )

    def stop(self, timeout_s: float) -> None:
        """End the server and the thread; kill the server that ignores a plain request."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if self._thread.ident is None:
            return
        if process is not None:
            process.send_signal(signal.SIGTERM)
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                _log.warning("the embedded server did not end within %g s: killed", timeout_s)
                process.kill()
        self._thread.join()

    def _run(self) -> None:
        backoff = Backoff(*_BACKOFF_S)
        while True:
            started = time.monotonic()
            try:
                process = self._spawn()
            except Exception as error:  # noqa: BLE001 -- told to start(), or logged and retried
                if not self._first_attempt.is_set():
                    self._first_failure = error
                    self._first_attempt.set()
                    return
                _log.warning("the embedded server could not be started: %s", error)
            else:
                self._first_attempt.set()
                if process is None:
                    return
                status = process.wait()
                if self._stopping.is_set():
                    return
                _log.error(
                    "the embedded server (pid %d) ended with status %d: it is started again."
                    " Its log ends:\n%s",
                    process.pid, status, self._dir.log_tail(3),
                )  # fmt: skip
            if time.monotonic() - started > _HEALTHY_AFTER_S:
                backoff.reset()
            if self._stopping.wait(backoff.next_s()):
                return
            self.restarts += 1

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        """Start a server, or return ``None`` because a stop has begun."""
        lock_fd = self._dir.try_server_lock()
        if lock_fd is None:
            raise StoreUnavailable("a process of the previous server still writes its files")
        log_fd = -1
        try:
            log_fd = self._dir.open_log()
            with self._lock:
                if self._stopping.is_set():
                    return None
                self._dir.record_server(lock_fd, ServerRecord(self._url))
                self._process = process = subprocess.Popen(  # noqa: S603 -- our own command
                    self._command(),
                    cwd=self._dir.path,
                    env={k: os.environ[k] for k in _PASSED_ENVIRONMENT if k in os.environ},
                    stdin=subprocess.DEVNULL,
                    stdout=log_fd,
                    stderr=log_fd,
                    pass_fds=(lock_fd,),
                    # Control-C on the terminal is for the owner, which stops us in its turn.
                    start_new_session=True,
                    umask=0o077,
                )
            self._dir.record_server(lock_fd, ServerRecord(self._url, process.pid))
            return process
        finally:
            os.close(lock_fd)
            if log_fd >= 0:
                os.close(log_fd)

    def _command(self) -> list[str]:
        server = [str(self._binary.path), "valkey.conf"]
        if sys.platform != "linux" or not sys.executable:
            return server
        launcher = str(Path(__file__).with_name("launch.py").absolute())
        return [sys.executable, "-I", "-S", launcher, str(os.getpid()), *server]


def _end_left_over(data_dir: DataDir, timeout_s: float) -> None:
    """End the server that a hub which crashed left behind, if there is one."""
    if _await_server_end(data_dir, 0):
        return
    record = data_dir.recorded_server()
    if record is not None:
        _log.warning("ending the server (pid %d) left over in %s", record.pid, data_dir.path)
        try:
            with _client(record.url) as client:
                client.execute_command("SHUTDOWN", "NOSAVE")  # the append-only file is synced
        except redis.RedisError as error:
            # It hung up, as it should; or it is already on its way; or it hangs.
            _log.debug("the left-over server answered %s", error)
    if _await_server_end(data_dir, timeout_s):
        return
    if record is not None and _works_in(record.pid, data_dir.path):
        os.kill(record.pid, signal.SIGKILL)
        if _await_server_end(data_dir, timeout_s):
            return
    raise SettingsError(
        f"the data directory {data_dir.path} is in use by a server that a former hub left"
        f" behind (process id {record.pid if record else 'unknown'}) and that does not end:"
        " end it by hand, or choose another directory with FANWIRE_DATA_DIR"
    )


def _await_server_end(data_dir: DataDir, timeout_s: float) -> bool:
    """Tell whether no server holds the directory, waiting for it ``timeout_s`` at most."""
    deadline = time.monotonic() + timeout_s
    while (fd := data_dir.try_server_lock()) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    os.close(fd)
    return True


def _works_in(pid: int, path: Path) -> bool:
    """Tell whether ``pid`` is surely a process of ours: ids are reused, directories are not."""
    try:
        return pid > 0 and Path(f"/proc/{pid}/cwd").samefile(path)
    except OSError:
        return False


def _client(url: str) -> redis.Redis:
    """Return a client for a few administrative commands, without retries."""
    return redis.Redis.from_url(
        url,
        socket_timeout=_ANSWER_TIMEOUT_S,
        socket_connect_timeout=_ANSWER_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
