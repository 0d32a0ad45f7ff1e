"""Several processes on one port, and the one that watches over them.

Each worker is a node of its own; Redis connects them. Each has a slot: a number, a listening
socket that the parent keeps, and a place where its siblings ask it for its metrics. One that
dies is replaced in its slot, where the connections wait that it had not accepted; one that
cannot even start ends the whole, because the next would fare alike. Workers end when they are
told, and when their parent is gone, however it went.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

import msgspec
import structlog

from channels.errors import SettingsError
from hub.logs import set_up_logs
from hub.metrics.siblings import Slot
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

    def __init__(self, settings_json: bytes, listener: socket.socket, slot: Slot) -> None:
        self.slot = slot
        self.ready, theirs = _context.Pipe(duplex=False)
        self.process: SpawnProcess = _context.Process(
            target=_work,
            args=(settings_json, listener, msgspec.json.encode(slot), theirs),
            name="fanwire-worker",
        )
        self.process.start()
        theirs.close()
        self.began = time.monotonic()
        self.serves = False


class Workers:
    """Runs a process for each listener until a signal comes."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[socket.socket],
        *,
        on_ready: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._listeners = listeners
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
            # Only this user may enter it.
            with tempfile.TemporaryDirectory(prefix="fw-", ignore_cleanup_errors=True) as directory:
                try:
                    count = len(self._listeners)
                    for number in range(count):
                        self._start(Slot(number=number, count=count, directory=directory))
                    self._watch()
                finally:
                    self._end()
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._ending = True
        self._signalled.send_bytes(b"!")

    def _start(self, slot: Slot) -> None:
        self._workers.append(_Worker(self._json, self._listeners[slot.number], slot))

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
            worker=worker.slot.number,
            pid=worker.process.pid,
            status=worker.process.exitcode,
        )
        if time.monotonic() - worker.began < _HEALTHY_AFTER_S:
            multiprocessing.connection.wait([self._wakeup], timeout=_PAUSE_S)
        if not self._ending:
            self._start(worker.slot)

    def _end(self) -> None:
        """Ask every worker to end, wait for it, and kill what does not."""
        # Else the kernel would go on accepting for us after the workers stopped.
        for listener in self._listeners:
            listener.close()
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


def _work(
    settings_json: bytes, listener: socket.socket, slot_json: bytes, ready: Connection
) -> None:
    """Serve: the main function of a worker."""
    from hub.server import run_server  # noqa: PLC0415 - which imports this module

    # Control-C reaches every process of the terminal; until the server has a handler of its
    # own, the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = msgspec.json.decode(settings_json, type=Settings)
    set_up_logs(settings.log_level, json=settings.log_json)
    slot = msgspec.json.decode(slot_json, type=Slot)
    orphaned = threading.Event()
    threading.Thread(
        target=_end_with_parent, args=(orphaned,), name="fanwire-parent", daemon=True
    ).start()
    run_server(settings, listener, lambda: ready.send_bytes(b"ready"), slot=slot)
    if orphaned.is_set():  # the last one to leave removes what the parent cannot any more
        with suppress(OSError):
            Path(slot.directory).rmdir()


def _end_with_parent(orphaned: threading.Event) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        orphaned.set()
        os.kill(os.getpid(), signal.SIGTERM)
