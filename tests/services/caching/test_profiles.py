"""The foundation and the profiles of a workspace, in the database and in the cache."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from sqlalchemy import delete, insert

from channels.catalogue import WORKSPACE, Catalogue
from channels.errors import BadRequest, DatabaseUnavailable, NotAvailable
from services.context import Context
from services.database.tables import FOUNDATIONS, ICP_PROFILES


@pytest.fixture
async def context(tcp_store, keys, any_database):
    """What services are made with, on a database of each kind."""
    context = Context(tcp_store, keys, Catalogue(), database=any_database)
    yield context
    await context.caches.close()


@pytest.fixture
def cache(context):
    """The cache of one workspace."""
    return context.caches.of_workspace("w1")


async def told(context) -> list[tuple[str, int]]:
    """Return the types and versions of what the workspace was told."""
    channel = context.catalogue.find(WORKSPACE.name(workspace="w1"))
    page = await context.log.read(channel)
    events = [msgspec.json.decode(publication.data) for publication in page.publications]
    return [(event["type"], event["data"]["version"]) for event in events]


async def test_a_foundation_is_read_once(context, cache, any_database):
    """And anew when it was changed elsewhere and somebody says so."""
    assert await cache.get_foundation() is None
    async with any_database.begin() as connection:
        row = {"workspace_id": "w1", "summary": "We sell tea.", "brand_voice": {"tone": "warm"}}
        await connection.execute(insert(FOUNDATIONS), row)
    assert await cache.get_foundation() is None  # nobody said so
    version = await cache.invalidate_foundation()
    found = await cache.get_foundation()
    assert found["summary"] == "We sell tea."
    assert found["brand_voice"] == {"tone": "warm"}
    assert found["messaging_guardrails"] is None
    assert context.caches.stats.loads == 2
    assert await told(context) == [("foundation.updated", version)]
    assert await context.caches.of_workspace("w2").get_foundation() is None


async def test_who_writes_through_the_cache_is_read_at_once(context, cache):
    """And tells of it, with a version that rises."""
    await cache.get_foundation()
    for summary in ("one", "two"):
        await cache.put_foundation({"summary": summary, "soundbite_library": ["a"]})
        found = await cache.get_foundation()
        assert (found["summary"], found["soundbite_library"]) == (summary, ["a"])
        assert found["updated_at"]
    events = await told(context)
    assert [kind for kind, _ in events] == ["cache.invalidated", "foundation.updated"] * 2
    assert [version for _, version in events] == sorted({version for _, version in events})


async def test_profiles_are_in_their_order_and_no_profiles_are_an_answer(context, cache):
    """``[]`` is not asked for again."""
    assert [await cache.get_icps() for _ in range(3)] == [[]] * 3
    assert context.caches.stats.loads == 1
    await cache.put_icps([{"name": "B", "attributes": {"size": 10}}, {"id": "a", "name": "A"}])
    found = await cache.get_icps()
    assert [(icp["name"], icp["attributes"]) for icp in found] == [("B", {"size": 10}), ("A", None)]
    await cache.put_icps([{"id": "a", "name": "A2"}])
    assert [(icp["id"], icp["name"]) for icp in await cache.get_icps()] == [("a", "A2")]
    with pytest.raises(BadRequest, match="taken"):
        await context.caches.of_workspace("w2").put_icps([{"id": "a", "name": "mine now"}])
    assert [icp["name"] for icp in await cache.get_icps()] == ["A2"]
    assert (await told(context))[-1][0] == "icps.updated"


@pytest.mark.parametrize(
    "icps",
    [
        [{}],
        [{"name": ""}],
        [{"name": "a", "age": 3}],
        [{"name": "a", "id": "x y"}],
        [{"name": "a", "id": "i"}, {"name": "b", "id": "i"}],
    ],
)
async def test_profiles_that_are_none_are_refused(cache, icps):
    """Before anything is written."""
    with pytest.raises(BadRequest):
        await cache.put_icps(icps)
    with pytest.raises(BadRequest, match="expected summary"):
        await cache.put_foundation({"title": "x"})


async def test_a_write_that_fails_leaves_the_old_value_readable(cache, any_database):
    """Nothing was committed, and nothing is said to have been."""
    await cache.put_icps([{"id": "a", "name": "A"}])

    async def write() -> None:
        async with cache.writing(keys="icps"), any_database.begin() as connection:
            await connection.execute(delete(ICP_PROFILES))
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await write()
    assert [icp["id"] for icp in await cache.get_icps()] == ["a"]


async def test_readers_never_see_less_than_what_was_written(context, cache):
    """While a writer writes again and again."""
    written = 0
    stopped = asyncio.Event()

    async def read() -> None:
        while not stopped.is_set():
            floor = written
            found = await cache.get_foundation()
            assert int(found["summary"]) >= floor

    await cache.put_foundation({"summary": "0"})
    readers = [asyncio.create_task(read()) for _ in range(3)]
    for number in range(1, 31):
        await cache.put_foundation({"summary": str(number)})
        written = number
    stopped.set()
    await asyncio.gather(*readers)


async def test_without_a_database_there_is_a_clear_error(tcp_store, keys):
    """Each time, and for the cache of no workspace too."""
    caches = Context(tcp_store, keys, Catalogue()).caches
    for _ in range(2):
        with pytest.raises(NotAvailable, match="none is configured"):
            await caches.of_workspace("w1").get_foundation()
    with pytest.raises(NotAvailable, match="cache of a workspace"):
        await caches.common.get_icps()


async def test_a_database_that_is_away_is_bridged(tcp_store, keys, any_database, monkeypatch):
    """With what was read within the last day."""
    context = Context(tcp_store, keys, Catalogue(), database=any_database)
    cache = context.caches.of_workspace("w1")
    await cache.put_foundation({"summary": "kept"})
    await cache.get_foundation()
    clock = context.clock.now_ms

    async def away() -> None:
        raise DatabaseUnavailable("the database is not available")

    monkeypatch.setattr(type(cache), "_load_foundation", lambda self: away())
    monkeypatch.setattr(type(context.clock), "now_ms", lambda self: clock() + 2 * 3_600_000)
    assert (await cache.get_foundation())["summary"] == "kept"
    assert context.caches.stats.fail_safe == 1
    await cache.invalidate_foundation()
    with pytest.raises(DatabaseUnavailable):
        await cache.get_foundation()
