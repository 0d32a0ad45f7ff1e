"""The servers of others keep the contract of ``benchmarks.peers``, where they can run."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from benchmarks.peers import MARKER, SEQ, Endpoint, Peer, Publish, Subscribe, all_peers
from benchmarks.peers._debian import DebianPackages
from benchmarks.peers._peer import ServedPeer
from benchmarks.peers._preparation import PreparationError, Stamp, run
from benchmarks.peers._server import running_server

from ..servers import PATIENCE_S, gone

PEERS = {peer.name: peer for peer in all_peers()}
NUMBER = "00000042"
EXPECTED = MARKER.replace(SEQ, NUMBER)


@pytest.fixture(params=list(PEERS.values()), ids=list(PEERS))
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each peer in turn."""
    found: Peer = request.param
    return found


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_peers_of_the_table_are_there() -> None:
    """The servers that the hub is compared with each have a module, and a name of their own."""
    assert len(all_peers()) == len(PEERS)
    assert not any(set(name) & set(", ") for name in PEERS)  # they are given as a list
    assert set(PEERS) == {
        "broadcaster",
        "centrifuge-go",
        "django-channels-memory",
        "fastapi-queue",
        "nchan",
        "python-socketio",
        "socket.io",
        "sse-starlette",
        "ws",
        "ws-one-frame",
    }


def test_a_peer_that_cannot_run_says_how_to_get_it(peer: Peer) -> None:
    """What is missing comes with the command that provides it."""
    reason = peer.missing()

    assert reason is None or ": apt-get install" in reason or ": python -m benchmarks" in reason


def test_a_peer_that_can_run_tells_its_versions(peer: Peer) -> None:
    """A report can say what was measured."""
    if (reason := peer.missing()) is not None:
        pytest.skip(f"{peer.name}: {reason}")
    versions = peer.versions()

    assert versions
    assert all(version[0].isdigit() for version in versions.values())


async def test_a_subscriber_gets_a_message(peer: Peer) -> None:
    """What is published reaches a subscriber, over everything that the peer offers, and once."""
    if (reason := peer.missing()) is not None:
        pytest.skip(f"{peer.name}: {reason}")
    core = min(os.sched_getaffinity(0))
    with peer.running(free_port(), core) as endpoint:
        assert endpoint.ws or endpoint.sse
        assert endpoint.pids
        assert all(os.sched_getaffinity(pid) == {core} for pid in endpoint.pids)
        async with asyncio.timeout(PATIENCE_S):
            if endpoint.ws is not None:
                await over_websocket(endpoint, endpoint.ws)
            if endpoint.sse is not None:
                await over_event_source(endpoint, endpoint.sse)

    assert all(gone(pid) for pid in endpoint.pids)


async def over_websocket(endpoint: Endpoint, subscribe: Subscribe) -> None:
    """Subscribe, publish and receive as the load client does."""
    url = f"ws://127.0.0.1:{endpoint.publish.port}{subscribe.path}"
    async with connect(url, compression=None) as websocket:
        for text in subscribe.hello:
            await websocket.send(text)
        while subscribe.ready and subscribe.ready not in str(await websocket.recv()):
            pass
        await publish(endpoint.publish)
        assert str(await websocket.recv()).count(EXPECTED) == 1


async def over_event_source(endpoint: Endpoint, subscribe: Subscribe) -> None:
    """Subscribe, publish and receive as the load client does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.publish.port)
    try:
        writer.write(f"GET {subscribe.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode())
        writer.write(b"Accept: text/event-stream\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"text/event-stream" in head
        await publish(endpoint.publish)
        assert EXPECTED in (await reader.readuntil(EXPECTED.encode())).decode()
    finally:
        writer.close()
        await writer.wait_closed()


async def publish(how: Publish) -> None:
    """Send one message, number 42, and require that the server took it."""
    reader, writer = await asyncio.open_connection(how.host, how.port)
    try:
        writer.write(how.template.replace(SEQ.encode(), NUMBER.encode()))
        status = await reader.readline()
        assert status.startswith(b"HTTP/1.1 2")
    finally:
        writer.close()
        await writer.wait_closed()


def test_a_peer_is_not_run_without_what_it_needs() -> None:
    """Running one that is missing fails with the reason, before anything is started."""
    absent = ServedPeer("absent", Unavailable())

    with (
        pytest.raises(RuntimeError, match="absent cannot run: not here: apt-get install it"),
        absent.running(free_port(), None),
    ):
        pytest.fail("it ran")


class Unavailable:
    """A program that can be neither built nor run."""

    def missing(self) -> str | None:
        """Return the reason."""
        return "not here: apt-get install it"

    def prepare(self) -> None:
        """Do nothing."""

    def versions(self) -> dict[str, str]:
        """Return nothing."""
        return {}

    def command(self, port: int) -> list[str]:
        """Return a command that fails."""
        return ["false"]


def test_a_package_of_debian_that_is_not_installed_is_named() -> None:
    """The command installs all that is needed, and the reason names what is not there."""
    packages = DebianPackages(("fanwire-no-such-package",))

    assert packages.versions() == {}
    assert packages.missing() == (
        "fanwire-no-such-package is not installed: "
        "apt-get install --no-install-recommends fanwire-no-such-package"
    )


def test_a_changed_input_makes_a_build_stale(tmp_path: Path) -> None:
    """A build counts for the inputs it was made from, and from its end on."""
    source = tmp_path / "requirements.txt"
    source.write_text("uvicorn==1", encoding="utf-8")
    built = tmp_path / "built"
    built.mkdir()
    stamp = Stamp(built, source, "3.11")

    assert not stamp.is_current()
    stamp.write()
    assert stamp.is_current()
    assert not Stamp(built, source, "3.12").is_current()
    source.write_text("uvicorn==2", encoding="utf-8")
    assert not stamp.is_current()


def test_a_build_that_fails_says_what_the_tool_said(tmp_path: Path) -> None:
    """The reason is in the message, and so is a tool that is not there."""
    failing = [sys.executable, "-c", "import sys; sys.exit('no such version')"]

    with pytest.raises(PreparationError, match="ended with status 1: no such version"):
        run(failing, tmp_path)
    with pytest.raises(PreparationError, match="no-such-tool"):
        run(["no-such-tool"], tmp_path)


def test_a_server_that_ends_at_once_says_why() -> None:
    """The reason is what the server printed."""
    failing = [sys.executable, "-c", "import sys; sys.exit('no certificate')"]

    with (
        pytest.raises(RuntimeError, match=r"status 1 before it .* it said: no certificate"),
        running_server(failing, free_port(), None),
    ):
        pytest.fail("it ran")


def test_a_stranger_on_the_port_is_not_measured() -> None:
    """A port that somebody listens on is refused."""
    with closing(socket.create_server(("127.0.0.1", 0))) as stranger:
        port = stranger.getsockname()[1]

        with (
            pytest.raises(RuntimeError, match=f"port {port} must be free"),
            running_server([sys.executable, "-c", ""], port, None),
        ):
            pytest.fail("it ran")
