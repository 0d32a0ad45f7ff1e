"""The meaning of a Redis URL."""

from __future__ import annotations

import ssl

import pytest

from channels.errors import SettingsError
from services.store.endpoint import Endpoint, TlsFiles


def test_forms() -> None:
    """TCP, TLS and unix sockets, with credentials and a database."""
    assert Endpoint.from_url("redis://") == Endpoint()
    assert Endpoint.from_url("redis://u:p%40ss@h:1/2?client_name=me&protocol=2") == Endpoint(
        host="h", port=1, db=2, username="u", password="p@ss", client_name="me", protocol=2
    )
    assert Endpoint.from_url("redis://h?db=4").db == 4
    assert Endpoint.from_url("unix://:pw@/run/a.sock?db=1") == Endpoint(
        path="/run/a.sock", db=1, password="pw"
    )
    assert Endpoint.from_url("rediss://h").tls == TlsFiles()
    assert Endpoint.from_url("rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem").tls == TlsFiles(
        verify=False, ca_certs="/ca.pem"
    )


def test_where_shows_no_secrets() -> None:
    """Every text form of an endpoint is fit for a log."""
    endpoint = Endpoint.from_url("redis://user:secret@[::1]:7/0")
    assert endpoint.where == "[::1]:7"
    assert Endpoint.from_url("unix:///run/a.sock").where == "/run/a.sock"
    for text in (repr(endpoint), str(endpoint), f"{endpoint}"):
        assert "secret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://h",
        "redis+cluster://h",
        "redis://:secret@h:port",
        "redis://:sec/ret@h:1",
        "redis://:secret@h/zero",
        "redis://:secret@h?db=x",
        "redis://:secret@h?protocol=4",
        "redis://:secret@h?decode_responses=1",
        "rediss://:secret@h?ssl_cert_reqs=maybe",
        "unix://",
    ],
)
def test_what_cannot_be_meant(url: str) -> None:
    """A URL that redis-py would half ignore is refused, without repeating the password."""
    with pytest.raises(SettingsError) as caught:
        Endpoint.from_url(url)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None or "sec" not in str(caught.value.__cause__)


def test_tls_verifies_by_default() -> None:
    """Only who says so gets a connection to anybody."""
    assert TlsFiles().context().verify_mode == ssl.CERT_REQUIRED
    assert TlsFiles().context().check_hostname
    context = TlsFiles(verify=False).context()
    assert context.verify_mode == ssl.CERT_NONE
    with pytest.raises(SettingsError, match="PEM"):
        TlsFiles(ca_certs="/nowhere.pem").context()
