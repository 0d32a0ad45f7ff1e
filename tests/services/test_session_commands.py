"""What each call costs in commands: each of them is billed where Redis is a service."""

from __future__ import annotations

import re

import pytest

from services.session_manager import SessionManager
from services.session_settings import SessionSettings

from .session_support import Hand, make_context, snapshot

#: Everything that runs inside of a script is counted beside the script itself.
APPEND = {"hmget": 1, "xadd": 1, "hset": 1, "publish": 1}


async def counted(store, call):
    """Return how often each command ran during ``call``."""
    await store.execute("CONFIG", "RESETSTAT")
    await call()
    text = (await store.execute("INFO", "commandstats")).decode()
    found = dict(re.findall(r"cmdstat_([a-z|]+):calls=(\d+)", text))
    return {
        name: int(calls)
        for name, calls in found.items()
        if name not in ("config", "config|resetstat", "info", "ping")
    }


def added(*parts):
    """Return the sum of counts."""
    total = {}
    for part in parts:
        for name, calls in part.items():
            total[name] = total.get(name, 0) + calls
    return total


@pytest.fixture
async def used(store):
    """A session whose window is full, its scripts loaded, in the middle of a second."""
    hand = Hand()
    context = make_context(store, hand)
    context.session_settings = SessionSettings(window=2)
    sessions = SessionManager(context, "w1")
    await sessions.create_session("s1", "ada")
    for number in range(3):
        await sessions.add_message("s1", "user", number)
    await sessions.update_session("s1", current_agent="a")
    await sessions.extend_session("s1", 1)
    await sessions.get_session("s1")
    await sessions.create_session("s9", "ada")
    await sessions.delete_session("s9")
    await snapshot(context, "w1", "s1")
    return context, sessions, hand


async def test_a_message_costs_ten_commands_and_the_script(store, used):
    """Renewing the idle time costs none of its own."""
    _, sessions, hand = used
    hand.move(0.2)
    found = await counted(store, lambda: sessions.add_message("s1", "user", "x", user_id="ada"))
    own = {"evalsha": 1, "hmget": 1, "zscore": 1, "rpush": 1, "lpop": 1, "zadd": 1, "hset": 1}
    assert found == added(APPEND, own)
    assert sum(found.values()) == 11


async def test_a_message_that_comes_again_costs_four(store, used):
    """It is looked up, and the first one is read."""
    _, sessions, _ = used
    await sessions.add_message("s1", "user", "x", message_id="m1")
    found = await counted(store, lambda: sessions.add_message("s1", "user", "x", message_id="m1"))
    assert found == {"evalsha": 1, "hmget": 1, "zscore": 1, "lindex": 1}


async def test_an_update(store, used):
    """It brings the whole session back."""
    _, sessions, _ = used
    found = await counted(store, lambda: sessions.update_session("s1", current_agent="b"))
    own = {"evalsha": 1, "hgetall": 1, "zscore": 1, "hset": 1, "zadd": 1, "lrange": 1}
    assert found == added(APPEND, own)
    found = await counted(store, lambda: sessions.update_session("s1", current_agent=None))
    assert found == added(APPEND, own, {"hdel": 1})


async def test_an_extension(store, used):
    """One read, one write, one thing to remember."""
    _, sessions, _ = used
    found = await counted(store, lambda: sessions.extend_session("s1", 60))
    assert found == added(APPEND, {"evalsha": 1, "hmget": 1, "zscore": 1, "hset": 1, "zadd": 1})


async def test_reading(store, used):
    """Two reads in a script; another look where reading is use."""
    context, sessions, hand = used
    read = {"evalsha": 1, "hgetall": 1, "lrange": 1}
    assert await counted(store, lambda: sessions.get_session("s1")) == read
    found = await counted(store, lambda: sessions.get_session("s1", touch=True))
    assert found == added(read, {"evalsha": 1, "hmget": 1})
    hand.move(130)  # another second, so the log's TTL is renewed
    found = await counted(store, lambda: sessions.get_session("s1", touch=True))
    assert found == added(read, APPEND, {"evalsha": 1, "hmget": 1, "hset": 1, "pexpire": 1})
    found = await counted(store, lambda: snapshot(context, "w1", "s1"))
    assert found == added(read, {"hmget": 1})


async def test_beginning(store, used):
    """The deadline is registered first; the channel is new, so its log gets its TTL."""
    _, sessions, _ = used
    found = await counted(store, lambda: sessions.create_session("s2", "ada"))
    own = {"evalsha": 1, "hgetall": 1, "del": 1, "hset": 1, "pexpire": 3, "zadd": 4}
    log = {"xadd": 1, "pexpire": 2}
    index = {"zadd": 1, "zremrangebyrank": 1}
    assert found == added(APPEND, own, log, index, {"zadd": 1})
    assert sum(found.values()) == 21
    found = await counted(store, lambda: sessions.create_session("s2", "ada"))
    assert found == {"zadd": 1, "evalsha": 1, "hgetall": 1, "lrange": 1}


async def test_ending(store, used):
    """A delete by the owner reads no owner first."""
    _, sessions, _ = used
    found = await counted(store, lambda: sessions.delete_session("s1", user_id="ada"))
    assert found == added(
        {"hmget": 1, "xadd": 1, "hset": 1, "publish": 1},
        {"evalsha": 1, "hmget": 1, "del": 1, "zrem": 3},
    )


async def test_a_list(store, used):
    """One for the page and one a session."""
    _, sessions, _ = used
    await sessions.create_session("s2", "ada")
    found = await counted(store, sessions.list_sessions)
    assert found == {"zrevrangebyscore": 1, "hmget": 2}
