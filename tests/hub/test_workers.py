"""Workers: several processes on one port, replaced when they die, gone with their parent."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from channels.errors import SettingsError
from hub.listener import bind
from hub.settings import Settings
from hub.workers import Workers
from tests.hub.process import HubProcess
from tests.servers import gone

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
    with bind(settings) as listener:
        workers = Workers(settings, listener, on_ready=lambda: ready.append("ready"))
        with pytest.raises(SettingsError, match="ended with status 3 before it served"):
            workers.run()
    assert ready == []
    assert str(file) in capfd.readouterr().err
