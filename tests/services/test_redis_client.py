"""The client for the application's own keys: typed, over every store, and blocking for threads."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import pytest

from channels.errors import BadRequest, SettingsError, StoreRefused, StoreUnavailable, UsageError
from services.redis_client import RedisClient
from services.store.port import Store
from services.store.tcp import TcpStore, TcpStoreOptions
from services.sync_redis_client import SyncRedisClient
from tests.rest_endpoint import Fault

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def redis(any_store: Store) -> RedisClient:
    """A client on each kind of store."""
    return RedisClient(any_store)


@pytest.fixture(params=["tcp", "upstash"])
def sync(request: pytest.FixtureRequest, valkey, endpoint) -> Iterator[SyncRedisClient]:
    """The blocking one, on each kind of store."""
    url = valkey.url if request.param == "tcp" else endpoint.url
    client = RedisClient.connect(url, endpoint.token).sync
    with client:
        yield client


# -- strings ------------------------------------------------------------------------------------


async def test_missing_and_empty_are_told_apart(redis):
    """None is a key that is not there."""
    assert await redis.get("s") is None
    assert await redis.set("s", "") is True
    assert await redis.get("s") == ""
    assert await redis.mget("s", "missing") == ["", None]
    assert await redis.mget() == []
    assert await redis.hget("h", "f") is None
    assert await redis.hset("h", "f", "") == 1
    assert await redis.hget("h", "f") == ""
    assert await redis.hget("h", "other") is None
    assert await redis.hgetall("missing") == {}
    assert await redis.lrange("missing", 0, -1) == []
    assert await redis.lpop("missing") is None
    assert await redis.rpop("missing") is None
    assert await redis.llen("missing") == 0
    assert await redis.get_json("missing") is None
    assert await redis.set_json("j", {}) is True
    assert await redis.get_json("j") == {}
    assert await redis.set_json("j", []) is True
    assert await redis.get_json("j") == []


async def test_text_of_any_kind(redis):
    """Beyond ASCII, with line ends and zero bytes."""
    for text in ("žluť 🐎", "a\r\nb", "\0", "OK", "x" * 100_000):
        assert await redis.set("s", text) is True
        assert await redis.get("s") == text


async def test_conditions_of_set(redis):
    """nx and xx say whether it was set, as a bool."""
    assert await redis.set("s", "a", xx=True) is False
    assert await redis.set("s", "a", nx=True) is True
    assert await redis.set("s", "b", nx=True) is False
    assert await redis.set("s", "b", xx=True) is True
    assert await redis.get("s") == "b"


async def test_how_long_a_key_lives(redis):
    """In seconds; inf for ever, None without a key."""
    assert await redis.ttl("s") is None
    assert await redis.expire("s", 10) is False
    await redis.set("s", "a")
    assert await redis.ttl("s") == math.inf
    assert await redis.expire("s", 10) is True
    assert 9 < await redis.ttl("s") <= 10
    assert await redis.persist("s") is True
    assert await redis.persist("s") is False
    await redis.set("s", "a", ex=100)
    assert 99 < await redis.ttl("s") <= 100
    await redis.set("s", "a", px=5_000)
    assert 4 < await redis.ttl("s") <= 5
    await redis.set("s", "a")
    assert await redis.ttl("s") == math.inf


async def test_deleting_and_existing(redis):
    """Counted; of nothing, nothing."""
    await redis.set("a", "1")
    await redis.set("b", "1")
    assert await redis.exists("a", "b", "c", "a") == 3
    assert await redis.delete("a", "b", "c") == 2
    assert await redis.delete() == 0
    assert await redis.exists() == 0


# -- JSON ---------------------------------------------------------------------------------------


class Foundation(msgspec.Struct):
    """A value of the application."""

    name: str
    since: datetime
    scores: list[float] = []


async def test_json_of_any_shape(redis):
    """Plain values come back as they were, structs as the type that is asked for."""
    value = {"a": [1, 2.5, None, True, "ž"], "b": {"c": 2**53 - 1}}
    await redis.set_json("j", value, ex=100)
    assert await redis.get_json("j") == value
    assert await redis.ttl("j") <= 100
    assert await redis.set_json("j", value, nx=True) is False
    foundation = Foundation("f", datetime(2026, 1, 2, tzinfo=UTC), [0.5])
    await redis.set_json("f", foundation)
    assert await redis.get_json_as("f", Foundation) == foundation
    assert (await redis.get_json("f"))["since"] == "2026-01-02T00:00:00Z"


async def test_what_is_no_json(redis, tcp_store):
    """Says where, and what was expected; nothing is written."""
    await redis.set("j", "{")
    with pytest.raises(BadRequest, match="expected JSON at 'j'"):
        await redis.get_json("j")
    await redis.set("j", '{"name": 1}')
    with pytest.raises(BadRequest, match=r"Expected `str`, got `int` - at `\$.name`"):
        await redis.get_json_as("j", Foundation)
    await redis.set("j", "[" * 100_000)
    with pytest.raises(BadRequest, match="expected JSON at 'j'"):
        await redis.get_json("j")
    await tcp_store.execute("SET", "j", b'"\xff"')
    with pytest.raises(BadRequest, match="expected JSON at 'j'"):
        await redis.get_json("j")
    with pytest.raises(BadRequest, match="form in JSON for 'new'"):
        await redis.set_json("new", object())
    assert await redis.exists("new") == 0


async def test_bytes_that_are_no_text(redis, tcp_store):
    """Somebody else's: an error that names the key, not a UnicodeDecodeError."""
    await tcp_store.execute("SET", "s", b"\xff")
    await tcp_store.execute("HSET", "h", "f", b"\xff")
    await tcp_store.execute("RPUSH", "l", b"\xff")
    for read in (redis.get("s"), redis.hgetall("h"), redis.lrange("l", 0, -1)):
        with pytest.raises(BadRequest, match="no UTF-8"):
            await read


# -- hashes, lists, counters --------------------------------------------------------------------


async def test_hashes(redis):
    """One field, many, all; counted up."""
    assert await redis.hset("h", "a", "1") == 1
    assert await redis.hset("h", "a", "2") == 0
    assert await redis.hmset("h", {"b": "x", "c": "žluť"}) is True
    assert await redis.hmset("h", {}) is False
    assert await redis.hgetall("h") == {"a": "2", "b": "x", "c": "žluť"}
    assert await redis.hexists("h", "b") is True
    assert await redis.hexists("h", "z") is False
    assert await redis.hincrby("h", "a") == 3
    assert await redis.hincrby("h", "a", -5) == -2
    assert await redis.hincrbyfloat("h", "f", 0.1) == 0.1
    assert await redis.hincrbyfloat("h", "f", 1e-7) == pytest.approx(0.1000001)
    assert await redis.hdel("h", "a", "z") == 1
    assert await redis.hdel("h") == 0


async def test_lists(redis):
    """From both ends."""
    assert await redis.rpush("l", "b", "c") == 2
    assert await redis.lpush("l", "a") == 3
    assert await redis.lrange("l", 0, -1) == ["a", "b", "c"]
    assert await redis.lrange("l", 1, 1) == ["b"]
    assert await redis.llen("l") == 3
    assert await redis.lpop("l") == "a"
    assert await redis.rpop("l") == "c"


async def test_counters(redis):
    """Integers stay integers, floats are floats."""
    assert await redis.incr("n") == 1
    assert await redis.incrby("n", 2**53) == 2**53 + 1
    assert await redis.decr("n") == 2**53
    total = await redis.incrbyfloat("f", 2)
    assert (total, type(total)) == (2.0, float)
    assert await redis.incrbyfloat("f", -0.5) == 1.5


async def test_a_key_of_another_type(redis):
    """The server's error, typed."""
    await redis.set("s", "text")
    with pytest.raises(StoreRefused) as refused:
        await redis.hget("s", "f")
    assert refused.value.prefix == "WRONGTYPE"
    with pytest.raises(StoreRefused, match="not an integer"):
        await redis.incr("s")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda redis: redis.set("s", 1), "expected text, got int: use set_json"),
        (lambda redis: redis.set("s", b"x"), "expected text, got bytes"),
        (lambda redis: redis.set("s", "x", ex=1, px=1), "got both"),
        (lambda redis: redis.set("s", "x", nx=True, xx=True), "got both"),
        (lambda redis: redis.set("s", "x", ex=0), "ex of at least 1, got 0"),
        (lambda redis: redis.set("s", "x", ex=1.5), "ex of at least 1, got 1.5"),
        (lambda redis: redis.expire("s", -1), "seconds of at least 1"),
        (lambda redis: redis.get(""), "expected a key"),
        (lambda redis: redis.delete("a", ""), "expected a key"),
        (lambda redis: redis.lpush("l"), "at least one value"),
        (lambda redis: redis.hmset("h", {"a": 1}), "expected text, got int"),
        (lambda redis: redis.incrbyfloat("f", math.inf), "finite"),
    ],
)
async def test_what_makes_no_sense_is_not_sent(redis, any_store, call, message):
    """It says what was expected and what came, and nothing is written."""
    with pytest.raises(BadRequest, match=message):
        await call(redis)
    assert await any_store.execute("DBSIZE") == 0


async def test_a_prefix_keeps_applications_apart(any_store):
    """Every operation is below it."""
    one, two = RedisClient(any_store, prefix="one:"), RedisClient(any_store, prefix="two:")
    await one.set("k", "1")
    await one.hset("h", "f", "1")
    await one.rpush("l", "1")
    assert await two.exists("k", "h", "l") == 0
    assert await two.mget("k") == [None]
    assert await two.delete("k") == 0
    assert sorted(await any_store.execute("KEYS", "*")) == [b"one:h", b"one:k", b"one:l"]


# -- life ---------------------------------------------------------------------------------------


async def test_a_client_with_a_store_of_its_own(valkey, endpoint):
    """Opened and closed with it; one on somebody's store leaves that open."""
    for url in (valkey.url, endpoint.url):
        async with RedisClient.connect(url, endpoint.token) as redis:
            await redis.set("a", "1")
        with pytest.raises(StoreUnavailable, match="closed"):
            await redis.get("a")
    with pytest.raises(SettingsError):
        RedisClient.connect("gopher://x")


async def test_a_client_on_a_store_leaves_it_open(tcp_store):
    """Who opened it closes it."""
    async with RedisClient(tcp_store) as redis:
        await redis.set("a", "1")
    assert await tcp_store.execute("GET", "a") == b"1"
    with pytest.raises(UsageError, match="another"):
        _ = redis.sync


# -- blocking -----------------------------------------------------------------------------------


def test_every_operation_has_its_blocking_twin() -> None:
    """The same names, parameters and results."""
    operations = {
        name: operation
        for name, operation in vars(RedisClient).items()
        if inspect.iscoroutinefunction(operation) and not name.startswith("_") and name != "close"
    }
    assert len(operations) > 25
    for name, operation in operations.items():
        twin = inspect.signature(getattr(SyncRedisClient, name))
        assert twin == inspect.signature(operation), name


def test_blocking_operations(sync):
    """Each kind of result."""
    assert sync.get("s") is None
    assert sync.set("s", "žluť", 100) is True
    assert sync.get("s") == "žluť"
    assert sync.set_json("j", {"a": [1]}) is True
    assert sync.get_json("j") == {"a": [1]}
    assert sync.get_json_as("j", dict[str, list[int]]) == {"a": [1]}
    assert sync.hmset("h", {"a": "1"}) is True
    assert sync.hgetall("h") == {"a": "1"}
    assert sync.rpush("l", "a", "b") == 2
    assert sync.lpop("l") == "a"
    assert sync.incrbyfloat("f", 1.5) == 1.5
    assert sync.ttl("s") <= 100
    assert sync.mget("s", "x") == ["žluť", None]
    assert sync.delete("s") == 1
    with pytest.raises(BadRequest, match="expected text"):
        sync.set("s", 1)


def test_any_number_of_threads(sync, valkey):
    """They share one connection, and none loses an update."""
    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(sync.incr, "n") for _ in range(200)]:
            done.result()
    assert sync.get("n") == "200"
    running = [thread for thread in threading.enumerate() if thread.name == "fanwire-redis"]
    assert len(running) == 1


async def test_not_on_the_thread_of_a_running_loop(valkey):
    """The error says what to do; in another thread it works."""
    redis = RedisClient.connect(valkey.url)
    with pytest.raises(UsageError, match=r"asyncio\.to_thread"):
        redis.sync.get("a")
    async with redis:
        await redis.set("a", "1")
        assert await asyncio.to_thread(redis.sync.get, "a") == "1"
    assert not [one for one in threading.enumerate() if one.name == "fanwire-redis"]


def test_without_a_server():
    """Certainly not executed, and in time; nothing is left."""
    impatient = TcpStoreOptions(timeout_s=0.1)
    with SyncRedisClient(lambda: TcpStore(NOWHERE, impatient)) as sync:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                sync.get("a")
    assert not [one for one in threading.enumerate() if one.name == "fanwire-redis"]


def test_closing_from_another_thread(endpoint):
    """Whoever waits gets an error at once; later operations too."""
    sync = RedisClient.connect(endpoint.url, endpoint.token).sync
    sync.get("a")
    endpoint.fail(Fault.HANG)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(sync.get, "a")
        while not endpoint.app.holding:
            time.sleep(0.001)  # the other thread tells nobody
        sync.close()
        with pytest.raises(Exception, match="closed"):
            waiting.result()
    with pytest.raises(StoreUnavailable, match="closed"):
        sync.get("a")
    sync.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(valkey):
    """Server processes are often forked after the first use."""
    with RedisClient.connect(valkey.url).sync as sync:
        sync.set("a", "parent")
        child = os.fork()
        if child == 0:
            try:
                sync.set("b", sync.get("a") or "")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert sync.get("b") == "parent"
        assert sync.get("a") == "parent"
