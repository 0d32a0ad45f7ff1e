"""Origins: whose pages may talk to the hub."""

from __future__ import annotations

import pytest

from channels.errors import PermissionDenied
from hub.origin import OriginPolicy

STRICT = OriginPolicy(frozenset({"https://app.example"}))
INSECURE = OriginPolicy(insecure=True)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "hub.example"),
        ("https://app.example", "hub.example"),
        ("https://APP.example", "hub.example"),
        ("https://hub.example", "hub.example"),
        ("https://hub.example", "hub.example:443"),
        ("http://hub.example", "HUB.example:80"),
        ("http://hub.example:8000", "hub.example:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_our_own_and_allowed_pages_pass(origin: str | None, host: str) -> None:
    """The hub's own pages, listed ones, and callers that are no page, may connect."""
    STRICT.check(origin, host)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "https://app.example.evil.example",
        "https://evilapp.example",
        "http://app.example",
        "https://app.example:444",
        "https://app.example.",
        "https://hub.example@evil.example",
        "https://hub.example/path",
        "https://hub.example:x",
        "file://hub.example",
        "http://localhost:3000",
        "https://[hub.example",
    ],
)
def test_foreign_pages_do_not(origin: str) -> None:
    """Everything that only looks like an allowed origin is refused."""
    with pytest.raises(PermissionDenied):
        STRICT.check(origin, "hub.example")


def test_insecure_means_this_machine() -> None:
    """An insecure hub takes pages of any loopback port, and no name but a loopback one."""
    INSECURE.check("http://localhost:3000", "127.0.0.1:8000")
    INSECURE.check("http://127.0.0.1:8000", "127.0.0.1:8000")
    INSECURE.check(None, "localhost:8000")
    for origin, host in (
        ("http://evil.example", "127.0.0.1:8000"),
        ("http://evil.example", "evil.example"),
        (None, "evil.example:8000"),
        (None, None),
        (None, "localhost:8000/x"),
    ):
        with pytest.raises(PermissionDenied):
            INSECURE.check(origin, host)


def test_a_star_lets_every_page_in() -> None:
    """An operator may allow all, in so many words."""
    OriginPolicy(frozenset({"*"})).check("https://evil.example", "hub.example")
