"""Addresses of REST APIs: what is one, and what is refused before a token is sent there."""

from __future__ import annotations

import pytest

from channels.errors import SettingsError
from services.store.open_store import store_from_url
from services.store.rest_address import RestAddress, is_rest_url
from services.store.tcp import TcpStore
from services.store.upstash import UpstashStore


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("https://x.upstash.io", "x.upstash.io"),
        ("https://x.upstash.io/", "x.upstash.io"),
        ("https://x.upstash.io:8443/redis/", "x.upstash.io:8443/redis"),
        ("http://127.0.0.1:8079", "127.0.0.1:8079"),
        ("http://localhost", "localhost"),
        ("http://[::1]:8079", "[::1]:8079"),
    ],
)
def test_addresses(url: str, where: str) -> None:
    """HTTPS anywhere, plain HTTP on this machine."""
    address = RestAddress.from_url(url, "t")
    assert address.where == where
    assert address.local == where.startswith(("127", "localhost", "[::1]"))


@pytest.mark.parametrize(
    ("url", "token", "message"),
    [
        ("http://x.upstash.io", "secret", "expected https:// for x.upstash.io"),
        ("http://127.0.0.1.example.com", "secret", "expected https://"),
        ("https://user:canary@x.upstash.io", "secret", "expected https://x.upstash.io alone"),
        ("https://x.upstash.io?_token=canary", "secret", "a setting of its own"),
        ("https://x.upstash.io", None, "expected a token"),
        ("https://x.upstash.io", "", "expected a token"),
        ("https://x.upstash.io", "secret\r\nX: y", "printable ASCII"),
        ("https://x.upstash.io", "secreté", "printable ASCII"),
        ("https://", "secret", "https://name.upstash.io"),
        ("https://[canary", "secret", "cannot be read"),
        ("https://x:canary", "secret", "cannot be read"),
        ("ftp://x", "secret", "got ftp://"),
    ],
)
def test_what_is_refused(url: str, token: str | None, message: str) -> None:
    """Each with its reason, and without the secrets in it."""
    with pytest.raises(SettingsError, match=message) as refused:
        RestAddress.from_url(url, token)
    assert "secret" not in str(refused.value)
    assert "canary" not in str(refused.value)


def test_a_token_is_not_shown() -> None:
    """Neither by repr nor by str."""
    address = RestAddress.from_url("https://x.upstash.io", "canary")
    assert "canary" not in repr(address) + str(address)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost", TcpStore),
        ("rediss://localhost", TcpStore),
        ("unix:///run/redis.sock", TcpStore),
        ("https://x.upstash.io", UpstashStore),
        ("HTTPS://x.upstash.io", UpstashStore),
        ("http://127.0.0.1:1", UpstashStore),
    ],
)
def test_a_url_says_which_store(url: str, kind: type) -> None:
    """One function for all of them."""
    assert type(store_from_url(url, "t")) is kind
    assert is_rest_url(url) is (kind is UpstashStore)


def test_what_no_store_understands() -> None:
    """The error names what would be understood."""
    with pytest.raises(SettingsError, match="redis://"):
        store_from_url("gopher://x")
