"""The door: entering connects, leaving leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from channels.catalogue import Catalogue
from channels.errors import NotAvailable, SettingsError, StoreUnavailable
from services import Services

from .support import RecordingSink

NOWHERE = "redis://127.0.0.1:1/0"
OPEN = Catalogue(allow_undeclared=True)


async def test_publishing_and_following_through_one_door(valkey):
    """What is published is told to a sink, and to another application it does not exist."""
    async with (
        Services.connect(valkey.url, catalogue=OPEN) as services,
        Services.connect(valkey.url, catalogue=OPEN, prefix="other") as others,
    ):
        sink, strange = RecordingSink(), RecordingSink()
        channel = services.catalogue.find("any:thing")
        await services.follower.start(channel, sink)
        await others.follower.start(channel, strange)
        position = await services.events.publish("any:thing", {"n": 1})
        await sink.wait_for(1)
        assert sink.publications[0].position == position
        assert await others.events.channels() == {}
        assert not strange.publications


async def test_leaving_ends_every_task_and_connection(valkey):
    """Also with followed channels, a repair under way and an error on the way out."""
    sink = RecordingSink()

    async def fail_inside() -> None:
        async with Services.connect(valkey.url, catalogue=OPEN) as services:
            channel = services.catalogue.find("any:thing")
            await services.follower.start(channel, sink)
            (followed,) = services.follower._followed.values()
            followed.on_interrupted()
            raise ZeroDivisionError

    with valkey.client() as client:
        clients = len(client.client_list())
        before = asyncio.all_tasks()
        with pytest.raises(ZeroDivisionError):
            await fail_inside()
        assert asyncio.all_tasks() == before
        async with asyncio.timeout(10):
            while len(client.client_list()) > clients:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)


async def test_leaving_can_be_cancelled(valkey):
    """The cancellation arrives, and the connections end all the same."""
    before = asyncio.all_tasks()
    entered = asyncio.Event()

    async def live() -> None:
        async with Services.connect(valkey.url):
            entered.set()
            await asyncio.Event().wait()

    living = asyncio.create_task(live())
    await entered.wait()
    living.cancel()
    await asyncio.sleep(0)
    living.cancel()
    await asyncio.wait({living})
    assert living.cancelled()
    assert asyncio.all_tasks() == before


async def test_waiting_for_a_server_that_is_away_is_an_error():
    """Entering says so, and leaves nothing."""
    before = asyncio.all_tasks()
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
        async with Services.connect(NOWHERE):
            pytest.fail("there is no server")
    assert asyncio.all_tasks() == before


async def test_not_waiting_enters_at_once():
    """The services are there and not ready, and leaving is clean."""
    before = asyncio.all_tasks()
    async with Services.connect(NOWHERE, catalogue=OPEN, wait=False) as services:
        assert not services.store.ready
        with pytest.raises(StoreUnavailable):
            await services.events.publish("any:thing", 1, timeout_s=0.01)
    assert asyncio.all_tasks() == before


async def test_publishing_through_a_door_over_rest(endpoint):
    """With an address of a REST API and its token; there is nothing to hear there."""
    async with Services.connect(endpoint.url, token=endpoint.token, catalogue=OPEN) as services:
        await services.events.publish("any:thing", {"n": 1})
        assert list(await services.events.channels()) == ["any:thing"]
        with pytest.raises(NotAvailable):
            await services.follower.start(services.catalogue.find("any:thing"), RecordingSink())


async def test_the_applications_own_keys(valkey):
    """On the services' own store, and blocking for threads, which leave with the door."""
    async with Services.connect(valkey.url) as services:
        await services.redis.set("greeting", "hello")
        assert await asyncio.to_thread(services.redis.sync.get, "greeting") == "hello"
    assert not [one for one in threading.enumerate() if one.name == "fanwire-redis"]


async def test_a_url_that_means_nothing_is_refused():
    """Before anything is connected."""
    with pytest.raises(SettingsError):
        Services.connect("gopher://somewhere")


async def test_two_doors_are_two_applications(valkey):
    """Nothing is shared between them but the server."""
    async with Services.connect(valkey.url) as one, Services.connect(valkey.url) as two:
        assert one.store is not two.store
        assert one.follower is not two.follower
