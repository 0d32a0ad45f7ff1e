"""Real servers for tests: the embedded Valkey on a directory of its own.

Tests ask for the fixtures in ``conftest.py``; this module is what those are made of.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.store.embedded import EmbeddedServer

__all__ = ["PATIENCE_S", "ValkeyServer", "connect", "gone"]

#: A server of a test starts, restarts or ends within this, on a busy machine too.
PATIENCE_S = 20.0


def connect(url: str) -> redis.Redis:
    """Return a synchronous client that retries nothing; close it (it is a context manager)."""
    return redis.Redis.from_url(
        url, socket_timeout=PATIENCE_S, retry=Retry(NoBackoff(), 0), protocol=3
    )


def gone(pid: int, timeout_s: float = PATIENCE_S) -> bool:
    """Tell whether the process ``pid``, no child of ours, ends within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if _is_zombie(pid):  # its parent died and nobody has reaped it yet
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)  # another process's end cannot be waited for


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


class ValkeyServer:
    """A running Valkey with an append-only file, started again when it is killed.

    ``url`` stays the same for as long as the object lives, whatever happens to the process.
    """

    def __init__(self) -> None:
        # Short, so that the socket's path fits: pytest's own directories may be too long.
        self.data_dir = Path(tempfile.mkdtemp(prefix="fw-"))
        self._embedded = EmbeddedServer(self.data_dir)
        try:
            self._embedded.start()
        except BaseException:
            shutil.rmtree(self.data_dir)
            raise
        self.url = self._embedded.url

    @property
    def pid(self) -> int:
        """The process id of the server that runs now."""
        return self._embedded.pid

    @property
    def restarts(self) -> int:
        """How often it was started again after its process died."""
        return self._embedded.restarts

    def client(self) -> redis.Redis:
        """Return a new synchronous client; close it."""
        return connect(self.url)

    def empty(self) -> None:
        """Forget every key and script, and end the subscriptions a test left behind."""
        with self.client() as client:
            client.client_kill_filter(_type="pubsub")
            client.flushall()
            client.script_flush()

    def kill(self) -> None:
        """Kill the process (-9). It is started again by itself; see :meth:`wait_ready`."""
        os.kill(self.pid, signal.SIGKILL)

    def wait_ready(self) -> None:
        """Return when the server answers and its data are loaded."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except redis.RedisError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)  # a server that is not there yet sends no event
            else:
                return

    def crash(self) -> None:
        """Kill the process (-9) and return when its successor answers with the data kept."""
        before = self.restarts
        self.kill()
        deadline = time.monotonic() + PATIENCE_S
        while self.restarts == before and time.monotonic() < deadline:
            time.sleep(0.01)  # the supervisor's thread counts before it starts the next one
        self.wait_ready()

    def stop(self) -> None:
        """End the server cleanly; its data stay until :meth:`close`."""
        self._embedded.stop()

    def start(self) -> None:
        """Start the server again on its data after :meth:`stop`, at the same URL."""
        self._embedded.start()

    def close(self) -> None:
        """End the server and remove its data."""
        self._embedded.stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)
