"""The endpoint is what Upstash documents: the official SDK and plain HTTP agree with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from upstash_redis import AsyncRedis, Redis
from upstash_redis.errors import UpstashError

from tests.servers import ValkeyServer

from . import Fault, RestEndpointServer
from .scripts import split_shebang


@pytest.fixture
def http(endpoint: RestEndpointServer) -> Iterator[httpx.Client]:
    """Plain HTTP with the token."""
    headers = {"Authorization": f"Bearer {endpoint.token}"}
    with httpx.Client(base_url=endpoint.url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def sdk(endpoint: RestEndpointServer) -> Iterator[Redis]:
    """The SDK as it is, without its retries."""
    with Redis(endpoint.url, endpoint.token, rest_retries=0) as client:
        yield client


@pytest.fixture
async def async_sdk(endpoint: RestEndpointServer) -> AsyncIterator[AsyncRedis]:
    """The SDK for asyncio."""
    async with AsyncRedis(endpoint.url, endpoint.token, rest_retries=0) as client:
        yield client


# -- the SDK ------------------------------------------------------------------------------------


def test_the_sdk_works(sdk: Redis) -> None:
    """Strings, hashes, sorted sets, scripts, and each of their conversions."""
    assert sdk.set("a", "žluť", ex=100) is True
    assert sdk.set("a", "no", nx=True) is False
    assert sdk.get("a") == "žluť"
    assert sdk.get("missing") is None
    assert sdk.hset("h", values={"x": "1", "y": "OK"}) == 2
    assert sdk.hgetall("h") == {"x": "1", "y": "OK"}
    assert sdk.zadd("z", {"one": 1, "two": 2.5}) == 2
    assert sdk.zrange("z", 0, -1, withscores=True) == [("one", 1.0), ("two", 2.5)]
    assert sdk.incrbyfloat("f", 1.5) == 1.5
    assert sdk.eval("return {KEYS[1], ARGV[1]}", keys=["k"], args=["v"]) == ["k", "v"]
    sha = sdk.script_load("return 7")
    assert sdk.evalsha(sha) == 7
    assert sdk.script_exists(sha, "0" * 40) == [True, False]
    with pytest.raises(UpstashError, match="WRONGTYPE"):
        sdk.lpush("a", "x")
    with pytest.raises(UpstashError, match="NOSCRIPT"):
        sdk.evalsha("0" * 40)


def test_the_sdk_pipelines_and_transactions(sdk: Redis) -> None:
    """Replies in order; a transaction is one."""
    assert sdk.pipeline().set("a", 1).incr("a").get("a").exec() == [True, 2, "2"]
    assert sdk.multi().incr("a").incr("a").exec() == [3, 4]


async def test_the_sdk_for_asyncio_works(async_sdk: AsyncRedis) -> None:
    """The same."""
    assert await async_sdk.set("a", "1") is True
    assert await async_sdk.get("a") == "1"
    assert await async_sdk.pipeline().incr("a").get("a").exec() == [2, "2"]


# -- HTTP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/set/a/b%20c", "/SET/a/b%20c", "/set/a/b%20c?EX=100"])
def test_commands_in_the_path(http: httpx.Client, path: str) -> None:
    """Percent-encoded, names in any case, options as a query."""
    answer = http.get(path)
    assert (answer.status_code, answer.json()) == (200, {"result": "OK"})
    assert http.get("/get/a").json() == {"result": "b c"}


def test_a_body_is_the_last_argument(http: httpx.Client) -> None:
    """Bytes too; what is no UTF-8 comes back as U+FFFD, or in base64."""
    assert http.post("/set/a?EX=100", content=b"\xff!").json() == {"result": "OK"}
    assert http.get("/get/a").json() == {"result": "\ufffd!"}
    encoded = http.get("/get/a", headers={"Upstash-Encoding": "base64"})
    assert encoded.json() == {"result": "/yE="}
    assert 0 < http.get("/ttl/a").json()["result"] <= 100


def test_numbers_and_nulls(http: httpx.Client) -> None:
    """As JSON; in base64 only strings change, and OK does not."""
    base64 = {"Upstash-Encoding": "base64"}
    command = ["EVAL", "return {1, false, 'x', {ok='OK'}}", 0]
    assert http.post("/", json=command).json() == {"result": [1, None, "x", "OK"]}
    assert http.post("/", json=command, headers=base64).json() == {
        "result": [1, None, "eA==", "OK"]
    }


def test_pipelines(http: httpx.Client) -> None:
    """Each command has its own result or error, and the status is 200."""
    answer = http.post("/pipeline", json=[["SET", "a", 1], ["LPUSH", "a", 1], ["CONFIG", "GET"]])
    assert answer.status_code == 200
    first, second, third = answer.json()
    assert first == {"result": "OK"}
    assert second["error"].startswith("WRONGTYPE")
    assert "not available" in third["error"]


def test_transactions(http: httpx.Client) -> None:
    """An error inside has its place; one that discards it is a single error with status 400."""
    answer = http.post("/multi-exec", json=[["SET", "a", 1], ["LPUSH", "a", 1]])
    assert answer.json()[0] == {"result": "OK"}
    assert answer.json()[1]["error"].startswith("WRONGTYPE")
    discarded = http.post("/multi-exec", json=[["SET", "b", 1], ["SET"]])
    assert discarded.status_code == 400
    assert "wrong number of arguments" in discarded.json()["error"]
    assert http.get("/exists/b").json() == {"result": 0}


@pytest.mark.parametrize(
    ("request_", "status", "error"),
    [
        ({"method": "DELETE", "url": "/"}, 405, "method"),
        ({"method": "POST", "url": "/", "content": b"{"}, 400, "parse"),
        ({"method": "POST", "url": "/", "json": []}, 400, "empty"),
        ({"method": "POST", "url": "/", "json": [{}]}, 400, "argument type"),
        ({"method": "POST", "url": "/pipeline", "json": []}, 400, "empty"),
        ({"method": "POST", "url": "/", "json": ["GET"]}, 400, "wrong number of arguments"),
        ({"method": "POST", "url": "/", "json": ["NOPE"]}, 400, "unknown command"),
        ({"method": "GET", "url": "/blpop/a/0"}, 400, "not available"),
        ({"method": "GET", "url": "/subscribe/a"}, 400, "not available"),
        ({"method": "GET", "url": "/watch/a"}, 400, "not available"),
        ({"method": "GET", "url": "/xread/block/0/streams/a/0"}, 400, "not available"),
    ],
)
def test_what_is_refused(http: httpx.Client, request_: dict, status: int, error: str) -> None:
    """With the documented status and a JSON error."""
    answer = http.request(**request_)
    assert answer.status_code == status
    assert error in answer.json()["error"]


def test_tokens(endpoint: RestEndpointServer, http: httpx.Client) -> None:
    """In a header or in the query; a read-only one reads; without one nothing works."""
    wrong = http.get("/ping", headers={"Authorization": "Bearer nonsense"})
    assert (wrong.status_code, wrong.json()["error"].split()[0]) == (401, "WRONGPASS")
    bare = httpx.get(f"{endpoint.url}/ping?_token={endpoint.token}", trust_env=False)
    assert bare.json() == {"result": "PONG"}
    assert httpx.get(f"{endpoint.url}/ping", trust_env=False).status_code == 401
    reader = {"Authorization": f"Bearer {endpoint.read_only_token}"}
    assert http.get("/get/a", headers=reader).json() == {"result": None}
    assert http.get("/set/a/1", headers=reader).json()["error"].startswith("NOPERM")


def test_each_answer_has_a_sync_token(http: httpx.Client) -> None:
    """A new one each time."""
    tokens = {http.get("/ping").headers["Upstash-Sync-Token"] for _ in range(3)}
    assert len(tokens) == 3


# -- Lua ----------------------------------------------------------------------------------------

LOCKING = "#!lua flags=allow-key-locking\n"


@pytest.mark.parametrize(
    "body",
    [
        "return redis.call('GET', 'other')",
        "return redis.call('get', 'other')",
        "return redis.call('MGET', KEYS[1], 'other')",
        "return redis.call('DEL', KEYS[1], KEYS[1], 'other')",
        "return redis.pcall('INCR', KEYS[1] .. 'x')",
        "local call = redis.call return call('INCR', 'other')",
    ],
)
def test_a_locking_script_touches_declared_keys_only(http: httpx.Client, body: str) -> None:
    """Any other key is an error; without the flag it is not."""
    answer = http.post("/", json=["EVAL", LOCKING + body, 1, "k"])
    assert answer.status_code == 400
    assert "Dynamic keys are not allowed" in answer.json()["error"]
    assert http.post("/", json=["EVAL", body, 1, "k"]).status_code == 200


def test_what_is_no_key_may_be_named(http: httpx.Client) -> None:
    """Channels, arguments, and commands without keys."""
    body = """
      redis.call('SET', KEYS[1], 'x', 'PX', ARGV[1])
      redis.call('PUBLISH', 'channel', 'text')
      return redis.call('HMGET', KEYS[2], 'a', 'b')
    """
    answer = http.post("/", json=["EVAL", LOCKING + body, 2, "k", "h", 1000])
    assert answer.json() == {"result": [None, None]}


def test_calls_inside_scripts_are_billed(endpoint: RestEndpointServer, http: httpx.Client) -> None:
    """The script itself is one, each call another; what was not executed is none."""
    body = "for n = 1, ARGV[1] do redis.call('INCR', KEYS[1]) end return 1"
    with endpoint.bill() as bill:
        http.post("/", json=["EVAL", LOCKING + body, 1, "k", 5])
    assert bill.commands == 6
    with endpoint.bill() as bill:
        http.post("/pipeline", json=[["GET", "k"], ["GET", "k"]])
    assert bill.commands == 2
    assert endpoint.app.database.global_locks == 0
    http.post("/", json=["EVAL", "return 1", 0])
    assert endpoint.app.database.global_locks == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("#!lua flags=nonsense\nreturn 1", "Unexpected flag"),
        ("#!js\nreturn 1", "Unexpected engine"),
        ("#!lua name=x\nreturn 1", "Unknown lua shebang option"),
    ],
)
def test_wrong_shebangs(http: httpx.Client, text: str, error: str) -> None:
    """They are errors, as Redis has them."""
    answer = http.post("/", json=["EVAL", text, 0])
    assert answer.status_code == 400
    assert error in answer.json()["error"]


def test_a_shebang_stands_on_the_first_line_only() -> None:
    """Elsewhere it is no flag, and lines keep their numbers."""
    assert split_shebang("#!lua flags=allow-key-locking,no-writes\nx") == (
        ["allow-key-locking", "no-writes"],
        "\nx",
    )
    assert split_shebang("\n#!lua flags=x") == ([], "\n#!lua flags=x")


@pytest.mark.parametrize(
    "value", ["nil", "false", "true", "3.9", "'x'", "{1, {2, 'x'}}", "{}", "{ok='FINE'}"]
)
def test_scripts_return_what_they_return(
    http: httpx.Client, valkey: ValkeyServer, value: str
) -> None:
    """Counting changes no result."""
    with valkey.client() as client:
        expected = client.eval(f"return {value}", 0)
    expected = expected.decode() if isinstance(expected, bytes) else expected
    got = http.post("/", json=["EVAL", f"return {value}", 0]).json()["result"]
    assert got == ([1, [2, "x"]] if value.startswith("{1") else expected)


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.DROP, Fault.TRUNCATE])
def test_cut_connections(endpoint: RestEndpointServer, http: httpx.Client, fault: Fault) -> None:
    """The client sees a broken connection; the next request is served."""
    endpoint.fail(fault)
    with pytest.raises(httpx.TransportError):
        http.get("/incr/n")
    assert http.get("/incr/n").json() == {"result": 1 if fault is Fault.RESET else 2}


def test_held_requests_are_executed_or_not(
    endpoint: RestEndpointServer, http: httpx.Client
) -> None:
    """One held after it was executed counts, one held before does not."""
    for fault in (Fault.HANG, Fault.STALL):
        endpoint.fail(fault)
        with pytest.raises(httpx.ReadTimeout):
            http.get("/incr/n", timeout=0.2)
        endpoint.release()
    assert http.get("/incr/n").json() == {"result": 2}


def test_two_endpoints_are_apart(valkey: ValkeyServer, endpoint: RestEndpointServer) -> None:
    """Each has a port, faults and a bill of its own, and ends with its block."""
    with RestEndpointServer(valkey.url) as other:
        assert other.url != endpoint.url
        with Redis(other.url, other.token, rest_retries=0) as sdk:
            sdk.set("a", 1)
        assert other.app.database.billed == 1
        assert endpoint.app.database.billed == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{other.url}/ping", trust_env=False)
