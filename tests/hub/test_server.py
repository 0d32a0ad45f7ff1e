"""``serve``: one process from its ready line to its exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from hub.settings import Settings
from tests.hub.process import HubProcess
from tests.hub.serving import strict_settings, token
from tests.servers import ValkeyServer

ROOT = Path(__file__).parents[2]


def _settings(redis: ValkeyServer | None = None, **changes: Any) -> Settings:
    url = None if redis is None else redis.url
    return Settings(port=0, insecure=True, redis_url=url, **changes)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(valkey: ValkeyServer, sig: int) -> None:
    """It says where it is, tells its readers before it ends, and ends with status 0."""
    with HubProcess(_settings(valkey)) as hub:
        assert hub.ready_line.startswith("Fanwire ")
        assert hub.ready_line.endswith(" (Redis, insecure: everybody may do everything)\n")
        with httpx.stream("GET", f"{hub.url}/events?channel=a:b", timeout=10) as response:
            chunks = response.iter_bytes()
            assert b"retry" in next(chunks)
            hub.process.send_signal(sig)
            assert b'event: close\ndata: {"code":3001,' in b"".join(chunks)
        assert hub.wait() == 0
        assert '"level": "warning"' in hub.log
        assert "insecure" in hub.log
        assert "Traceback" not in hub.log


def test_a_second_control_c_ends_it_quietly(valkey: ValkeyServer) -> None:
    """Whoever is impatient is not shown a traceback."""
    with HubProcess(_settings(valkey)) as hub:
        with httpx.stream("GET", f"{hub.url}/events?channel=a:b", timeout=10) as response:
            chunks = response.iter_bytes()
            next(chunks)
            hub.process.send_signal(signal.SIGINT)
            # The goodbye says that the first one was taken; the socket stays open meanwhile.
            assert b"event: close" in next(chunks)
            hub.process.send_signal(signal.SIGINT)
            assert hub.wait() == 0
        assert "Traceback" not in hub.log


def test_a_hub_that_lets_nobody_in_says_so(valkey: ValkeyServer) -> None:
    """A warning with what is missing, and none where one of the two is there."""
    closed = Settings(port=0, redis_url=valkey.url)
    keyed = Settings(port=0, redis_url=valkey.url, api_key="key")
    for settings, is_told in ((closed, True), (keyed, False)):
        with HubProcess(settings) as hub:
            assert hub.end() == 0
            assert ("neither api_key nor token_hmac_secret is set" in hub.log) is is_told


def test_it_brings_its_own_valkey(tmp_path: Path) -> None:
    """Without a Redis it runs one on the data directory, which survives its end and a kill."""
    settings = _settings(data_dir=str(tmp_path / "data"))
    for n, sig in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM), 1):
        with HubProcess(settings) as hub:
            assert "(embedded Valkey, insecure" in hub.ready_line
            assert hub.api("publish", channel="a:b", data=n)["offset"] == n
            hub.end(sig)


_CROWD = """
import gc, os, signal, sys
import msgspec
from hub.listener import bind
from hub.server import run_server
from hub.settings import Settings

def crowd():
    walked, before = len(gc.get_objects()), gc.get_stats()[2]["collections"]
    kept = [[] for _ in range(200_000)]
    print(walked, gc.get_stats()[2]["collections"] - before)
    os.kill(os.getpid(), signal.SIGTERM)

settings = msgspec.json.decode(sys.argv[1], type=Settings)
run_server(settings, bind(settings), crowd)
"""


def test_a_crowd_is_let_in_without_full_garbage_collections(valkey: ValkeyServer) -> None:
    """The loop would stand still in each, the longer the more connections there are."""
    settings = msgspec.json.encode(_settings(valkey)).decode()
    done = subprocess.run(
        [sys.executable, "-c", _CROWD, settings],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    walked, full = map(int, done.stdout.split())
    assert walked < 1_000  # what there is from the start, 75,000 objects, is left alone
    assert full == 0


def _until_ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/ready").status_code == 200:
                return
        time.sleep(0.02)  # another process sends no event
    raise TimeoutError(f"no hub came up at {url}")


@pytest.mark.parametrize("is_pipe", [True, False], ids=["broken pipe", "closed"])
def test_it_serves_where_nobody_reads_its_ready_line(
    valkey: ValkeyServer, tmp_path: Path, is_pipe: bool
) -> None:
    """Standard output may be a pipe that nobody reads any more, or closed as a daemon's is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    serve = [sys.executable, "-m", "hub.cli", "serve", "--insecure", "--port", port]
    command = serve if is_pipe else ["sh", "-c", 'exec "$@" >&-', "sh", *serve]
    unread, out = os.pipe()
    os.close(unread)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--redis-url", valkey.url], stdout=out, stderr=log, cwd=ROOT
        )
    os.close(out)
    with process:
        try:
            _until_ready(f"http://127.0.0.1:{port}")
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_logs_hold_no_secret(valkey: ValkeyServer) -> None:
    """Whatever way a token takes, and however much is logged, the log does not have it."""
    canary = token("canary")
    settings = strict_settings(valkey.url, log_level="debug", log_format="json")
    with HubProcess(settings) as hub, httpx.Client(base_url=hub.url) as client:
        for headers in (
            {"Authorization": f"Bearer {canary}"},
            {"Cookie": f"fanwire_token={canary}"},
            {"X-API-Key": canary},
            {},
        ):
            client.get(f"/events?channel=a:b&ticket={canary}", headers=headers)
            client.get(f"/events?channel=a:b&token={canary}", headers=headers)
            client.post(f"/api/info?token={canary}", headers=headers)
            client.post("/connection/ticket", headers=headers)
            client.get(f"/nothing?token={canary}", headers=headers)
        assert hub.end() == 0
        assert canary not in hub.log
        assert canary.split(".")[1] not in hub.log
        assert settings.api_key not in hub.log.split()


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    """A port in use and a directory that cannot be written end it with one sentence."""
    file = tmp_path / "file"
    file.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for settings, expected in (
            (Settings(port=port, data_dir=str(tmp_path)), f"port {port} of 127.0.0.1 is in use"),
            (_settings(data_dir=str(file / "data")), str(file)),
        ):
            with HubProcess(settings) as hub:
                assert hub.ready_line == ""
                assert hub.wait() == 1
                assert expected in hub.log
                assert "Traceback" not in hub.log
