"""Where a REST database is and what opens it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import msgspec

from channels.errors import SettingsError

__all__ = ["RestAddress", "is_rest_url"]


def is_rest_url(url: str) -> bool:
    """Return whether ``url`` is one of a REST API, by its scheme."""
    return url.partition("://")[0].lower() in {"http", "https"}


class RestAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address and its token; its text forms never show the token."""

    url: str
    token: str

    @classmethod
    def from_url(cls, url: str, token: str | None) -> RestAddress:
        """Check both; raises ``SettingsError``, which repeats neither.

        Plain HTTP is for this machine only: the token goes with every request.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise SettingsError(
                "expected an address such as https://name.upstash.io, got one that cannot be read"
            ) from None
        if not is_rest_url(url) or not host:
            raise SettingsError(
                f"expected an address such as https://name.upstash.io, got {parts.scheme[:16]}://"
            )
        if parts.scheme == "http" and not _is_loopback(host):
            raise SettingsError(
                f"expected https:// for {host}: over plain http:// everybody on the way reads "
                "the token (http:// is for this machine only)"
            )
        if parts.username is not None or parts.query or parts.fragment:
            raise SettingsError(
                f"expected https://{host} alone, got more: the token is a setting of its own"
            )
        if not token:
            raise SettingsError(
                f"expected a token for the REST address of {host}, got none: it stands beside that "
                "address in the console of the database, and goes into FANWIRE_REDIS_TOKEN"
            )
        if not token.isascii() or not token.isprintable() or " " in token:
            raise SettingsError(
                f"expected a token of printable ASCII for {host}, got other characters"
            )
        shown = f"[{host}]" if ":" in host else host
        where = shown if port is None else f"{shown}:{port}"
        return cls(url=f"{parts.scheme}://{where}{parts.path.rstrip('/')}", token=token)

    @property
    def where(self) -> str:
        """The address for messages and logs."""
        return self.url.partition("://")[2]

    @property
    def local(self) -> bool:
        """Whether it is on this machine: then no proxy stands in between."""
        return _is_loopback(urlsplit(self.url).hostname or "")

    def __repr__(self) -> str:
        return f"RestAddress({self.url})"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
