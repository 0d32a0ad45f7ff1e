"""The same commands through every store and through redis-py: the same replies."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis_py
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from channels.errors import StoreRefused
from services.store.port import Store
from services.store.script import Script
from services.store.tcp import TcpStore
from services.store.upstash import UpstashStore
from tests.rest_endpoint import RestEndpointServer

from .conftest import QUICK, Valkey

BIG = b"\0\r\n$-1\xff" * 300_000

#: One after another on an empty server.
COMMANDS: list[tuple[str | bytes | int, ...]] = [
    ("PING",),
    ("ECHO", ""),
    ("ECHO", b"\r\n"),
    ("ECHO", "žluť 🐎"),
    ("SET", "s", "v"),
    ("SET", "s", "w", "NX"),
    ("GET", "s"),
    ("GET", "missing"),
    ("MGET", "s", "missing", "s"),
    ("SET", "big", BIG),
    ("GET", "big"),
    ("STRLEN", "big"),
    ("SET", b"\x00\xff key", b"\xfe"),
    ("GET", b"\x00\xff key"),
    ("INCRBY", "n", 2**62),
    ("INCRBY", "n", 2**62),
    ("DECR", "m"),
    ("INCRBYFLOAT", "f", "1.5"),
    ("HSET", "h", "a", 1, "b", 2),
    ("HGETALL", "h"),
    ("HGETALL", "missing"),
    ("HMGET", "h", "a", "x"),
    ("SADD", "set", "one"),
    ("SMEMBERS", "set"),
    ("SISMEMBER", "set", "one"),
    ("SMISMEMBER", "set", "one", "two"),
    ("ZADD", "z", "1.5", "a", "inf", "b"),
    ("ZSCORE", "z", "a"),
    ("ZSCORE", "z", "b"),
    ("ZRANGE", "z", 0, -1, "WITHSCORES"),
    ("ZADD", "z", "INCR", "0.25", "a"),
    ("GEOADD", "geo", "13.361389", "38.115556", "here"),
    ("GEOPOS", "geo", "here", "nowhere"),
    ("XADD", "x", "1-1", "k", "v", "k2", "v2"),
    ("XADD", "x", "2-0", "k", ""),
    ("XRANGE", "x", "-", "+"),
    ("XREAD", "STREAMS", "x", "0"),
    ("XREAD", "STREAMS", "x", "9"),
    ("XINFO", "STREAM", "x"),
    ("XGROUP", "CREATE", "x", "g", "0"),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">"),
    ("XPENDING", "x", "g"),
    ("XADD", "x", "1-0", "k", "v"),
    ("LPUSH", "s", "v"),
    ("NOSUCHCOMMAND",),
    ("GET",),
    ("EVALSHA", "f" * 40, 0),
    ("EVAL", "return {1, {2, {3, {}}}, 'x', false, nil}", 0),
    ("EVAL", "return redis.error_reply('MINE of my own')", 0),
    ("EVAL", "return redis.status_reply('FINE')", 0),
    ("EVAL", "return {ok='FINE'}", 0),
    ("EVAL", "return 3.99", 0),
    ("EVAL", "return {double=3.5}", 0),
    ("EVAL", "redis.setresp(3) return {double=3.5}", 0),
    ("EVAL", "redis.setresp(3) return {map={a=1}}", 0),
    ("EVAL", "redis.setresp(3) return {set={a=true}}", 0),
    ("EVAL", "redis.setresp(3) return {big_number='123456789012345678901234567890'}", 0),
    ("EVAL", "redis.setresp(3) return redis.call('HGETALL', KEYS[1])", 1, "h"),
    ("EVAL", "redis.setresp(3) return true", 0),
    ("EVAL", "redis.setresp(3) return {1, {err='MINE inside'}, 2}", 0),
    ("EVAL", "return {KEYS[1], ARGV[1], ARGV[2]}", 1, "k", -7, b"\x00"),
    ("COMMAND", "INFO", "get"),
    ("CONFIG", "GET", "maxmemory*"),
    ("DEBUG", "JMAP"),
    ("EXISTS", "s", "missing"),
    ("TYPE", "x"),
    ("OBJECT", "ENCODING", "s"),
    ("LOLWUT", "VERSION", 0),
]


def comparable(reply: object) -> object:
    """Errors by their text, and NaN equal to itself."""
    match reply:
        case StoreRefused():
            return f"refused: {reply}"
        case ResponseError():
            # redis-py takes the word ERR, and some others, away.
            return f"refused: {reply}"
        case list():
            return [comparable(one) for one in reply]
        case dict():
            return {key: comparable(one) for key, one in reply.items()}
        case float() if math.isnan(reply):
            return "nan"
    return reply


#: What REST has no word for: commands it lacks, RESP3, and errors inside of replies.
NOT_OVER_REST = {"COMMAND", "CONFIG", "DEBUG", "OBJECT", "LOLWUT"}


def travels(command: tuple[str | bytes | int, ...]) -> bool:
    """Tell whether ``command`` can be sent over REST."""
    if command[0] in NOT_OVER_REST or "setresp(3)" in str(command[1:2]):
        return False
    return all(
        part.decode("utf-8", "replace").encode() == part
        for part in command
        if isinstance(part, bytes)
    )


Pair = tuple[Store, redis_py.Connection, list[tuple[str | bytes | int, ...]]]


@pytest.fixture(params=["RESP2", "RESP3", "REST"])
async def pair(request: pytest.FixtureRequest, start_server) -> AsyncIterator[Pair]:
    """A store and redis-py, each on an empty server of its own, and the commands for both."""
    protocol = 3 if request.param == "RESP3" else 2
    ours: Valkey = await start_server()
    theirs: Valkey = await start_server()
    connection = redis_py.Connection(
        **{**parse_url(theirs.url), "protocol": protocol}, retry=Retry(NoBackoff(), 0)
    )
    await connection.connect()
    if request.param == "REST":
        with RestEndpointServer(ours.url) as endpoint:
            async with UpstashStore(endpoint.url, endpoint.token) as rest:
                yield rest, connection, [one for one in COMMANDS if travels(one)]
    else:
        async with TcpStore(f"{ours.url}?protocol={protocol}", QUICK) as store:
            yield store, connection, COMMANDS
    await connection.disconnect()


async def reference(connection: redis_py.Connection, *command: str | bytes | int) -> object:
    """What redis-py reads for one command, before it makes anything of it."""
    await connection.send_command(*command)
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


async def test_same_replies(pair: Pair) -> None:
    """Every kind of reply is what redis-py reads, one command at a time."""
    store, connection, commands = pair
    for command in commands:
        expected = comparable(await reference(connection, *command))
        try:
            got = comparable(await store.execute(*command))
        except StoreRefused as refused:
            got = comparable(refused)
        if isinstance(expected, str) and expected.startswith("refused"):
            assert isinstance(got, str)
            assert got.startswith("refused")
            assert got.lower().endswith(expected.removeprefix("refused: ").lower())
        else:
            assert got == expected, command
            assert type(got) is type(expected), command


async def test_same_replies_in_a_pipeline(pair: Pair) -> None:
    """All in one write, with as many replies, each in its place."""
    store, connection, commands = pair
    expected = [comparable(await reference(connection, *command)) for command in commands]
    got = [comparable(reply) for reply in await store.pipeline(commands)]
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        if isinstance(theirs, str) and theirs.startswith("refused"):
            assert isinstance(ours, str)
            assert ours.lower().endswith(theirs.removeprefix("refused: ").lower())
        else:
            assert ours == theirs


async def test_same_result_of_scripts(server: Valkey, store: TcpStore) -> None:
    """A script by its SHA returns what redis-py's register_script returns."""
    script = Script("t", "redis.call('SET', KEYS[1], ARGV[1]) return {KEYS[1], #ARGV[1], false}")
    async with redis_py.Redis.from_url(server.url, protocol=3) as peer:
        expected = await peer.register_script(script.text)(["k"], [b"\x00\xff"])
        await store.execute("SCRIPT", "FLUSH")
        assert await store.run(script, ["k"], [b"\x00\xff"]) == expected
        assert await peer.get("k") == b"\x00\xff"
