"""The Redis client for threads and code without an event loop.

It keeps a store on an event loop of its own, in one background thread, so any number of threads
share one connection. The first operation starts it; :meth:`SyncRedisClient.close` ends it. After
a fork the child starts its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from channels.errors import StoreUnavailable, UsageError
from services.store.port import Store

if TYPE_CHECKING:
    from services.redis_client import RedisClient

__all__ = ["SyncRedisClient"]

_T = TypeVar("_T")

_CLOSED = "the client is closed"


class _Loop:
    """A thread with an event loop, and a client on a store of its own there."""

    def __init__(self, make_store: Callable[[], Store], prefix: str) -> None:
        from services.redis_client import RedisClient  # noqa: PLC0415 - it imports this module

        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._store = make_store()
        self.client = RedisClient(self._store, prefix=prefix)
        #: Nothing is handed to the loop any more once it is to stop: nobody would answer.
        self._gate = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fanwire-redis", daemon=True
        )
        self._thread.start()
        # Operations wait for the connection themselves, and say why there is none.
        self.run(self._store.open(wait=False))

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do ``work`` there and return its result; an interrupted wait cancels it."""
        with self._gate:
            if self._stopping:
                work.close()
                raise StoreUnavailable(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the store, let every waiting thread have its error, end the thread."""
        with self._gate:
            self._stopping = True
            ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        ended.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._store.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)


class SyncRedisClient:
    """The operations of :class:`~services.redis_client.RedisClient`, blocking.

    Safe from any thread. On the thread of a running event loop every operation raises
    ``UsageError``: it would stop everything else there. Waits at most as long as the store's
    deadlines. A context manager; leaving closes it.
    """

    __slots__ = ("_closed", "_lock", "_make_store", "_prefix", "_running")

    def __init__(self, make_store: Callable[[], Store], *, prefix: str = "") -> None:
        """Make one on a store that ``make_store`` makes; nothing is connected yet."""
        self._make_store = make_store
        self._prefix = prefix
        self._lock = threading.Lock()
        self._running: _Loop | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and the thread; later operations raise ``StoreUnavailable``."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None and running.pid == os.getpid():
            running.close()

    def _do(self, operation: Callable[[RedisClient], Awaitable[_T]]) -> _T:
        _refuse_on_a_loop()
        running = self._running
        if running is None or running.pid != os.getpid():
            running = self._start()

        async def work() -> _T:
            return await operation(running.client)

        return running.run(work())

    def _start(self) -> _Loop:
        with self._lock:
            if self._closed:
                raise StoreUnavailable(_CLOSED)
            if self._running is None or self._running.pid != os.getpid():
                self._running = _Loop(self._make_store, self._prefix)
            return self._running

    # -- strings ---------------------------------------------------------------------------

    def get(self, key: str) -> str | None:
        """Return the text at ``key``."""
        return self._do(lambda redis: redis.get(key))

    def set(
        self,
        key: str,
        value: str,
        ex: int | None = None,
        px: int | None = None,
        nx: bool = False,  # noqa: FBT001, FBT002 - the words of Redis
        xx: bool = False,  # noqa: FBT001, FBT002
    ) -> bool:
        """Set the text at ``key``."""
        return self._do(lambda redis: redis.set(key, value, ex, px, nx, xx))

    def mget(self, *keys: str) -> list[str | None]:
        """Return the texts at ``keys``."""
        return self._do(lambda redis: redis.mget(*keys))

    def delete(self, *keys: str) -> int:
        """Delete ``keys``."""
        return self._do(lambda redis: redis.delete(*keys))

    def exists(self, *keys: str) -> int:
        """Return how many of ``keys`` exist."""
        return self._do(lambda redis: redis.exists(*keys))

    # -- how long --------------------------------------------------------------------------

    def expire(self, key: str, seconds: int) -> bool:
        """Have ``key`` end in ``seconds``."""
        return self._do(lambda redis: redis.expire(key, seconds))

    def persist(self, key: str) -> bool:
        """Have ``key`` stay."""
        return self._do(lambda redis: redis.persist(key))

    def ttl(self, key: str) -> float | None:
        """Return in how many seconds ``key`` ends."""
        return self._do(lambda redis: redis.ttl(key))

    # -- JSON ------------------------------------------------------------------------------

    def get_json(self, key: str) -> Any:  # noqa: ANN401 - JSON is anything
        """Return the JSON value at ``key``."""
        return self._do(lambda redis: redis.get_json(key))

    def get_json_as(self, key: str, kind: type[_T]) -> _T | None:
        """Return the JSON value at ``key`` as a ``kind``."""
        return self._do(lambda redis: redis.get_json_as(key, kind))

    def set_json(
        self,
        key: str,
        value: object,
        ex: int | None = None,
        px: int | None = None,
        nx: bool = False,  # noqa: FBT001, FBT002 - the words of Redis
        xx: bool = False,  # noqa: FBT001, FBT002
    ) -> bool:
        """Set a JSON value."""
        return self._do(lambda redis: redis.set_json(key, value, ex, px, nx, xx))

    # -- hashes ----------------------------------------------------------------------------

    def hget(self, key: str, field: str) -> str | None:
        """Return a field."""
        return self._do(lambda redis: redis.hget(key, field))

    def hset(self, key: str, field: str, value: str) -> int:
        """Set a field."""
        return self._do(lambda redis: redis.hset(key, field, value))

    def hmset(self, key: str, mapping: Mapping[str, str]) -> bool:
        """Set many fields at once."""
        return self._do(lambda redis: redis.hmset(key, mapping))

    def hgetall(self, key: str) -> dict[str, str]:
        """Return all fields."""
        return self._do(lambda redis: redis.hgetall(key))

    def hdel(self, key: str, *fields: str) -> int:
        """Delete fields."""
        return self._do(lambda redis: redis.hdel(key, *fields))

    def hexists(self, key: str, field: str) -> bool:
        """Return whether the hash has the field."""
        return self._do(lambda redis: redis.hexists(key, field))

    def hincrby(self, key: str, field: str, amount: int = 1) -> int:
        """Add to a field."""
        return self._do(lambda redis: redis.hincrby(key, field, amount))

    def hincrbyfloat(self, key: str, field: str, amount: float) -> float:
        """Add to a field."""
        return self._do(lambda redis: redis.hincrbyfloat(key, field, amount))

    # -- lists -----------------------------------------------------------------------------

    def lpush(self, key: str, *values: str) -> int:
        """Put values at the left."""
        return self._do(lambda redis: redis.lpush(key, *values))

    def rpush(self, key: str, *values: str) -> int:
        """Put values at the right."""
        return self._do(lambda redis: redis.rpush(key, *values))

    def lpop(self, key: str) -> str | None:
        """Take the leftmost value."""
        return self._do(lambda redis: redis.lpop(key))

    def rpop(self, key: str) -> str | None:
        """Take the rightmost value."""
        return self._do(lambda redis: redis.rpop(key))

    def lrange(self, key: str, start: int, end: int) -> list[str]:
        """Return the values from ``start`` to ``end``."""
        return self._do(lambda redis: redis.lrange(key, start, end))

    def llen(self, key: str) -> int:
        """Return how long the list is."""
        return self._do(lambda redis: redis.llen(key))

    # -- counters --------------------------------------------------------------------------

    def incr(self, key: str) -> int:
        """Add one to a counter."""
        return self._do(lambda redis: redis.incr(key))

    def incrby(self, key: str, amount: int) -> int:
        """Add to a counter."""
        return self._do(lambda redis: redis.incrby(key, amount))

    def decr(self, key: str) -> int:
        """Take one from a counter."""
        return self._do(lambda redis: redis.decr(key))

    def incrbyfloat(self, key: str, amount: float) -> float:
        """Add to a counter."""
        return self._do(lambda redis: redis.incrbyfloat(key, amount))


def _refuse_on_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(
        "a blocking call on the thread of a running event loop would stop everything there: "
        "await the client's own operation, or use asyncio.to_thread"
    )
