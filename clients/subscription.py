"""One iterator over the publications of some channels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from channels import Position

from .inbox import Inbox

__all__ = ["Subscription"]

#: What it yields: deliveries, gaps, and snapshots where they were asked for.
Item = TypeVar("Item")


class _Hub(Protocol):
    """What a subscription needs of the connection it lives on."""

    async def follow(self, subscription: Subscription[Any], since: Mapping[str, Position]) -> None:
        """Ask the hub for the channels of ``subscription``."""

    async def leave(self, subscription: Subscription[Any]) -> None:
        """Ask for them no longer."""


class Subscription(Generic[Item]):
    """The publications of some channels, in each channel's order.

    ``async for`` begins to follow when it asks for the first item. ``async with`` begins
    at once, so that what is published inside the block cannot be missed, and leaves the
    channels at its end; without it they are left when the subscriber closes.

    Attributes:
        channels: the names it was made for.
        snapshot: whether the state behind them is wanted.
    """

    def __init__(
        self,
        hub: _Hub,
        channels: tuple[str, ...],
        since: Mapping[str, Position],
        size: int,
        *,
        snapshot: bool = False,
    ) -> None:
        self._hub = hub
        self._since = since
        self._inbox: Inbox[Item] = Inbox(size)
        self._missing = set(channels)
        self._ready: asyncio.Future[None] | None = None
        self.channels = channels
        self.snapshot = snapshot

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        if self._ready is None:
            await self._begin()
        return await self._inbox.get()

    async def aclose(self) -> None:
        """Leave the channels; what was not taken yet is dropped."""
        self._inbox.close(discard=True)
        await self._hub.leave(self)

    async def _begin(self) -> None:
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            await self._hub.follow(self, self._since)
        await asyncio.shield(self._ready)

    async def deliver(self, item: Item) -> None:
        """Hand ``item`` to the iterator once its buffer has room (the connection calls it)."""
        await self._inbox.put(item)

    def joined(self, channel: str) -> None:
        """Note that ``channel`` is followed now (the connection calls it)."""
        self._missing.discard(channel)
        if not self._missing and self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def end(self, error: BaseException | None) -> None:
        """End the iterator after what it holds (the connection calls it)."""
        self._inbox.close(error)
        if self._ready is None or self._ready.done():
            return
        if error is None:
            self._ready.cancel()
        else:
            self._ready.set_exception(error)
            # The inbox tells it as well; nobody has to wait for it here.
            self._ready.exception()
