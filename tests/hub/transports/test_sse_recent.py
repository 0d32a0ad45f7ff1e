"""``/events?recent=N``: what a page that comes late is given, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.hub.event_source import EventSource
from tests.hub.serving import Served, open_settings, served
from tests.servers import ValkeyServer


@pytest.fixture
async def hub(valkey: ValkeyServer) -> AsyncIterator[Served]:
    """A hub where everybody may do everything, which reports often."""
    async with served(open_settings(valkey.url, node_report_s=0.05)) as at:
        yield at


@asynccontextmanager
async def _listening(
    hub: Served, *channels: str, recent: int, last_id: str = ""
) -> AsyncIterator[EventSource]:
    params = [("channel", channel) for channel in channels] + [("recent", str(recent))]
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
    async with (
        hub.client() as client,
        client.stream("GET", "/events", params=params, headers=headers) as response,
    ):
        yield EventSource(response, last_id)


async def _publish(hub: Served, channel: str, *data: Any) -> None:
    for one in data:
        await hub.hub.services.events.publish(channel, one)


async def _seen(source: EventSource, count: int) -> list[tuple[str, Any]]:
    pushes = [event.json for event in await source.take(count)]
    return [(push["channel"], push["pub"]["data"]) for push in pushes]


async def test_a_new_reader_begins_with_the_last_ones(hub: Served) -> None:
    """The last publications of each channel come first, in order, and then what is live."""
    await _publish(hub, "a:b", *range(10))
    await _publish(hub, "c:d", "only")
    async with _listening(hub, "a:b", "c:d", "never:used", recent=3) as source:
        past = [("a:b", 7), ("a:b", 8), ("a:b", 9), ("c:d", "only")]
        assert await _seen(source, 4) == past
        await _publish(hub, "never:used", "live")
        await _publish(hub, "a:b", "live")
        assert await _seen(source, 2) == [("never:used", "live"), ("a:b", "live")]


async def test_a_reader_that_comes_back_is_given_what_it_missed_and_no_more(hub: Served) -> None:
    """The cursor counts, wherever it stands; only a channel that it lacks begins anew."""
    await _publish(hub, "a:b", *range(10))
    async with _listening(hub, "a:b", recent=5) as source:
        assert await _seen(source, 2) == [("a:b", 5), ("a:b", 6)]
        cut_at = source.last_id
    await _publish(hub, "c:d", "x", "y")
    async with _listening(hub, "a:b", "c:d", recent=1, last_id=cut_at) as source:
        came = await _seen(source, 4)
    assert came == [("a:b", 7), ("a:b", 8), ("a:b", 9), ("c:d", "y")]


async def test_a_reader_cut_off_among_the_past_ones_gets_the_rest(hub: Served) -> None:
    """The very first cursor stands before the past ones of every channel."""
    await _publish(hub, "a:b", 1, 2)
    await _publish(hub, "c:d", 3, 4)
    async with _listening(hub, "a:b", "c:d", recent=2) as source:
        assert await _seen(source, 1) == [("a:b", 1)]
        cut_at = source.last_id
    async with _listening(hub, "a:b", "c:d", recent=2, last_id=cut_at) as source:
        assert await _seen(source, 3) == [("a:b", 2), ("c:d", 3), ("c:d", 4)]


@pytest.mark.parametrize("recent", ["101", "-1", "x", "", "1e1", "²"])
async def test_only_a_small_number_is_a_number_of_past_ones(hub: Served, recent: str) -> None:
    """Anything else is refused, and no room is opened."""
    async with hub.client() as client:
        answer = await client.get("/events", params={"channel": "a:b", "recent": recent})
    assert (answer.status_code, answer.json()["code"]) == (400, 107)
    assert "recent=0 to recent=100" in answer.json()["detail"]
    assert not hub.hub.engine.rooms


async def test_whoever_watches_the_nodes_learns_of_every_channel(hub: Served) -> None:
    """A report names channels that nobody has joined, with their last offset."""
    await _publish(hub, "nobody:there", 1, 2, 3)
    async with _listening(hub, "hub:nodes", recent=0) as source:
        channels: dict[str, Any] = {}
        while "nobody:there" not in channels:
            [event] = await source.take(1)
            channels = event.json["pub"]["data"]["data"]["channels"]
    assert channels["nobody:there"] == {"subscribers": 0, "publications": 3}
    assert channels["hub:nodes"]["subscribers"] == 1
