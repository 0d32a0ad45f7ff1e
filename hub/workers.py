"""Several processes on one listening socket, and the one that watches over them.

Each worker is a node of its own; Redis connects them. One that dies is replaced; one that
cannot even start ends the whole, because the next would fare alike. Workers end when they
are told, and when their parent is gone, however it went.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType

import msgspec
import structlog

from channels.errors import SettingsError
from hub.logs import set_up_logs
from hub.settings import Settings

__all__ = ["Workers"]

_log = structlog.get_logger(__name__)

# Not fork: threads and event loops do not survive it.
_context = multiprocessing.get_context("spawn")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: A worker that lived this long had started; one that dies earlier is not replaced at once.
_HEALTHY_AFTER_S = 5.0
_PAUSE_S = 1.0
#: Seconds beyond the grace after which a worker that does not end is killed.
_KILL_AFTER_S = 5.0


class _Worker:
    """One worker process, and the pipe on which it says that it serves."""

    def __init__(self, settings_json: bytes, listener: socket.socket) -> None:
        self.ready, theirs = _context.Pipe(duplex=False)
        self.process: SpawnProcess = _context.Process(
            target=_work, args=(settings_json, listener, theirs), name="fanwire-worker"
        )
        self.process.start()
        theirs.close()
        self.began = time.monotonic()
        self.serves = False


class Workers:
    """Runs ``settings.workers`` processes until a signal comes."""

    def __init__(
        self, settings: Settings, listener: socket.socket, *, on_ready: Callable[[], object]
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._on_ready = on_ready
        self._workers: list[_Worker] = []
        self._json = msgspec.json.encode(settings)
        # Written to by the handlers: a signal ends the wait, however long it is.
        self._wakeup, self._signalled = _context.Pipe(duplex=False)
        self._ending = False

    def run(self) -> None:
        """Start the workers and keep their number; returns when all have ended.

        Raises:
            SettingsError: a worker ended before it served; its log says why.
        """
        before = {sig: signal.signal(sig, self._on_signal) for sig in _SIGNALS}
        try:
            for _ in range(self._settings.workers):
                self._start()
            self._watch()
        finally:
            self._end()
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._ending = True
        self._signalled.send_bytes(b"!")

    def _start(self) -> None:
        self._workers.append(_Worker(self._json, self._listener))

    def _watch(self) -> None:
        """Replace what dies, until told to end."""
        told = False
        while not self._ending:
            pipes = [worker.ready for worker in self._workers if not worker.serves]
            ends = [worker.process.sentinel for worker in self._workers]
            multiprocessing.connection.wait([self._wakeup, *pipes, *ends])
            for worker in list(self._workers):
                if not worker.serves and worker.ready.poll():
                    worker.serves = _says_ready(worker.ready)
                if not self._ending and not worker.process.is_alive():
                    self._replace(worker)
            if not told and all(worker.serves for worker in self._workers):
                told = True
                self._on_ready()

    def _replace(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.ready.close()
        if not worker.serves:
            raise SettingsError(
                f"a worker ended with status {worker.process.exitcode} before it served; "
                "the log says why"
            )
        _log.error(
            "a worker died and is replaced",
            pid=worker.process.pid,
            status=worker.process.exitcode,
        )
        if time.monotonic() - worker.began < _HEALTHY_AFTER_S:
            multiprocessing.connection.wait([self._wakeup], timeout=_PAUSE_S)
        if not self._ending:
            self._start()

    def _end(self) -> None:
        """Ask every worker to end, wait for it, and kill what does not."""
        for worker in self._workers:
            if worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 2 * self._settings.shutdown_grace_s + _KILL_AFTER_S
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                _log.error("a worker did not end in time: killed", pid=worker.process.pid)
                worker.process.kill()
                worker.process.join()


def _says_ready(pipe: Connection) -> bool:
    try:
        return pipe.recv_bytes() == b"ready"
    except EOFError:  # it died; its sentinel tells
        return False


def _work(settings_json: bytes, listener: socket.socket, ready: Connection) -> None:
    """Serve: the main function of a worker."""
    from hub.server import run_server  # noqa: PLC0415 - which imports this module

    # Control-C reaches every process of the terminal; until the server has a handler of its
    # own, the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = msgspec.json.decode(settings_json, type=Settings)
    set_up_logs(settings.log_level, json=settings.log_json)
    threading.Thread(target=_end_with_parent, name="fanwire-parent", daemon=True).start()
    run_server(settings, listener, lambda: ready.send_bytes(b"ready"))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
