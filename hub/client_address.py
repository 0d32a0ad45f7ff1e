"""Where a request comes from: the socket's peer, unless that is a proxy of ours."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.types import Scope

__all__ = ["TrustedProxies"]


class TrustedProxies:
    """Whose ``X-Forwarded-For`` is believed; the rules are those of uvicorn's proxy headers.

    Each proxy appends where it was asked from, so the list is read from its end: the first
    address that is no proxy of ours is the client; what stands before it anybody can write.
    With ``*`` every peer is believed, and the first address counts.
    """

    __slots__ = ("_all", "_networks")

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """Take addresses and networks, which are valid, or ``*``."""
        names = list(trusted)
        self._all = "*" in names
        self._networks = [ipaddress.ip_network(name, strict=False) for name in names if name != "*"]

    def address_of(self, scope: Scope) -> str:
        """Return the client's address; empty where there is none (a unix socket)."""
        client = scope.get("client")
        peer: str = client[0] if client else ""
        if not (self._all or self._networks) or not self._trusts(peer):
            return peer
        told = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hosts = [_host(one) for one in b",".join(told).decode("latin-1").split(",")]
        if not hosts[0] and len(hosts) == 1:
            return peer
        if not self._all:
            for host in reversed(hosts):
                if not self._trusts(host):
                    return host or peer
        return hosts[0] or peer

    def _trusts(self, host: str) -> bool:
        if self._all:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if address.version == 6 and address.ipv4_mapped is not None:
            # What a socket for both versions calls a peer that came by IPv4.
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def _host(text: str) -> str:
    """Return the host of ``host``, ``host:port`` or ``[host]:port``."""
    text = text.strip()[:256]
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
