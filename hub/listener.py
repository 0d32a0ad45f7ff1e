"""The listening sockets: ours, so that workers can share a port, and dead readers are dropped.

On Linux every worker has a socket of its own on the one address, and the kernel spreads
connections over them evenly; a socket that all share wakes whoever is quickest, often the
same one. The price: while a worker is replaced, the connections that are its share wait for
its successor. Elsewhere ``SO_REUSEPORT`` does not spread, so there they share.
"""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import ExitStack

from channels.errors import SettingsError
from hub.settings import Settings

__all__ = ["bind", "bind_all", "url_of"]

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
    try:
        return _listen(socket.socket(family, kind, protocol), address)
    except OSError as error:
        raise SettingsError(_why(error, host, port)) from None


def bind_all(settings: Settings) -> list[socket.socket]:
    """Return the socket of each worker, on one address as :func:`bind` has it.

    Keep them for as long as there are workers: connections that a dead one had not accepted
    wait in its socket for its successor. Where they share a socket, it is there several times.

    Raises:
        SettingsError: the address cannot be had, be it because another hub has it.
    """
    # Bound without SO_REUSEPORT, the first one is refused a port on which anybody listens,
    # those included who would share it. After that a program of the same user could join by
    # asking for it; a hub never asks for a port that is not its own already.
    first = bind(settings)
    if sys.platform != "linux" or settings.workers == 1:
        return [first] * settings.workers
    address = first.getsockname()
    with ExitStack() as stack:
        listeners = [stack.enter_context(first)]
        try:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            while len(listeners) < settings.workers:
                more = socket.socket(first.family, first.type, first.proto)
                more.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                listeners.append(stack.enter_context(_listen(more, address)))
        except OSError as error:
            raise SettingsError(_why(error, settings.host, address[1])) from None
        stack.pop_all()
    return listeners


def _listen(listener: socket.socket, address: tuple[object, ...]) -> socket.socket:
    """Return ``listener``, which listens at ``address`` now; closed where that fails."""
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
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
