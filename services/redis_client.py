"""Redis for the application's own keys: the everyday operations, typed, over any store.

    async with RedisClient.connect("redis://localhost:6379") as redis:
        await redis.set("greeting", "hello", ex=60)
        await redis.get("greeting")                     # "hello"; None where there is no key

``redis.sync`` has the same operations for threads and code without an event loop. Missing and
empty are told apart everywhere: None is a key that is not there. Values are text; what holds
bytes that are no UTF-8 raises ``BadRequest`` when it is read here.

The services keep their state under keys of their own (``fw:...``) and tell of each change; what
is written here is told to nobody.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import msgspec

from channels.errors import BadRequest, UsageError
from services.store.open_store import store_from_url
from services.store.port import Argument, Reply, Store
from services.sync_redis_client import SyncRedisClient

__all__ = ["RedisClient"]

_T = TypeVar("_T")

_encode = msgspec.json.Encoder().encode


class RedisClient:
    """Operations on the keys under ``prefix`` (all keys, without one).

    Every operation raises ``StoreUnavailable`` or ``StoreRefused`` when nothing happened and
    ``OutcomeUnknown`` when it may have; none is repeated. A key of another type is
    ``StoreRefused`` with the prefix ``WRONGTYPE``.
    """

    __slots__ = ("_another", "_owned", "_prefix", "_store", "_sync")

    def __init__(
        self, store: Store, *, prefix: str = "", another: Callable[[], Store] | None = None
    ) -> None:
        """Make a client on a store that somebody else opens and closes.

        ``another`` makes one more store on the same Redis, for :attr:`sync`: it works on an
        event loop of its own.
        """
        self._store = store
        self._prefix = prefix
        self._another = another
        self._owned = False
        self._sync: SyncRedisClient | None = None

    @classmethod
    def connect(cls, url: str, token: str | None = None, *, prefix: str = "") -> Self:
        """Return a client with a store of its own; it connects on ``async with``.

        ``url`` is ``redis://``, ``rediss://``, ``unix://``, or ``https://`` with a ``token``
        (Upstash's REST API). :attr:`sync` works without entering.

        Raises:
            SettingsError: the URL is not one that a store understands.
        """

        def another() -> Store:
            return store_from_url(url, token)

        client = cls(another(), prefix=prefix, another=another)
        client._owned = True
        return client

    async def __aenter__(self) -> Self:
        if self._owned:
            await self._store.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the store, if it is the client's own, and the thread behind :attr:`sync`."""
        sync, self._sync = self._sync, None
        if sync is not None:
            await asyncio.to_thread(sync.close)
        if self._owned:
            await self._store.close()

    @property
    def sync(self) -> SyncRedisClient:
        """The same operations, blocking, for any thread without a running event loop.

        Raises:
            UsageError: the client was made on a store and does not know how to make another.
        """
        if self._sync is None:
            if self._another is None:
                raise UsageError(
                    "expected a client that can make a store for its own thread: use "
                    "RedisClient.connect(url), or give another=..."
                )
            self._sync = SyncRedisClient(self._another, prefix=self._prefix)
        return self._sync

    # -- strings ---------------------------------------------------------------------------

    async def get(self, key: str) -> str | None:
        """Return the text at ``key``; None where there is none, ``""`` where it is empty."""
        return self._text(await self._do("GET", key), key)

    async def set(
        self,
        key: str,
        value: str,
        ex: int | None = None,
        px: int | None = None,
        nx: bool = False,  # noqa: FBT001, FBT002 - the words of Redis
        xx: bool = False,  # noqa: FBT001, FBT002
    ) -> bool:
        """Set the text at ``key``, for ``ex`` seconds or ``px`` milliseconds if given.

        With ``nx`` only where there is no key, with ``xx`` only where there is one; returns
        whether it was set.
        """
        if ex is not None and px is not None:
            raise BadRequest("expected ex (seconds) or px (milliseconds), got both")
        if nx and xx:
            raise BadRequest("expected nx or xx, got both: such a key is never set")
        options: list[Argument] = []
        for word, amount in (("EX", ex), ("PX", px)):
            if amount is not None:
                options += [word, _positive(word.lower(), amount)]
        options += [word for word, wanted in (("NX", nx), ("XX", xx)) if wanted]
        return await self._do("SET", key, _value(value), *options) == b"OK"

    async def mget(self, *keys: str) -> list[str | None]:
        """Return the texts at ``keys``, in their order."""
        if not keys:
            return []
        reply = await self._store.execute("MGET", *map(self._key, keys))
        values = zip(keys, cast("list[Reply]", reply), strict=True)
        return [self._text(value, key) for key, value in values]

    async def delete(self, *keys: str) -> int:
        """Delete ``keys``; return how many there were."""
        return await self._count("DEL", keys)

    async def exists(self, *keys: str) -> int:
        """Return how many of ``keys`` exist; one named twice counts twice."""
        return await self._count("EXISTS", keys)

    # -- how long --------------------------------------------------------------------------

    async def expire(self, key: str, seconds: int) -> bool:
        """Have ``key`` end in ``seconds``; return whether there is one."""
        return bool(await self._do("EXPIRE", key, _positive("seconds", seconds)))

    async def persist(self, key: str) -> bool:
        """Have ``key`` stay; return whether it would have ended."""
        return bool(await self._do("PERSIST", key))

    async def ttl(self, key: str) -> float | None:
        """Return in how many seconds ``key`` ends; ``inf`` for never, None for no key."""
        left_ms = cast(int, await self._do("PTTL", key))
        if left_ms < 0:
            return None if left_ms == -2 else math.inf
        return left_ms / 1000

    # -- JSON ------------------------------------------------------------------------------

    async def get_json(self, key: str) -> Any:  # noqa: ANN401 - JSON is anything
        """Return the JSON value at ``key``; None where there is none (and for ``null``).

        Raises:
            BadRequest: what is there is not JSON.
        """
        return await self.get_json_as(key, Any)

    async def get_json_as(self, key: str, kind: type[_T]) -> _T | None:
        """Return the JSON value at ``key`` as a ``kind`` (a struct, ``list[int]``, ...).

        Raises:
            BadRequest: what is there is not JSON of that shape; the message says where.
        """
        found = await self._do("GET", key)
        if found is None:
            return None
        try:
            return msgspec.json.decode(cast(bytes, found), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"expected JSON at {key!r}: {error}") from error

    async def set_json(
        self,
        key: str,
        value: object,
        ex: int | None = None,
        px: int | None = None,
        nx: bool = False,  # noqa: FBT001, FBT002 - the words of Redis
        xx: bool = False,  # noqa: FBT001, FBT002
    ) -> bool:
        """Set a JSON value: dicts, lists, numbers, text, times, structs.

        Raises:
            BadRequest: it has no form in JSON; nothing was set.
        """
        return await self.set(key, _json(key, value), ex, px, nx, xx)

    # -- hashes ----------------------------------------------------------------------------

    async def hget(self, key: str, field: str) -> str | None:
        """Return a field; None where it, or the hash, is not there."""
        return self._text(await self._do("HGET", key, field), key)

    async def hset(self, key: str, field: str, value: str) -> int:
        """Set a field; return 1 if it is new, 0 if it was there."""
        return cast(int, await self._do("HSET", key, field, _value(value)))

    async def hmset(self, key: str, mapping: Mapping[str, str]) -> bool:
        """Set many fields at once; returns True. An empty mapping sets nothing: False."""
        if not mapping:
            return False
        pairs = [part for field, value in mapping.items() for part in (field, _value(value))]
        await self._do("HSET", key, *pairs)
        return True

    async def hgetall(self, key: str) -> dict[str, str]:
        """Return all fields; ``{}`` where there is no hash (Redis keeps no empty ones)."""
        reply = await self._do("HGETALL", key)
        if isinstance(reply, dict):  # RESP3
            pairs = [(field, value) for field, value in reply.items()]
        else:
            flat = cast("list[bytes]", reply)
            pairs = list(zip(flat[::2], flat[1::2], strict=True))
        return {_decode(field, key): _decode(value, key) for field, value in pairs}

    async def hdel(self, key: str, *fields: str) -> int:
        """Delete fields; return how many there were."""
        return cast(int, await self._do("HDEL", key, *fields)) if fields else 0

    async def hexists(self, key: str, field: str) -> bool:
        """Return whether the hash has the field."""
        return bool(await self._do("HEXISTS", key, field))

    async def hincrby(self, key: str, field: str, amount: int = 1) -> int:
        """Add to a field, 0 if it is not there; return what it is then."""
        return cast(int, await self._do("HINCRBY", key, field, amount))

    async def hincrbyfloat(self, key: str, field: str, amount: float) -> float:
        """Add to a field; return what it is then. Not for money: use integers."""
        return _float(await self._do("HINCRBYFLOAT", key, field, _amount(amount)))

    # -- lists -----------------------------------------------------------------------------

    async def lpush(self, key: str, *values: str) -> int:
        """Put values at the left, one after another; return how long the list is then."""
        return await self._push("LPUSH", key, values)

    async def rpush(self, key: str, *values: str) -> int:
        """Put values at the right; return how long the list is then."""
        return await self._push("RPUSH", key, values)

    async def lpop(self, key: str) -> str | None:
        """Take the leftmost value; None where there is none."""
        return self._text(await self._do("LPOP", key), key)

    async def rpop(self, key: str) -> str | None:
        """Take the rightmost value; None where there is none."""
        return self._text(await self._do("RPOP", key), key)

    async def lrange(self, key: str, start: int, end: int) -> list[str]:
        """Return the values from ``start`` to ``end``, both included; -1 is the last."""
        reply = cast("list[bytes]", await self._do("LRANGE", key, start, end))
        return [_decode(value, key) for value in reply]

    async def llen(self, key: str) -> int:
        """Return how long the list is; 0 where there is none."""
        return cast(int, await self._do("LLEN", key))

    # -- counters --------------------------------------------------------------------------

    async def incr(self, key: str) -> int:
        """Add one to a counter, 0 if it is not there; return what it is then."""
        return await self.incrby(key, 1)

    async def incrby(self, key: str, amount: int) -> int:
        """Add to a counter; return what it is then."""
        return cast(int, await self._do("INCRBY", key, amount))

    async def decr(self, key: str) -> int:
        """Take one from a counter; return what it is then."""
        return await self.incrby(key, -1)

    async def incrbyfloat(self, key: str, amount: float) -> float:
        """Add to a counter; return what it is then. Not for money: use integers."""
        return _float(await self._do("INCRBYFLOAT", key, _amount(amount)))

    # -- inside ----------------------------------------------------------------------------

    def _key(self, key: str) -> str:
        if not isinstance(key, str) or not key:
            raise BadRequest(f"expected a key of at least one character, got {key!r}")
        return self._prefix + key

    async def _do(self, command: str, key: str, *arguments: Argument) -> Reply:
        return await self._store.execute(command, self._key(key), *arguments)

    async def _count(self, command: str, keys: tuple[str, ...]) -> int:
        if not keys:
            return 0
        return cast(int, await self._store.execute(command, *map(self._key, keys)))

    async def _push(self, command: str, key: str, values: tuple[str, ...]) -> int:
        if not values:
            raise BadRequest("expected at least one value to push, got none")
        return cast(int, await self._do(command, key, *map(_value, values)))

    def _text(self, value: Reply, key: str) -> str | None:
        return None if value is None else _decode(cast(bytes, value), key)


def _decode(value: Reply, key: str) -> str:
    try:
        return cast(bytes, value).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"expected text at {key!r}, got bytes that are no UTF-8") from None


def _value(value: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(
            f"expected text, got {type(value).__name__}: use set_json, or format it yourself"
        )
    return value


def _json(key: str, value: object) -> str:
    try:
        return _encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"expected a value with a form in JSON for {key!r}: {error}") from error


def _positive(what: str, amount: int) -> int:
    if isinstance(amount, bool) or not isinstance(amount, int) or amount <= 0:
        raise BadRequest(f"expected {what} of at least 1, got {amount!r}")
    return amount


def _amount(amount: float) -> str:
    if not math.isfinite(amount):
        raise BadRequest(f"expected a finite number, got {amount!r}")
    return repr(float(amount))


def _float(reply: Reply) -> float:
    return float(cast("bytes | float", reply))
