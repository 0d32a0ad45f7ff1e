"""The listening socket: bound once, shared, and impatient with dead readers."""

from __future__ import annotations

import socket

import pytest

from channels.errors import SettingsError
from hub.listener import bind, url_of
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
