"""A bounded buffer between the one who reads the socket and the one who iterates."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from channels.errors import UsageError

__all__ = ["Inbox"]

T = TypeVar("T")


class Inbox(Generic[T]):
    """Holds at most ``size`` items; the writer waits while it is full.

    One writer and one reader at a time. After :meth:`close` the reader gets what is left
    and then the error, or the end; the writer's items are dropped.
    """

    __slots__ = ("_closed", "_error", "_items", "_items_came", "_room_came", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._items_came: asyncio.Future[None] | None = None
        self._room_came: asyncio.Future[None] | None = None
        self._closed = False
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """Add ``item`` once there is room for it."""
        while len(self._items) >= self._size and not self._closed:
            self._room_came = asyncio.get_running_loop().create_future()
            try:
                await self._room_came
            finally:
                self._room_came = None
        if not self._closed:
            self._items.append(item)
            _wake(self._items_came)

    async def get(self) -> T:
        """Take the oldest item, or wait for one.

        Raises:
            StopAsyncIteration: the inbox was closed and is empty.
            UsageError: somebody else is waiting already.
        """
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            if self._items_came is not None:
                raise UsageError("one task at a time may iterate; another one is waiting already")
            self._items_came = asyncio.get_running_loop().create_future()
            try:
                await self._items_came
            finally:
                self._items_came = None
        item = self._items.popleft()
        _wake(self._room_came)
        return item

    def close(self, error: BaseException | None = None, *, discard: bool = False) -> None:
        """End the inbox: with ``error`` for the reader, or quietly. The first close counts."""
        if discard:
            self._items.clear()
        if not self._closed:
            self._closed = True
            self._error = error
        _wake(self._items_came)
        _wake(self._room_came)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
