"""The listening socket: ours, so that it can be shared and can drop dead readers."""

from __future__ import annotations

import errno
import socket

from channels.errors import SettingsError
from hub.settings import Settings

__all__ = ["bind", "url_of"]

#: A peer that acknowledges nothing for so long is gone. The kernel then ends the connection,
#: whatever the server above is waiting for; accepted sockets inherit it.
_USER_TIMEOUT_MS = 10_000
_BACKLOG = 2048


def bind(settings: Settings) -> socket.socket:
    """Return a socket bound to the address of the settings; port 0 takes a free one.

    Raises:
        SettingsError: the address cannot be had.
    """
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise SettingsError(
            f"host: expected a name or address of this machine; got {host!r}"
        ) from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(_why(error, host, port)) from None
    listener.set_inheritable(True)
    return listener


def _why(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} of {host} is in use: end the process that listens there, or "
                "choose another port with --port or FANWIRE_PORT"
            )
        case errno.EACCES:
            return f"this user may not listen on port {port} of {host}: choose one above 1023"
        case errno.EADDRNOTAVAIL:
            return f"host: {host!r} is no address of this machine"
    return f"cannot listen on port {port} of {host}: {error.strerror}"


def url_of(listener: socket.socket) -> str:
    """Return where the socket can be reached, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
