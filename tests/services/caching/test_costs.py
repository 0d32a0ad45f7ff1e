"""What calls cost in commands, those within scripts included: on some stores each is billed."""

from __future__ import annotations

import pytest

from .cache_support import commands, in_memory, opened


@pytest.fixture
async def services(valkey):
    """The services of one application, scripts loaded, memory followed."""
    async with opened(valkey.url) as opened_:
        cache = opened_.for_workspace("w1").cache
        await in_memory(cache)
        await cache.get_or_set("warm", lambda: 1, tags=["t"])
        await cache.set("warm", 1)
        await cache.invalidate(keys="warm")
        yield opened_


async def test_commands_are_few(services):
    """From memory none, from Redis one, a load and its fill nine."""
    cache, store = services.for_workspace("w1").cache, services.store

    async def counted(call):
        return await commands(store, call)

    miss = await counted(lambda: cache.get_or_set("k", lambda: 1))
    assert miss == {
        "get": 1,  # is it there?
        "evalsha": 2,
        "mget": 2,
        "set": 2,
        "del": 1,
        "publish": 1,
    }
    assert await counted(lambda: cache.get_or_set("k", lambda: 1)) == {}
    assert await counted(lambda: cache.get_or_set("k", lambda: 1, local_ttl_s=0)) == {"get": 1}
    assert await counted(lambda: cache.get("other")) == {"get": 1}
    tagged = {"tags": ["t"], "local_ttl_s": 0}
    await cache.get_or_set("tagged", lambda: 1, **tagged)
    assert await counted(lambda: cache.get_or_set("tagged", lambda: 1, **tagged)) == {"mget": 1}


async def test_an_invalidation_is_one_script_for_any_number_of_keys(services):
    """The event, the version, one deletion; a tag is one command more."""
    cache, store = services.for_workspace("w1").cache, services.store
    counted = await commands(
        store, lambda: cache.invalidate(keys=[f"k{number}" for number in range(100)])
    )
    event = {"hmget": 1, "xadd": 1, "hset": 1, "publish": 2}
    rest = {"evalsha": 1, "mget": 1, "get": 1, "set": 1, "del": 1}
    counted.pop("pexpire", None)  # of the log: the first of each second
    assert counted == event | rest
    tags = await commands(store, lambda: cache.invalidate(tags=["a", "b"]))
    tags.pop("pexpire", None)
    assert tags == event | {"evalsha": 1, "get": 1, "set": 3}
