"""The hub's store, but listening as most programs do: a pub/sub loop of redis-py.

It is what the store's own subscriber connection is compared to (``bench_unicast.py``), and
no more than that: it does not reconnect and is not probed. Commands go the usual way.
"""

from __future__ import annotations

import asyncio
import contextlib

from redis.asyncio import Redis

from services.store.port import Listener
from services.store.tcp import TcpStore, TcpStoreOptions

__all__ = ["RedisPyStore"]


class RedisPyStore(TcpStore):
    """A :class:`TcpStore` whose listeners are served by ``PubSub.listen`` of redis-py."""

    def __init__(self, url: str, options: TcpStoreOptions | None = None) -> None:
        super().__init__(url, options)
        self._pubsub = Redis.from_url(url).pubsub()
        self._listeners: dict[bytes, Listener] = {}
        self._confirmations: dict[bytes, asyncio.Future[None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def listen(self, channel: str, listener: Listener) -> None:
        """Subscribe; returns when the server has confirmed it."""
        name = channel.encode()
        confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._confirmations[name] = confirmation
        self._listeners[name] = listener
        await self._pubsub.subscribe(name)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        await confirmation

    async def unlisten(self, channel: str) -> None:
        """Undo :meth:`listen`."""
        name = channel.encode()
        if self._listeners.pop(name, None) is not None:
            await self._pubsub.unsubscribe(name)

    async def _read(self) -> None:
        # Not PubSub.listen(): it ends when the last channel is left, this may go on after it.
        while True:
            message = await self._pubsub.get_message(timeout=None)
            if message is None:
                continue
            name = message["channel"]
            if message["type"] == "message":
                if (listener := self._listeners.get(name)) is not None:
                    listener.on_message(message["data"])
            elif message["type"] == "subscribe":
                self._confirmations.pop(name).set_result(None)

    async def close(self) -> None:
        """End the loop, and everything of the store."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        await self._pubsub.aclose()
        await super().close()
