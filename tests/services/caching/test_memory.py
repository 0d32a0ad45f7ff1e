"""Memory in the process: bounded, kept coherent by events, and not used while in doubt."""

from __future__ import annotations

import asyncio

import pytest

from channels.catalogue import Catalogue
from services.caching.settings import CachePolicy, CacheSettings
from services.caching.stats import CacheStats
from services.context import Context
from services.store.script import Script

from .cache_support import Source, in_memory, opened, until


@pytest.fixture
async def two(valkey):
    """Two applications on one server: whoever of them invalidates, the other must hear of it."""
    async with opened(valkey.url) as here, opened(valkey.url) as there:
        for services in (here, there):
            await in_memory(services.for_workspace("w1").cache)
        yield here, there


def stats(services) -> CacheStats:
    """Return what an application counted."""
    return services.context.caches.stats


async def test_an_event_reaches_the_memory_of_others(two):
    """By key, by tag, and by the events that mean the same."""
    here, there = (services.for_workspace("w1").cache for services in two)
    heard = stats(two[1])
    for number, (key, invalidate) in enumerate(
        [
            ("a", lambda: here.invalidate(keys="a")),
            ("b", lambda: here.invalidate(tags="t")),
            ("foundation", here.invalidate_foundation),
            ("icps", here.invalidate_icps),
            ("c", lambda: here.set("c", "set", tags=["t"])),
        ]
    ):
        source = Source("old")
        await there.get_or_set(key, source, tags=["t"])
        before = heard.local_hits
        assert await there.get_or_set(key, source, tags=["t"]) == "old"
        assert heard.local_hits == before + 1
        source.value = "set"
        await invalidate()
        await until(lambda: heard.invalidations_heard > number)  # noqa: B023 - awaited here
        assert await there.get_or_set(key, source, tags=["t"]) == "set"


async def test_who_invalidates_forgets_at_once(two):
    """Before the message comes back."""
    here = two[0].for_workspace("w1").cache
    source = Source("old")
    for number in range(50):
        await here.get_or_set("k", source)
        source.value = number
        await here.invalidate(keys="k")
        assert await here.get_or_set("k", source) == number


async def test_a_version_makes_others_look(two):
    """Whoever knows of an invalidation is not answered from before it, heard of or not."""
    here, there = (services.for_workspace("w1").cache for services in two)
    source = Source(0)
    for number in range(1, 50):
        await there.get_or_set("k", source)
        source.value = number
        version = await here.invalidate(keys="k")
        assert await there.get_or_set("k", source, at_least=version) == number


class Held:
    """A store whose replies to GET wait for ``gate``."""

    def __init__(self, store) -> None:
        self._store = store
        self.gate = asyncio.Event()
        self.answered = asyncio.Event()

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def execute(self, *command, **options):
        """Send at once, reply later."""
        reply = await self._store.execute(*command, **options)
        if command[0] == "GET":
            self.answered.set()
            await self.gate.wait()
        return reply


async def test_a_read_that_is_on_its_way_is_not_shared_by_who_comes_later(valkey, two):
    """Redis may have answered it before an invalidation that this process never hears of."""
    here = two[0].for_workspace("w1").cache
    source = Source("old")
    await here.get_or_set("k", source)
    async with opened(valkey.url, local_ttl_s=0) as deaf:
        there = deaf.for_workspace("w1").cache
        store = there._shared.cache_store
        store._store = held = Held(store._store)
        early = asyncio.create_task(there.get_or_set("k", source))
        await held.answered.wait()
        source.value = "new"
        await here.invalidate(keys="k")
        late = asyncio.create_task(there.get_or_set("k", source))
        await asyncio.sleep(0)
        held.gate.set()
        assert await early == "old"  # it began before
        assert await late == "new"


async def test_what_is_read_while_it_is_invalidated_is_not_put_into_memory(two):
    """The message overtakes the reply: who comes after it is answered anew."""
    here, there = (services.for_workspace("w1").cache for services in two)
    source = Source("old")
    await here.get_or_set("k", source)
    store = there._shared.cache_store
    store._store = held = Held(store._store)
    early = asyncio.create_task(there.get_or_set("k", source))
    joined = asyncio.create_task(there.get_or_set("k", source))
    await held.answered.wait()
    source.value = "new"
    await here.invalidate(keys="k")
    await until(lambda: stats(two[1]).invalidations_heard)
    late = asyncio.create_task(there.get_or_set("k", source))
    await asyncio.sleep(0)
    held.gate.set()
    assert [await early, await joined, await late] == ["old", "old", "new"]
    assert await there.get_or_set("k", source) == "new"


async def test_nobody_changes_what_others_get(two):
    """What could be changed is made anew for each caller; what cannot be is shared."""
    cache = two[0].for_workspace("w1").cache
    for _ in range(3):
        found = await cache.get_or_set("k", lambda: {"list": []})
        assert found == {"list": []}
        found["list"].append("mine")
    assert stats(two[0]).local_hits == 2
    text = await cache.get_or_set("t", lambda: "x" * 1000)
    assert await cache.get_or_set("t", lambda: "") is await cache.get_or_set("t", lambda: "")
    assert text == "x" * 1000


async def test_types_that_are_equal_are_the_same(two):
    """``list[int]`` is another object each time it is written."""
    cache = two[0].for_workspace("w1").cache
    for _ in range(3):
        assert await cache.get_or_set("k", lambda: [1], type=list[int]) == [1]
    assert stats(two[0]).local_hits == 2


async def test_memory_has_a_bound(valkey):
    """In entries and bytes; what is used stays."""
    async with opened(valkey.url, local_entries=10, local_bytes=50_000) as services:
        cache = services.for_workspace("w1").cache
        await in_memory(cache)
        local = services.context.caches.shared.local
        source = Source("v")
        await cache.get_or_set("hot", source)
        for number in range(100):
            await cache.get_or_set(f"k{number}", lambda: 1)
            await cache.get_or_set("hot", source)
            assert local.count <= 10
        assert source.loads == 1
        assert stats(services).evictions == 91
        for number in range(100):
            await cache.get_or_set(f"l{number}", lambda: "x" * 20_000)
            assert local.bytes <= 50_000
        # One that is larger than all there is goes through.
        assert len(await cache.get_or_set("huge", lambda: "x" * 60_000)) == 60_000
        await cache.invalidate(keys=[f"l{number}" for number in range(100)])
        await cache.invalidate(keys=[f"k{number}" for number in range(100)])
        await cache.invalidate(keys=["hot", "huge"])
        assert (local.count, local.bytes) == (0, 0)


async def test_a_killed_subscription_is_not_trusted(valkey, two):
    """While it is down nothing comes from memory; what was missed is caught up first."""
    here, there = (services.for_workspace("w1").cache for services in two)
    source = Source("old")
    for number in range(30):
        await there.get_or_set("k", source)
        source.value = number
        with valkey.client() as client:
            client.client_kill_filter(_type="pubsub")
        await here.invalidate(keys="k")
        # The end of the connection is on its way: within a moment it is known.
        seen = await there.get_or_set("k", source)
        while seen != number:
            assert there._memory.trusted, "an old value, although the connection is in doubt"
            await asyncio.sleep(0.001)
            seen = await there.get_or_set("k", source)
        await in_memory(there)
        assert await there.get_or_set("k", source) == number
    assert stats(two[1]).doubts > 0


async def test_a_message_that_is_lost_silently_is_found_by_comparison(two):
    """Between two comparisons of the follower; memory's own short time is the other bound."""
    here, there = (services.for_workspace("w1").cache for services in two)
    source = Source("old")
    await there.get_or_set("k", source)
    source.value = "new"
    # An invalidation that is in the log, and whose message never goes out.
    store = here._shared.cache_store
    silent = store._invalidate.text.replace("redis.pcall('PUBLISH', ARGV[at + 2],", "tostring(")
    assert silent != store._invalidate.text
    store._invalidate = Script("silent", silent)
    await here.invalidate(keys="k")
    assert await there.get_or_set("k", source) == "old"
    async with asyncio.timeout(5):
        while await there.get_or_set("k", source) != "new":  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    assert stats(two[1]).gaps == 0


async def test_what_nobody_uses_is_not_followed(valkey):
    """After a while; and again when somebody does."""
    async with opened(valkey.url, idle_s=0.1) as services:
        channel = services.catalogue.find("workspace:w1")
        cache = services.for_workspace("w1").cache
        for _ in range(2):
            await in_memory(cache)
            await cache.get_or_set("k", lambda: 1)
            assert services.follower.follows(channel)
            await until(lambda: not services.follower.follows(channel))
            assert not cache._memory.entries.by_key


async def test_a_view_that_nobody_holds_has_the_same_memory(two):
    """``for_workspace(...)`` is called again and again."""
    for _ in range(5):
        assert await two[0].for_workspace("w1").cache.get_or_set("k", lambda: 1) == 1
    assert stats(two[0]).local_hits == 4


async def test_without_subscriptions_there_is_no_memory(rest_store, keys):
    """Over REST nobody tells of invalidations: memory is off, or as short as the settings say."""
    for seconds, hits in ((0.0, 0), (60.0, 1)):
        context = Context(
            rest_store, keys, Catalogue(), cache=CacheSettings(unwatched_local_ttl_s=seconds)
        )
        cache = context.caches.of_workspace("w1")
        for _ in range(2):
            await cache.get_or_set("k", lambda: 1)
        await cache.get_or_set("k", lambda: 1)
        assert bool(context.caches.stats.local_hits) == bool(hits)


async def test_a_policy_without_memory_asks_redis_whatever_others_put_there(valkey):
    """As a policy object, as an option, and as what the settings say."""
    asks, remembers, source = CachePolicy(local_ttl_s=0), CachePolicy(), Source()
    for usual, options in ((remembers, {"policy": asks}), (asks, {})):
        async with opened(valkey.url, policy=usual) as services:
            cache, counted = services.for_workspace("w1").cache, stats(services)
            await in_memory(cache)
            for _ in range(2):
                await cache.get_or_set("k", source, policy=remembers)
            assert counted.local_hits >= 1
            before = counted.local_hits
            await cache.get_or_set("k", source, local_ttl_s=0)
            await cache.get_or_set("k", source, **options)
            assert counted.local_hits == before
