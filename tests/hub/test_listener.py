"""The listening sockets: ours alone, one a worker, and impatient with dead readers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from channels.errors import SettingsError
from hub import listener as module
from hub.listener import bind, bind_all, url_of
from hub.settings import Settings


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_it_can_be_reached_where_it_says(host: str, shown: str) -> None:
    """Port 0 takes a free one; connections are accepted from then on."""
    with bind(Settings(host=host, port=0)) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://{shown}:{port}"
        with socket.create_connection((host, port)):
            accepted, _ = listener.accept()
            with accepted:
                timeout_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                assert timeout_ms == 10_000


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no.such.host.invalid", "host: expected a name or address of this machine"),
        ("192.0.2.1", "is no address of this machine"),
        ("a" * 300, "host: expected a name"),
    ],
)
def test_a_host_that_is_not_ours_is_refused(host: str, message: str) -> None:
    """The error names the setting and what came."""
    with pytest.raises(SettingsError, match=message):
        bind(Settings(host=host, port=0))


def test_a_port_in_use_is_refused() -> None:
    """The error names the port and two ways out."""
    with bind(Settings(port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} .* in use.*--port or FANWIRE_PORT"):
            bind(Settings(port=port))


@contextmanager
def _all(settings: Settings) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(listener) for listener in bind_all(settings)]


def _accepted(listener: socket.socket) -> int:
    """Return how many connections wait, and end them."""
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.skipif("sys.platform != 'linux'", reason="SO_REUSEPORT spreads on Linux only")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_spread_over_the_workers(host: str) -> None:
    """Each has a socket of its own on the port that the first one got, and its share."""
    with _all(Settings(host=host, port=0, workers=3)) as listeners:
        assert len({listener.fileno() for listener in listeners}) == 3
        [address] = {listener.getsockname() for listener in listeners}
        with ExitStack() as stack:
            for _ in range(180):
                stack.enter_context(socket.create_connection(address[:2]))
            shares = [_accepted(listener) for listener in listeners]
        assert sum(shares) == 180
        # The share of each is 60 give or take 6: this is six times that.
        assert min(shares) > 20
        for listener in listeners:
            assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


@pytest.mark.parametrize("ours", [1, 2])
@pytest.mark.parametrize("theirs", [1, 2])
def test_another_hub_cannot_have_the_port(ours: int, theirs: int) -> None:
    """Though those that share a port let others in who want to: we never want to."""
    with _all(Settings(port=0, workers=theirs)) as first:
        port = first[0].getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} .* in use"):
            bind_all(Settings(port=port, workers=ours))
        # Nothing of the attempt is left, and nothing is taken away.
        with socket.create_connection(("127.0.0.1", port)):
            pass
    with _all(Settings(port=port, workers=ours)):
        pass


def test_a_port_that_somebody_shares_is_refused() -> None:
    """Another program with SO_REUSEPORT would take a part of our clients."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} .* in use"):
            bind_all(Settings(port=port, workers=2))


def test_where_the_kernel_does_not_spread_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """One socket for all workers, as many times as there are."""
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform="darwin"))
    with _all(Settings(port=0, workers=3)) as listeners:
        assert len(listeners) == 3
        assert len({listener.fileno() for listener in listeners}) == 1
