"""The live connections of this node, of every transport."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol, TypeAlias, get_args

from channels.errors import Disconnect, Disconnects, TooManyRequests

__all__ = ["Client", "Registry", "Transport"]

#: What carries a client.
Transport: TypeAlias = Literal["websocket", "sse"]


class Client(Protocol):
    """A connected client, whatever carries it."""

    @property
    def user(self) -> str:
        """Id of the user, empty while unknown or anonymous."""

    def end(self, disconnect: Disconnect) -> None:
        """Say goodbye and close; returns at once."""


class Registry:
    """Counts the clients of this node, bounds them, and can end them all."""

    __slots__ = ("_clients", "_empty", "_ending", "_limit", "accepted", "connections")

    def __init__(self, limit: int) -> None:
        self._clients: dict[Client, Transport] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._limit = limit
        self._ending: Disconnect | None = None
        #: Clients there are, and that ever came, by transport.
        self.connections: dict[str, int] = dict.fromkeys(get_args(Transport), 0)
        self.accepted = dict(self.connections)

    def __len__(self) -> int:
        return len(self._clients)

    def count_users(self) -> int:
        """Return how many different users are connected."""
        return len({client.user for client in self._clients if client.user})

    def add(self, client: Client, transport: Transport) -> None:
        """Count ``client`` in; once.

        Raises:
            TooManyRequests: this node has as many clients as it may have.
        """
        if len(self._clients) >= self._limit:
            raise TooManyRequests(f"this node has its {self._limit} clients; try again later")
        self._clients[client] = transport
        self.connections[transport] += 1
        self.accepted[transport] += 1
        self._empty.clear()
        if self._ending is not None:
            client.end(self._ending)

    def remove(self, client: Client) -> None:
        """Count ``client`` out; does nothing when it is not in."""
        transport = self._clients.pop(client, None)
        if transport is not None:
            self.connections[transport] -= 1
        if not self._clients:
            self._empty.set()

    def end_all(self, disconnect: Disconnect = Disconnects.SHUTDOWN) -> None:
        """End every client, and whoever still comes."""
        self._ending = disconnect
        for client in list(self._clients):
            client.end(disconnect)

    async def wait_empty(self) -> None:
        """Return when no client is left."""
        await self._empty.wait()
