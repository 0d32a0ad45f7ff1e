"""The store for a URL: which adapter speaks to what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .port import Store
from .rest_address import RestAddress, is_rest_url
from .tcp import TcpStore, TcpStoreOptions

if TYPE_CHECKING:
    from .upstash import UpstashStoreOptions

__all__ = ["store_from_url"]


def store_from_url(
    url: str,
    token: str | None = None,
    *,
    tcp: TcpStoreOptions | None = None,
    rest: UpstashStoreOptions | None = None,
) -> Store:
    """Return the store behind ``url``, not opened yet.

    ``redis://``, ``rediss://`` and ``unix://`` are one server; ``https://`` (on this machine
    ``http://`` too) is Upstash's REST API, and only that has a ``token``: elsewhere it is
    not looked at.

    Raises:
        SettingsError: the URL cannot be read, or has no token where one is needed. It repeats
            neither.
    """
    if is_rest_url(url):
        # Imported here: who speaks TCP needs neither the SDK nor an HTTP client.
        from .upstash import UpstashStore  # noqa: PLC0415

        return UpstashStore(RestAddress.from_url(url, token), options=rest)
    return TcpStore(url, tcp)
