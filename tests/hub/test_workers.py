"""Workers: several processes on one port, replaced when they die, gone with their parent."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from channels.errors import SettingsError
from hub.listener import bind_all
from hub.settings import Settings
from hub.workers import Workers
from tests.hub.process import HubProcess
from tests.servers import ValkeyServer, gone

_PATIENCE_S = 20


def _nodes(hub: HubProcess) -> set[str]:
    """Return the ids of the nodes that told lately."""
    return {node["uid"] for node in hub.api("info")["nodes"]}


def _await(condition: Callable[[], bool]) -> None:
    """Return when something is so that happens in other processes, which tell us nothing."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _workers(hub: HubProcess) -> list[int]:
    """Return the workers among its children (beside them: Valkey, multiprocessing's tracker)."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in hub.children()}
    return [pid for pid, command in commands.items() if b"spawn_main" in command]


def test_workers_share_a_port_and_are_replaced(tmp_path: Path) -> None:
    """Every worker is a node; one that is killed is followed by another; all end with status 0."""
    settings = Settings(
        port=0, insecure=True, workers=2, node_report_s=0.1, data_dir=str(tmp_path / "data")
    )
    with HubProcess(settings) as hub:
        assert "(embedded Valkey, 2 workers, insecure" in hub.ready_line
        _await(lambda: len(_nodes(hub)) == 2)
        before = _nodes(hub)
        with httpx.stream("GET", f"{hub.url}/events?channel=a:b", timeout=10) as response:
            chunks = response.iter_bytes()
            next(chunks)
            for n in range(5):  # whichever worker takes them, the reader's gets them all
                hub.api("publish", channel="a:b", data=n)
            got = b""
            while got.count(b"data: ") < 5:
                got += next(chunks)
        victim, other = _workers(hub)
        os.kill(victim, signal.SIGKILL)
        assert gone(victim)
        _await(lambda: len(_workers(hub)) == 2)
        assert other in _workers(hub)
        _await(lambda: bool(_nodes(hub) - before))
        assert hub.end() == 0
        assert gone(other)
        assert "Traceback" not in hub.log


def test_what_a_worker_had_not_accepted_its_successor_answers(valkey: ValkeyServer) -> None:
    """No connection is refused or lost while both workers are replaced: it only waits."""
    settings = Settings(port=0, insecure=True, workers=2, redis_url=valkey.url)
    with HubProcess(settings) as hub, ExitStack() as stack:
        victims = _workers(hub)
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)  # so that the kernel takes what comes, and nobody else
        url = httpx.URL(hub.url)
        connections = [
            stack.enter_context(socket.create_connection((url.host, url.port), _PATIENCE_S))
            for _ in range(16)
        ]
        for connection in connections:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        for connection in connections:
            assert connection.recv(64).startswith(b"HTTP/1.1 200 OK")
        assert hub.end() == 0


def _metric(hub: HubProcess, name: str) -> dict[str, float]:
    """Return the values of a metric without labels of its own, by worker, from one scrape."""
    answer = httpx.get(f"{hub.url}/metrics", timeout=10)
    [family] = [family for family in parse(answer.text) if family.name == name]
    return {sample.labels["worker"]: sample.value for sample in family.samples}


def test_one_scrape_shows_every_worker(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever answers; a replaced one begins anew in its place; no file is left behind."""
    with TemporaryDirectory(prefix="fw-") as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        settings = Settings(port=0, insecure=True, workers=2, redis_url=valkey.url)
        with HubProcess(settings) as hub:
            [runtime] = Path(temporary).glob("fw-*")
            assert runtime.stat().st_mode & 0o777 == 0o700
            for _ in range(16):  # a connection each, so that either worker is asked
                assert _metric(hub, "fanwire_worker_up") == {"0": 1, "1": 1}
            before = _metric(hub, "fanwire_start_time_seconds")
            victim, _other = _workers(hub)
            os.kill(victim, signal.SIGKILL)
            assert gone(victim)
            _await(lambda: set(_metric(hub, "fanwire_worker_up").values()) == {1})
            after = _metric(hub, "fanwire_start_time_seconds")
            assert sum(after[worker] > before[worker] for worker in before) == 1
            assert hub.end() == 0
        assert list(Path(temporary).glob("fw-*")) == []
        with HubProcess(settings) as hub:
            workers = _workers(hub)
            hub.end(signal.SIGKILL)
            assert all(gone(pid) for pid in workers)
        assert list(Path(temporary).glob("fw-*")) == []


def test_nothing_outlives_the_parent(tmp_path: Path) -> None:
    """When the parent is killed, its workers and its Valkey end by themselves."""
    settings = Settings(port=0, insecure=True, workers=2, data_dir=str(tmp_path / "data"))
    with HubProcess(settings) as hub:
        children = hub.children()
        assert len(_workers(hub)) == 2
        hub.end(signal.SIGKILL)
        assert [pid for pid in children if not gone(pid)] == []


def test_a_worker_that_cannot_start_ends_the_whole(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The next one would fare alike, so nobody tries again; the worker's log says why."""
    file = tmp_path / "file"
    file.write_text("")
    settings = Settings(port=0, workers=2, data_dir=str(file / "data"))
    ready: list[str] = []
    with ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in bind_all(settings)]
        workers = Workers(settings, listeners, on_ready=lambda: ready.append("ready"))
        with pytest.raises(SettingsError, match="ended with status 3 before it served"):
            workers.run()
    assert ready == []
    assert str(file) in capfd.readouterr().err
