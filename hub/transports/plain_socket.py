"""Sockets that bytes may be written to past their transport.

uvloop's and asyncio's transports close their socket only after ``connection_lost``, so that its
file descriptor is theirs until then. Bytes may go there directly while the transport holds none
back; with a write buffer limit of zero it asks for a pause the moment it does.
"""

from __future__ import annotations

import asyncio
import os

__all__ = ["plain_socket", "report_as_usual", "report_every_byte"]


def plain_socket(transport: asyncio.Transport) -> int:
    """Return the file descriptor that bytes may be written to now; -1 for none.

    None under TLS, or while the transport still holds bytes.
    """
    if not _is_plain(transport) or transport.is_closing() or transport.get_write_buffer_size():
        return -1
    return int(transport.get_extra_info("socket").fileno())


def report_every_byte(transport: asyncio.Transport) -> None:
    """Have the transport ask for a pause as soon as it holds a byte; not under TLS."""
    if _is_plain(transport):
        transport.set_write_buffer_limits(high=0)


def report_as_usual(transport: asyncio.Transport) -> None:
    """Have it ask when its buffer is full."""
    if not transport.is_closing():
        transport.set_write_buffer_limits()


def _is_plain(transport: asyncio.Transport) -> bool:
    """Whether bytes go to a socket of the operating system as they are."""
    return (
        os.name == "posix"
        and transport.get_extra_info("sslcontext") is None
        and transport.get_extra_info("socket") is not None
    )
