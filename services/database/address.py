"""Addresses of databases: what may stand in a URL. SQLAlchemy is not loaded for that."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from channels.errors import SettingsError

__all__ = ["DRIVERS", "check_database_url"]

#: Schemes, and what SQLAlchemy calls them.
DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_EXPECTED = "expected sqlite:///path or postgresql://user:password@host/name"


def check_database_url(url: str) -> str:
    """Return ``url`` if a database can be reached by it.

    Raises:
        SettingsError: it is not one of SQLite or PostgreSQL. Of the URL it tells the scheme
            only: there may be a password in the rest.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme:
        raise SettingsError(f"the database URL cannot be read: {_EXPECTED}")
    if scheme not in DRIVERS:
        raise SettingsError(f"the database URL has scheme {scheme[:40]!r}: {_EXPECTED}")
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0 and len(parts.path) > 1
    except ValueError:
        raise SettingsError(f"the database URL cannot be read: {_EXPECTED}") from None
    if DRIVERS[scheme].startswith("sqlite"):
        if rest and not rest.startswith("/"):
            raise SettingsError(
                "the database URL names a host, and SQLite is a file: three slashes before a "
                "relative path, four before an absolute one"
            )
    elif not named:
        raise SettingsError(f"the database URL names no host or no database: {_EXPECTED}")
    return url
