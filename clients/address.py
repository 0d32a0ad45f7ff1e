"""Where a hub's WebSocket is, and what its answer to the handshake means."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from channels import FanwireError
from channels.errors import (
    BadRequest,
    HubUnavailable,
    NotAvailable,
    PermissionDenied,
    Unauthorized,
    UsageError,
)

from .conversation import Over

__all__ = ["handshake_refused", "websocket_url"]


def websocket_url(url: str) -> str:
    """Return the WebSocket address of the hub at ``url``.

    Raises:
        UsageError: ``url`` is no address of a hub.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise UsageError(f"expected the hub's address as http://host:port; got {url!r}")
    path = parts.path.rstrip("/")
    if not path.endswith("/connection/websocket"):
        path += "/connection/websocket"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


_BY_STATUS: dict[int, type[FanwireError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: PermissionDenied,
    404: NotAvailable,
}


def handshake_refused(status: int) -> Over:
    """Return what an HTTP answer other than 101 means for the connection."""
    kind = _BY_STATUS.get(status, HubUnavailable)
    message = f"expected the hub to accept a WebSocket (status 101); got status {status}"
    return Over(kind(message), reconnect=kind is HubUnavailable)
