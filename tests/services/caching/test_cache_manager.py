"""The cache of a workspace, through its public calls."""

from __future__ import annotations

import asyncio
import re

import msgspec
import pytest

from channels.catalogue import WORKSPACE, Catalogue
from channels.errors import BadRequest, LimitExceeded, LoadFailed
from services.caching.settings import CachePolicy, CacheSettings
from services.context import Context
from services.event_log import EventLog

from .cache_support import Source, until


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000
        self.measured = True

    def now_ms(self) -> int:
        """Return the time."""
        return self.ms

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.ms += int(seconds * 1000)


@pytest.fixture
def hand():
    """The time in Redis' values; memory goes by the machine's."""
    return Hand()


@pytest.fixture
async def caches(any_store, keys, hand):
    """The caches of a process, without memory: nobody follows."""
    policy = CachePolicy(jitter=0.0)
    context = Context(
        any_store, keys, Catalogue(), clock=hand, cache=CacheSettings(policy=policy, failure_s=0.0)
    )
    yield context.caches
    await context.caches.close()


@pytest.fixture
def cache(caches):
    """The cache of one workspace."""
    return caches.of_workspace("w1")


@pytest.mark.parametrize(
    "value",
    [[], {}, None, 0, "", False, "text", {"a": [1, 2.5, None]}, "Straße \U0001f600\n{}"],
    ids=repr,
)
async def test_every_value_is_a_value(cache, value):
    """Nothing that is empty is loaded twice."""
    source = Source(value)
    assert [await cache.get_or_set("k", source) for _ in range(3)] == [value] * 3
    assert source.loads == 1
    assert await cache.get("k", default="none") == value


async def test_a_hit_is_what_the_load_was(cache):
    """Both are what JSON made of it: no tuple the first time and a list the second."""
    assert await cache.get_or_set("k", lambda: (1, 2)) == [1, 2]
    assert await cache.get_or_set("k", lambda: (1, 2)) == [1, 2]


async def test_loaders_need_not_be_coroutines(cache):
    """A plain function will do, where it does not block."""
    assert await cache.get_or_set("k", lambda: 7) == 7


async def test_what_is_not_json_is_refused(cache):
    """With a clear error, and the lease is not left behind."""
    with pytest.raises(BadRequest, match="JSON can hold"):
        await cache.get_or_set("k", object)
    assert await cache.get_or_set("k", lambda: 1) == 1


class Profile(msgspec.Struct, frozen=True):
    """What values are read as."""

    name: str
    age: int = 0


async def test_values_are_read_as_their_type(cache, caches):
    """A value that is not of the type is a miss, and loaded anew."""
    await cache.get_or_set("k", lambda: {"title": "ada"})
    loaded = await cache.get_or_set("k", lambda: Profile("ada", 36), type=Profile)
    assert loaded == Profile("ada", 36)
    assert caches.stats.undecodable == 1
    assert await cache.get("k", type=Profile) == Profile("ada", 36)
    with pytest.raises(BadRequest, match="not of its type"):
        await cache.get_or_set("other", lambda: {"title": "ada"}, type=Profile)


@pytest.mark.parametrize("key", ["", "a b", "a\n", "a\x00", "x" * 257, "\ud800", 7])
async def test_what_is_no_key_is_refused(cache, key):
    """Before anything is done."""
    for call in (
        cache.get_or_set(key, lambda: 1),
        cache.get(key),
        cache.set(key, 1),
        cache.invalidate(keys=[key]),
        cache.invalidate(tags=[key]),
        cache.get_or_set("k", lambda: 1, tags=[key]),
    ):
        with pytest.raises(BadRequest):
            await call


@pytest.mark.parametrize(
    "options", [{"ttl_s": 0}, {"ttl_s": -1.0}, {"ttl": 3}, {"jitter": 2}, {"stale_s": "1"}]
)
async def test_options_are_those_of_the_policy(cache, options):
    """Others are an error, not ignored."""
    with pytest.raises(BadRequest, match="cache policy"):
        await cache.get_or_set("k", lambda: 1, **options)


async def test_tenants_do_not_meet(cache, caches):
    """Whatever a key looks like, it is under its own workspace; tags too."""
    other, common = caches.of_workspace("w2"), caches.common
    for key in ("k", "}:cache:k", "w2}:cache:k", "lease:k", "tag:k"):
        await cache.get_or_set(key, lambda: "w1", tags=["t"])
        assert await other.get(key) is None
        assert await common.get(key) is None
        await other.invalidate(keys=[key], tags=["t"])
        await common.invalidate(keys=[key], tags=["t"])
        assert await cache.get(key) == "w1"


async def test_what_belongs_to_no_workspace_has_a_cache_too(caches, any_store):
    """It is told on a channel of its own."""
    await caches.common.get_or_set("k", lambda: 1)
    await caches.common.invalidate(keys="k")
    assert await caches.common.get("k") is None
    assert await any_store.execute("XLEN", "fw:{hub:cache}:log:hub:cache") == 1


# -- time ----------------------------------------------------------------------------------


async def test_a_value_has_three_windows(cache, caches, hand):
    """Fresh; stale, and loaded anew behind it; then only for want of a better one."""
    source = Source("old")
    options = {"ttl_s": 10.0, "stale_s": 10.0, "fail_safe_s": 10.0}

    async def read():
        return await cache.get_or_set("k", source, **options)

    assert await read() == "old"
    source.value = "new"
    hand.move(9)
    assert (await read(), source.loads) == ("old", 1)
    hand.move(2)
    source.begun.clear()
    assert await read() == "old"
    await source.begun.wait()
    await until(lambda: caches.stats.fills == 2)
    assert (await read(), source.loads) == ("new", 2)
    hand.move(25)
    source.error = RuntimeError("no database")
    assert (await read(), source.loads) == ("new", 3)
    assert caches.stats.fail_safe == 1
    hand.move(10)
    with pytest.raises(RuntimeError, match="no database"):
        await read()


async def test_a_slow_load_is_not_waited_for_where_there_is_an_old_value(cache, caches, hand):
    """It goes on, and the next one has its result."""
    source = Source("old")
    options = {"ttl_s": 10.0, "fail_safe_s": 100.0, "soft_timeout_s": 0.01}
    await cache.get_or_set("k", source, **options)
    hand.move(11)
    source.value = "new"
    source.gate.clear()
    assert await cache.get_or_set("k", source, **options) == "old"
    assert caches.stats.slow == 1
    source.gate.set()
    await until(lambda: caches.stats.fills == 2)
    assert await cache.get_or_set("k", source, **options) == "new"
    assert source.loads == 2


async def test_a_load_has_an_end(cache):
    """After the hard timeout it is cancelled, and has failed."""
    source = Source()
    source.gate.clear()
    with pytest.raises(LoadFailed, match=re.escape("longer than 0.02 s")):
        await cache.get_or_set("k", source, hard_timeout_s=0.02)
    source.gate.set()
    assert await cache.get_or_set("k", source) == "v1"


async def test_what_there_is_not_is_known_for_a_shorter_time(cache, hand):
    """None, or what the caller says means nothing."""
    source = Source(None)
    for _ in range(2):
        assert await cache.get_or_set("k", source, ttl_s=100.0, negative_ttl_s=10.0) is None
    assert source.loads == 1
    hand.move(11)
    await cache.get_or_set("k", source, ttl_s=100.0, negative_ttl_s=10.0)
    assert source.loads == 2
    empty = Source({"rows": []})
    for _ in range(2):
        await cache.get_or_set(
            "e", empty, negative_ttl_s=0.0, missing=lambda value: not value["rows"]
        )
    assert empty.loads == 2


async def test_eager_values_are_loaded_before_their_end(cache, caches, hand):
    """Whoever reads one in the last part of its time has it loaded behind him."""
    source = Source("old")
    await cache.get_or_set("k", source, ttl_s=100.0, eager=0.8)
    source.value = "new"
    hand.move(79)
    assert await cache.get_or_set("k", source, ttl_s=100.0, eager=0.8) == "old"
    assert caches.stats.refreshes == 0
    hand.move(2)
    assert await cache.get_or_set("k", source, ttl_s=100.0, eager=0.8) == "old"
    await until(lambda: caches.stats.fills == 2)
    assert await cache.get_or_set("k", source, ttl_s=100.0, eager=0.8) == "new"


async def test_ends_are_spread(any_store, keys, hand):
    """By a tenth both ways, so that what was filled at once does not end at once."""
    context = Context(any_store, keys, Catalogue(), clock=hand)
    cache = context.caches.of_workspace("w1")
    for number in range(20):
        await cache.get_or_set(f"k{number}", lambda: 1, ttl_s=1000.0)
    ends = [
        int((await any_store.execute("GET", keys.cache("w1", f"k{number}"))).split(b" ")[2])
        for number in range(20)
    ]
    assert len(set(ends)) > 10
    assert all(900_000 <= end - hand.ms <= 1_100_000 for end in ends)
    # And none is without an end in Redis.
    assert await any_store.execute("PTTL", keys.cache("w1", "k0")) > 0


# -- one load ------------------------------------------------------------------------------


async def test_concurrent_misses_are_one_load(cache):
    """Everybody waits for the same."""
    source = Source("v")
    source.gate.clear()
    waiting = [asyncio.create_task(cache.get_or_set("k", source)) for _ in range(100)]
    await source.begun.wait()
    source.gate.set()
    assert await asyncio.gather(*waiting) == ["v"] * 100
    assert source.loads == 1


async def test_who_leaves_does_not_take_the_load_along(cache):
    """Not even who began it."""
    source = Source("v")
    source.gate.clear()
    first = asyncio.create_task(cache.get_or_set("k", source))
    await source.begun.wait()
    second = asyncio.create_task(cache.get_or_set("k", source))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.gate.set()
    assert await second == "v"
    assert source.loads == 1


async def test_a_failure_is_everybodys_and_not_repeated_at_once(any_store, keys):
    """For a moment the source is left alone; after an invalidation it is asked again."""
    context = Context(any_store, keys, Catalogue(), cache=CacheSettings(failure_s=60.0))
    cache = context.caches.of_workspace("w1")
    source = Source()
    source.error = ValueError("broken")
    for _ in range(3):
        answers = await asyncio.gather(
            *(cache.get_or_set("k", source) for _ in range(10)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {ValueError}
    assert source.loads == 1
    # Another process knows it from Redis.
    elsewhere = Context(any_store, keys, Catalogue()).caches.of_workspace("w1")
    with pytest.raises(LoadFailed, match="a moment ago"):
        await elsewhere.get_or_set("k", source)
    source.error = None
    await cache.invalidate(keys="k")
    assert await cache.get_or_set("k", source) == "v1"
    assert source.loads == 2


async def test_large_values_are_returned_and_not_kept(any_store, keys):
    """They are counted; to keep one on purpose is an error."""
    context = Context(any_store, keys, Catalogue(), cache=CacheSettings(max_value_bytes=100))
    cache, source = context.caches.of_workspace("w1"), Source("x" * 99)
    assert [await cache.get_or_set("k", source) for _ in range(2)] == ["x" * 99] * 2
    assert source.loads == 2
    assert context.caches.stats.too_large == 1  # the second time it was known
    with pytest.raises(LimitExceeded, match="101 bytes; at most 100"):
        await cache.set("k", "x" * 99)


# -- invalidation --------------------------------------------------------------------------


async def test_what_is_loaded_while_it_is_invalidated_is_not_kept(cache, caches):
    """It is loaded again, and whoever waits gets that."""
    source = Source("old")
    source.gate.clear()
    waiting = asyncio.create_task(cache.get_or_set("k", source, tags=["t"]))
    await source.begun.wait()
    source.value = "new"
    await cache.invalidate(keys="k")
    source.gate.set()
    assert await waiting == "new"
    assert (caches.stats.refused, source.loads) == (1, 2)


async def test_tags_reach_values_and_loads(cache, caches):
    """Of any key that has one of them, without a look at the keys."""
    source = Source("old")
    await cache.get_or_set("a", source, tags=["red", "round"])
    await cache.get_or_set("b", source, tags=["blue"])
    source.gate.clear()
    source.begun.clear()
    waiting = asyncio.create_task(cache.get_or_set("c", source, tags=["red"]))
    await source.begun.wait()
    source.value = "new"
    await cache.invalidate(tags=["red", "square"])
    source.gate.set()
    assert await waiting == "new"
    assert await cache.get("a") is None
    assert await cache.get("b") == "old"
    assert await cache.get_or_set("a", source) == "new"


async def test_a_tag_that_is_lost_takes_its_values_along(cache, any_store, keys):
    """Evicted or expired: a value is valid only while all its tags have their stamps."""
    await cache.get_or_set("a", lambda: 1, tags=["t"])
    await any_store.execute("DEL", keys.cache_tag("w1", "t"))
    assert await cache.get("a") is None
    assert await cache.get_or_set("a", lambda: 2, tags=["t"]) == 2


async def test_an_invalidation_is_told(cache, any_store, keys, hand):
    """With keys, tags and a version that rises, also when Redis forgot it."""
    first = await cache.invalidate(keys=["a", "b", "a"], tags="t")
    await any_store.execute("DEL", keys.cache_version("w1"))
    hand.move(0.001)
    second = await cache.invalidate(keys="a")
    assert second > first
    page = await EventLog(any_store, keys).read(Catalogue().find(WORKSPACE.name(workspace="w1")))
    told = [msgspec.json.decode(publication.data) for publication in page.publications]
    assert [event["type"] for event in told] == ["cache.invalidated"] * 2
    assert told[0]["data"] == {
        "workspace": "w1",
        "version": first,
        "keys": ["a", "b"],
        "tags": ["t"],
    }
    assert await cache.invalidate() == 0


async def test_set_replaces_and_what_is_loaded_meanwhile_does_not(cache):
    """A value that is set is the newest there is."""
    source = Source("loaded")
    source.gate.clear()
    waiting = asyncio.create_task(cache.get_or_set("k", source))
    await source.begun.wait()
    await cache.set("k", "set", tags=["t"])
    source.gate.set()
    assert await waiting == "set"
    assert await cache.get_or_set("k", source) == "set"
    await cache.invalidate(tags="t")
    assert await cache.get("k") is None
    await cache.set("k", "again")
    await cache.delete("k")
    assert await cache.get("k", "nothing") == "nothing"


async def test_setting_one_value_leaves_others_with_its_tags(cache):
    """Tags of a value that is set are not invalidated by that."""
    await cache.get_or_set("a", lambda: 1, tags=["t"])
    await cache.set("b", 2, tags=["t"])
    assert (await cache.get("a"), await cache.get("b")) == (1, 2)


async def test_while_a_writer_writes_nothing_is_kept(cache):
    """Not even by others, who invalidate meanwhile; afterwards all is as it was."""
    source = Source("old")
    await cache.get_or_set("k", source)
    async with cache.writing(keys="k"):
        assert await cache.get_or_set("k", source) == "old"
        await cache.invalidate(keys="k")
        assert await cache.get_or_set("k", source) == "old"
        assert await cache.get("k") is None
        await cache.set("k", "smuggled")
        assert await cache.get("k") is None
        source.value = "new"
    assert source.loads == 3
    assert [await cache.get_or_set("k", source) for _ in range(2)] == ["new"] * 2
    assert source.loads == 4


async def test_writers_do_not_end_each_others_fences(cache):
    """Nothing is kept until the last of them is done."""
    source = Source("old")
    first, second, third = (cache.writing(keys="k") for _ in range(3))
    for writing in (first, second, third):
        await writing.__aenter__()
    for writing in (second, first):
        await writing.__aexit__(None, None, None)
        await cache.get_or_set("k", source)
        assert await cache.get("k") is None
    await third.__aexit__(None, None, None)
    await cache.get_or_set("k", source)
    assert await cache.get("k") == "old"


async def test_a_writer_that_dies_leaves_nothing_old(cache, caches, hand):
    """Its fence stays for its time."""
    source = Source("old")
    writing = cache.writing(keys="k")
    await writing.__aenter__()
    assert await cache.get_or_set("k", source) == "old"
    source.value = "new"  # committed; and then nothing more is heard of the writer
    assert await cache.get_or_set("k", source) == "new"
    hand.move(61)
    assert await cache.get_or_set("k", source) == "new"
    assert await cache.get("k") == "new"


async def test_too_many_names_are_refused(cache):
    """They are one event and one script."""
    with pytest.raises(LimitExceeded, match="at most 500"):
        await cache.invalidate(keys=[f"k{number}" for number in range(501)])
    with pytest.raises(LimitExceeded, match="at most 16"):
        await cache.get_or_set("k", lambda: 1, tags=[f"t{number}" for number in range(17)])


async def test_functions_are_cached_by_their_arguments(cache):
    """And forgotten by them."""
    calls = []

    @cache.cached(ttl_s=60.0, tags=["sums"])
    async def add(a: int, b: int = 0) -> int:
        """Add."""
        calls.append((a, b))
        return a + b

    assert [await add(1, b=2), await add(1, b=2), await add(1)] == [3, 3, 1]
    assert calls == [(1, 2), (1, 0)]
    assert add.__doc__ == "Add."
    await add.invalidate(1, b=2)
    await add(1, b=2)
    await add(1)
    assert len(calls) == 3
    await cache.invalidate(tags="sums")
    await add(1)
    assert len(calls) == 4

    @cache.cached(key=lambda user: f"user:{user}")
    async def name(user: str) -> str:
        return user.upper()

    assert await name("ada") == "ADA"
    assert await cache.get("user:ada") == "ADA"


async def test_what_cannot_be_kept_as_json_ends_its_lease(any_store, caches, cache):
    """Nobody waits for a lease whose load has failed, here or in another process."""

    async def loader():
        return object()

    def confused(value):
        raise RuntimeError("no")

    with pytest.raises(BadRequest):
        await cache.get_or_set("k", loader)
    with pytest.raises(RuntimeError):
        await cache.get_or_set("other", Source(), missing=confused)
    assert await any_store.execute("EXISTS", *_leases("k", "other")) == 0


def _leases(*keys):
    return [f"fw:{{w1}}:cache-lease:{key}" for key in keys]


async def test_strict_callers_share_reads(any_store, caches, cache):
    """Two hundred who all ask Redis cost two reads: the one under way, and the next."""
    await cache.get_or_set("k", Source())
    reads = 0
    store = caches.shared.cache_store
    read = store.read

    class Counting:
        def __getattr__(self, name):
            return getattr(store, name)

        async def read(self, *arguments):
            nonlocal reads
            reads += 1
            return await read(*arguments)

    caches.shared.cache_store = Counting()
    found = await asyncio.gather(
        *(cache.get_or_set("k", Source("v2"), local_ttl_s=0) for _ in range(200))
    )
    assert found == ["v1"] * 200
    assert reads == 2


async def test_who_comes_during_a_fill_is_not_given_what_was_invalidated_meanwhile(
    any_store, keys, hand, caches, cache
):
    """The reply to a fill may come after another process invalidated what was filled."""
    other = Context(any_store, keys, Catalogue(), clock=hand).caches.of_workspace("w1")
    store, filled, go = caches.shared.cache_store, asyncio.Event(), asyncio.Event()

    class Slow:
        def __getattr__(self, name):
            return getattr(store, name)

        async def fill(self, *arguments):
            kept = await store.fill(*arguments)
            filled.set()
            await go.wait()
            return kept

    caches.shared.cache_store = Slow()
    source = Source("old")
    first = asyncio.create_task(cache.get_or_set("k", source))
    await filled.wait()
    source.value = "new"
    await other.invalidate(keys="k")
    second = asyncio.create_task(cache.get_or_set("k", source, local_ttl_s=0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go.set()
    assert (await first, await second) == ("old", "new")
