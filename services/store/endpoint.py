"""Where a server is and how to greet it: the meaning of a Redis URL.

redis-py reads the URL, so that every form it knows means the same here. What it would
overlook in silence (an unknown query parameter, a database that is no number) is an error.
"""

from __future__ import annotations

import ssl
from typing import Literal
from urllib.parse import urlparse

import msgspec
from redis.asyncio.connection import parse_url

from channels.errors import SettingsError

__all__ = ["Endpoint", "TlsFiles"]

_SCHEMES = ("redis", "rediss", "unix")
_PARAMETERS = {
    "host",
    "port",
    "path",
    "db",
    "username",
    "password",
    "client_name",
    "protocol",
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
    "connection_class",
}


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """How the server proves who it is, and we to it; paths of PEM files."""

    verify: bool = True
    check_hostname: bool = True
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return the TLS context; a file that cannot be read raises ``SettingsError``."""
        try:
            context = ssl.create_default_context(cafile=self.ca_certs)
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"expected readable PEM files for TLS, got: {error}") from error
        context.check_hostname = self.verify and self.check_hostname
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        return context


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One server: address, credentials and database.

    Its text forms show the address and never the credentials.
    """

    host: str = "localhost"
    port: int = 6379
    #: A unix socket; host and port mean nothing then.
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = None
    client_name: str | None = None
    protocol: Literal[2, 3] = 3
    tls: TlsFiles | None = None

    @classmethod
    def from_url(cls, url: str) -> Endpoint:
        """Read ``redis://``, ``rediss://`` or ``unix://``; anything else raises ``SettingsError``.

        The error never repeats the URL, because a URL carries the password.
        """
        scheme = url.partition("://")[0] if "://" in url else ""
        if scheme not in _SCHEMES:
            raise SettingsError(
                "expected a Redis URL that starts with redis://, rediss:// or unix://, got "
                + (f"{scheme}://" if scheme.isalnum() else "something else")
            )
        try:
            found = dict(parse_url(url))
            database = urlparse(url).path.strip("/")
        except ValueError:
            # The cause would print parts of the URL, and a broken one may show the password.
            raise SettingsError(
                "expected a Redis URL like redis://user:password@host:6379/0, got one that"
                " cannot be read (is a character of the password not percent-encoded?)"
            ) from None
        unknown = sorted(found.keys() - _PARAMETERS)
        if unknown:
            raise SettingsError(f"unknown parameter in the Redis URL: {', '.join(unknown)}")
        if scheme != "unix" and database and not database.isdecimal():
            raise SettingsError(
                f"expected a database number in the Redis URL's path, got {database!r}"
            )
        found.pop("connection_class", None)
        tls = _take_tls(found)
        if scheme == "unix" and not found.get("path"):
            raise SettingsError("expected a path in unix://, like unix:///run/redis.sock")
        try:
            return msgspec.convert(
                {**found, "tls": tls if scheme == "rediss" else None}, cls, strict=False
            )
        except msgspec.ValidationError as error:
            raise SettingsError(f"wrong value in the Redis URL: {error}") from error

    @property
    def where(self) -> str:
        """The address for messages and logs."""
        if self.path is not None:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Endpoint({self.where}, db={self.db}, tls={self.tls is not None})"


def _take_tls(found: dict[str, object]) -> TlsFiles:
    """Move redis-py's ``ssl_*`` parameters out of ``found``."""
    verify = str(found.pop("ssl_cert_reqs", "required")).removeprefix("CERT_").lower()
    if verify not in {"required", "none"}:
        raise SettingsError(
            f"expected ssl_cert_reqs=required or none in the Redis URL, got {verify!r}"
        )
    return TlsFiles(
        verify=verify == "required",
        check_hostname=bool(found.pop("ssl_check_hostname", True)),
        ca_certs=_text(found.pop("ssl_ca_certs", None)),
        certfile=_text(found.pop("ssl_certfile", None)),
        keyfile=_text(found.pop("ssl_keyfile", None)),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
