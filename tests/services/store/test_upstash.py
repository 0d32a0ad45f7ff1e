"""The store over REST: every way in which a request can fail, and what is known then."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import pytest

from channels.errors import (
    NotAvailable,
    OutcomeUnknown,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UsageError,
)
from services.store.script import Script, load_script
from services.store.tcp import TcpStore
from services.store.upstash import UpstashStore, UpstashStoreOptions
from tests.rest_endpoint import Fault
from tests.services.conftest import QUICK_REST

from .recorder import Recorder

NOWHERE = "http://127.0.0.1:1"


async def until(condition: Callable[[], object]) -> None:
    """Return when the other thread, which tells nobody, got there."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@pytest.fixture
def store(rest_store: UpstashStore) -> UpstashStore:
    """The store under test."""
    return rest_store


# -- what is known after a failure ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "executed"),
    [
        (Fault.RESET, OutcomeUnknown, False),
        (Fault.DROP, OutcomeUnknown, True),
        (Fault.TRUNCATE, OutcomeUnknown, True),
        (Fault.HTML_503, OutcomeUnknown, False),
        (Fault.ERROR_500, OutcomeUnknown, False),
        (Fault.HTML_200, OutcomeUnknown, False),
        (Fault.ODD_JSON, OutcomeUnknown, True),
        (Fault.PLAIN, OutcomeUnknown, True),
        (Fault.TOO_MANY, StoreUnavailable, False),
        (Fault.REDIRECT, StoreRefused, False),
    ],
)
async def test_each_failure_says_what_is_known(endpoint, store, tcp_store, fault, error, executed):
    """Never "not executed" where it may have been, and never sent a second time."""
    endpoint.fail(fault)
    with pytest.raises(error) as raised:
        await store.execute("INCR", "n")
    assert "html" not in str(raised.value).replace("text/html", ""), "a page is no message"
    assert endpoint.token not in str(raised.value)
    # Executed once or not at all, whatever was answered.
    assert await tcp_store.execute("GET", "n") == (b"1" if executed else None)
    assert await store.execute("INCR", "n") == (2 if executed else 1)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.TRUNCATE, Fault.ODD_JSON, Fault.PLAIN])
async def test_a_pipeline_without_an_answer_is_unknown(endpoint, store, fault):
    """As a whole: nothing is known of any of its commands."""
    endpoint.fail(fault)
    with pytest.raises(OutcomeUnknown):
        await store.pipeline([("INCR", "n"), ("INCR", "n")])
    assert await store.execute("GET", "n") == b"2"


async def test_a_lost_reply_of_a_script_is_unknown(endpoint, store):
    """Also when it was known to the server: it is not sent again in full."""
    script = Script("t", "return redis.call('INCR', KEYS[1])")
    await store.run(script, ["n"], [])
    endpoint.fail(Fault.DROP)
    with pytest.raises(OutcomeUnknown):
        await store.run(script, ["n"], [])
    assert await store.execute("GET", "n") == b"2"


async def test_nobody_there_is_certainly_not_executed():
    """A refused connection, while opening and afterwards."""
    with pytest.raises(StoreUnavailable, match="127"):
        await UpstashStore(NOWHERE, "t", UpstashStoreOptions(timeout_s=0.05)).open()
    store = UpstashStore(NOWHERE, "t", QUICK_REST)
    await store.open(wait=False)
    with pytest.raises(StoreUnavailable):
        await store.execute("PING")
    assert not store.ready
    assert store.trouble
    await store.close()


async def test_a_wrong_token_is_refused(endpoint):
    """By the server's word, at the opening; the token is in no message."""
    with pytest.raises(StoreRefused, match="WRONGPASS") as refused:
        await UpstashStore(endpoint.url, "canary", QUICK_REST).open()
    assert "canary" not in str(refused.value)


async def test_a_read_only_token_refuses_writes(endpoint):
    """The server's error, and the database is there."""
    async with UpstashStore(endpoint.url, endpoint.read_only_token, QUICK_REST) as store:
        with pytest.raises(StoreRefused) as refused:
            await store.execute("SET", "a", 1)
        assert refused.value.prefix == "NOPERM"
        assert await store.execute("GET", "a") is None


# -- deadlines --------------------------------------------------------------------------------


async def test_a_late_answer_is_unknown(endpoint, store, tcp_store):
    """The deadline of the call holds, and the late answer reaches nobody else."""
    endpoint.fail(Fault.HANG)
    with pytest.raises(OutcomeUnknown, match=r"no answer within 0\.2 s"):
        await store.execute("SET", "a", "late", timeout_s=0.2)
    endpoint.release()
    assert await tcp_store.execute("GET", "a") == b"late"
    assert [await store.execute("ECHO", n) for n in range(20)] == [b"%d" % n for n in range(20)]


async def test_waiting_in_line_is_certainly_not_executed(endpoint):
    """A call whose turn does not come within its deadline was never sent."""
    options = UpstashStoreOptions(connections=1, timeout_s=20)
    async with UpstashStore(endpoint.url, endpoint.token, options) as store:
        endpoint.fail(Fault.HANG)
        first = asyncio.create_task(store.execute("SET", "a", 1))
        await until(store._slots.locked)
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await store.execute("SET", "b", 2, timeout_s=0.05)
        endpoint.release()
        assert await first == b"OK"
        assert await store.execute("EXISTS", "b") == 0


async def test_concurrency_is_bounded(endpoint):
    """Hundreds of calls at once share a few connections, and each gets its own reply."""
    options = UpstashStoreOptions(connections=4, timeout_s=60)
    async with UpstashStore(endpoint.url, endpoint.token, options) as store:
        replies = await asyncio.gather(*(store.execute("ECHO", n) for n in range(200)))
    assert replies == [b"%d" % n for n in range(200)]
    assert len(endpoint.app.peers) <= 4 + 1  # and the probe, which waits in no line


async def test_cancelled_calls_leave_nothing_behind(endpoint, store):
    """Callers that give up at any point cost others nothing, and no reply goes astray."""
    for round_ in range(10):
        calls = [asyncio.create_task(store.execute("ECHO", n)) for n in range(20)]
        for turn in range(round_):
            await asyncio.sleep(0)
            calls[turn].cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        for n, reply in enumerate(done):
            assert isinstance(reply, asyncio.CancelledError) or reply == b"%d" % n
    assert await store.execute("PING") == b"PONG"
    assert not store._deadlines


async def test_a_storm_of_failures_and_of_callers_that_give_up(endpoint):
    """No reply goes astray, and afterwards every connection is to be had."""
    chance = random.Random(7)
    options = UpstashStoreOptions(connections=4, timeout_s=20, backoff_s=(0.01, 0.05))
    broken = [Fault.DROP, Fault.TRUNCATE, Fault.RESET, Fault.HTML_503]

    async def echo(number: int) -> None:
        with contextlib.suppress(StoreError):
            patience_s = chance.choice([0.01, 0.05, 20])
            assert await store.execute("ECHO", number, timeout_s=patience_s) == b"%d" % number

    async with UpstashStore(endpoint.url, endpoint.token, options) as store:
        for round_ in range(15):
            calls = [asyncio.create_task(echo(round_ * 40 + n)) for n in range(40)]
            endpoint.fail(*chance.choices(broken, k=3))
            await asyncio.sleep(chance.random() * 0.03)  # at any moment, that is the point
            for call in calls:
                if chance.random() < 0.3:
                    call.cancel()
            for done in await asyncio.gather(*calls, return_exceptions=True):
                assert done is None or isinstance(done, asyncio.CancelledError)
        endpoint.app.faults.clear()
        async with asyncio.timeout(10):
            replies = await asyncio.gather(*(store.execute("ECHO", n) for n in range(20)))
        assert replies == [b"%d" % n for n in range(20)]


async def test_closing_ends_what_waits(endpoint):
    """At once, with what is known of it; afterwards nothing is sent."""
    before = asyncio.all_tasks()
    store = UpstashStore(endpoint.url, endpoint.token, UpstashStoreOptions(timeout_s=100))
    await store.open()
    endpoint.fail(Fault.HANG)
    waiting = asyncio.create_task(store.execute("SET", "a", 1))
    await until(lambda: endpoint.app.holding)
    async with asyncio.timeout(10):  # not when its own deadline would have passed
        await store.close()
    with pytest.raises(OutcomeUnknown, match="closed"):
        await waiting
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.execute("PING")
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.pipeline([])
    await store.close()
    endpoint.release()
    assert asyncio.all_tasks() == before


async def test_a_store_is_opened_once(endpoint, store):
    """And not used before."""
    with pytest.raises(UsageError, match="once"):
        await store.open()
    with pytest.raises(UsageError, match="open"):
        await UpstashStore(endpoint.url, "t").execute("PING")


# -- bytes --------------------------------------------------------------------------------------


async def test_bytes_come_back_as_they_are(store, tcp_store):
    """Whatever somebody wrote over TCP, in nested replies too."""
    value = bytes(range(256))
    await tcp_store.execute("RPUSH", "l", value, "OK", "", "žluť")
    expected = [value, b"OK", b"", "žluť".encode()]
    assert await store.execute("LRANGE", "l", 0, -1) == expected
    nested = Script("t", "return {{redis.call('LRANGE', KEYS[1], 0, -1)}, false, 7}")
    assert await store.run(nested, ["l"], []) == [[expected], None, 7]


async def test_what_cannot_be_sent_is_not(endpoint, store):
    """A script with an argument that is no UTF-8, and a pipeline with one such command."""
    script = Script("t", "return 1")
    requests = endpoint.app.requests.total()
    with pytest.raises(UsageError, match="argument 2 of a script is not UTF-8"):
        await store.run(script, ["k"], [b"\xff"])
    with pytest.raises(UsageError, match="not UTF-8"):
        await store.pipeline([("SET", "a", 1), ("SET", "a", b"\xff")])
    assert endpoint.app.requests.total() == requests


# -- scripts and pipelines ----------------------------------------------------------------------


async def test_a_script_travels_once(endpoint, store):
    """In full when the server does not know it, by its SHA from then on, and never again."""
    script = load_script("append")
    args = ["i", "p", "c", "e", 1, 10, 1000, 1000, "", "b", 100]
    for n in range(1, 4):
        assert await store.run(script, ["{r}l", "{r}m"], args) == [1, b"e", n, int(n == 1)]
    assert endpoint.app.commands["EVAL"] == 1
    assert endpoint.app.commands["EVALSHA"] == 3
    assert endpoint.app.database.global_locks == 0
    await store.execute("SCRIPT", "FLUSH")
    assert (await store.run(script, ["{r}l", "{r}m"], args))[2] == 4


async def test_an_error_of_a_script_is_its_error(store):
    """Also one that looks like the server's when a script is not known."""
    with pytest.raises(StoreRefused, match=r"^MINE of my own"):
        await store.run(Script("t", "return redis.error_reply('MINE of my own')"), [], [])


async def test_a_pipeline_keeps_each_result(store):
    """Errors stand in their places and lose nothing; the next pipeline begins empty."""
    replies = await store.pipeline([("SET", "s", 1), ("LPUSH", "s", 1), ("GET", "s"), ("NOPE",)])
    assert replies[0] == b"OK"
    assert isinstance(replies[1], StoreRefused)
    assert replies[1].prefix == "WRONGTYPE"
    assert replies[2] == b"1"
    assert isinstance(replies[3], StoreRefused)
    assert await store.pipeline([("PING",)]) == [b"PONG"]
    assert await store.pipeline([]) == []


async def test_publishing_is_heard_over_tcp(store, tcp_store):
    """What is published over REST reaches subscribers elsewhere."""
    recorder = Recorder()
    await tcp_store.listen("c", recorder)
    assert await store.execute("PUBLISH", "c", "žluť") == 1
    await recorder.wait_for(1)
    assert recorder.messages == ["žluť".encode()]


async def test_subscriptions_are_not_available(store):
    """The error says what to do instead."""
    with pytest.raises(NotAvailable, match="rediss://"):
        await store.listen("c", Recorder())
    await store.unlisten("c")
    assert not store.traits.subscriptions
    assert TcpStore.traits.subscriptions


# -- headers ------------------------------------------------------------------------------------


async def test_each_request_carries_the_last_sync_token(endpoint, store):
    """So that a client reads what it wrote, whichever replica answers."""
    await store.execute("SET", "a", 1)
    told = endpoint.app.sync_token
    await store.pipeline([("GET", "a")])
    assert endpoint.app.headers["upstash-sync-token"] == told
    async with UpstashStore(endpoint.url, endpoint.token, QUICK_REST):
        assert endpoint.app.headers["upstash-sync-token"] == "", "another client's own"


async def test_nothing_is_told_about_us(endpoint, store):
    """No telemetry, the token in its header, base64 asked for."""
    await store.execute("PING")
    headers = endpoint.app.headers
    assert not [name for name in headers if "telemetry" in name]
    assert headers["authorization"] == f"Bearer {endpoint.token}"
    assert headers["upstash-encoding"] == "base64"
    assert headers["content-type"] == "application/json"


# -- readiness ----------------------------------------------------------------------------------


async def test_readiness_follows_the_database(endpoint):
    """A failed call is a doubt, a failed probe the end; the first answer brings it back."""
    states: asyncio.Queue[bool] = asyncio.Queue()
    async with UpstashStore(endpoint.url, endpoint.token, QUICK_REST) as store:
        store.on_state(states.put_nowait)
        assert store.ready
        assert store.trouble is None
        endpoint.fail(*[Fault.HTML_503] * 4)
        with pytest.raises(OutcomeUnknown):
            await store.execute("PING")
        assert await states.get() is False
        assert await states.get() is True
    assert await states.get() is False
    assert "closed" in (store.trouble or "")


async def test_one_failed_call_does_not_make_it_unready(endpoint):
    """The probe that it starts is answered."""
    states = []
    async with UpstashStore(endpoint.url, endpoint.token, QUICK_REST) as store:
        store.on_state(states.append)
        before = endpoint.app.commands["PING"]
        endpoint.fail(Fault.HTML_503)
        with pytest.raises(OutcomeUnknown):
            await store.execute("GET", "a")
        await until(lambda: endpoint.app.commands["PING"] > before)
        await store.execute("GET", "a")
        assert states == []


async def test_an_idle_store_costs_next_to_nothing(endpoint):
    """A probe an interval when nothing else was heard, none when something was."""
    options = UpstashStoreOptions(probe_interval_s=0.05, backoff_s=(0.001, 0.001))
    async with UpstashStore(endpoint.url, endpoint.token, options):
        opened = endpoint.app.commands["PING"]
        await until(lambda: endpoint.app.commands["PING"] >= opened + 2)
    endpoint.reset()
    async with UpstashStore(endpoint.url, endpoint.token) as store:
        for _ in range(20):
            await store.execute("ECHO", "x")
        assert endpoint.app.database.billed == 21


async def test_a_callback_that_fails_is_its_own_problem(endpoint, caplog):
    """It is logged, and the store goes on."""

    def fail(ready: bool) -> None:
        raise ZeroDivisionError

    store = UpstashStore(endpoint.url, endpoint.token, QUICK_REST)
    store.on_state(fail)
    async with store:
        assert await store.execute("PING") == b"PONG"
    assert "ZeroDivisionError" in caplog.text


def test_the_constructor_does_no_io() -> None:
    """It may be called without a loop, for an address where nobody is."""
    assert not UpstashStore(NOWHERE, "t").ready
