"""Publishing by name: what is checked, what is refused, what is listed."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest
from msgspec import Raw

from channels.catalogue import Catalogue
from channels.errors import BadRequest, LimitExceeded, UnknownChannel
from channels.event import encode_event
from channels.events import (
    JobCancelled,
    JobData,
    JobProgress,
    JobProgressData,
    NotificationCreated,
    RunEvent,
    SessionExtended,
)
from channels.events.notifications import NotificationCreatedData
from channels.events.sessions import SessionExtendedData
from channels.publication import MAX_DATA_BYTES
from services.event_log import EventLog
from services.events import Events
from services.store.keys import Keys
from services.store.port import Store
from services.store.tcp import TcpStore

from .store.recorder import Recorder

FEED = "notifications:u1"


@pytest.fixture
def store(any_store: Store) -> Store:
    """Every test runs on each kind of store."""
    return any_store


@pytest.fixture
def events(log: EventLog) -> Events:
    """Events with the built-in channels alone."""
    return Events(log, Catalogue())


@pytest.fixture
def open_events(log: EventLog) -> Events:
    """Events that allow undeclared channels."""
    return Events(log, Catalogue(allow_undeclared=True))


def _created(title: str = "look") -> NotificationCreated:
    return NotificationCreated(
        data=NotificationCreatedData(user="u1", notification="n1", title=title)
    )


async def _data(events: Events, channel: str) -> list[bytes]:
    return [publication.data for publication in (await events.history(channel)).publications]


async def test_a_typed_event_is_published_once(events):
    """Published twice, or by many at once, it has one position, and its id is its own."""
    event = _created()
    positions = await asyncio.gather(*(events.publish(FEED, event) for _ in range(10)))
    assert {position.offset for position in positions} == {1}
    page = await events.history(FEED)
    assert [publication.id for publication in page.publications] == [event.id]
    assert await _data(events, FEED) == [encode_event(event)]


async def test_an_event_in_json_is_the_same_event(events):
    """As struct and as JSON it is published once."""
    event = _created()
    await events.publish(FEED, event)
    await events.publish(FEED, Raw(encode_event(event)))
    assert len(await _data(events, FEED)) == 1


async def _announced(store: TcpStore, keys: Keys, events: Events, channel: str) -> Recorder:
    """Return what hears the messages of ``channel``."""
    recorder = Recorder()
    await store.listen(keys.pubsub(events.catalogue.find(channel)), recorder)
    return recorder


def _key_of(message: bytes) -> bytes:
    return message.split(b" ", 5)[4]


def _progress(job: str = "j1") -> JobProgress:
    data = JobProgressData(queue="q1", workspace="w1", job=job, kind="k", attempt=1, done=1)
    return JobProgress(data=data)


async def test_a_typed_event_brings_its_conflation_key(tcp_store, keys, events):
    """As struct and as JSON; what is no gauge has none."""
    recorder = await _announced(tcp_store, keys, events, "jobs:w1")
    job = JobData(queue="q1", workspace="w1", job="j1", kind="k")
    await events.publish("jobs:w1", _progress())
    await events.publish("jobs:w1", Raw(encode_event(_progress("j2"))))
    await events.publish("jobs:w1", JobCancelled(data=job))
    await recorder.wait_for(3)
    keys_heard = [_key_of(message) for message in recorder.messages]
    assert keys_heard == [b"job.progress:j1", b"job.progress:j2", b""]


@pytest.mark.parametrize("raw", [False, True], ids=["struct", "json"])
async def test_a_typed_event_takes_no_conflation_key(events, raw):
    """Neither one that conflates nor one that never does: nobody can make a fact droppable."""
    for channel, event in (("jobs:w1", _progress()), (FEED, _created())):
        published = Raw(encode_event(event)) if raw else event
        with pytest.raises(BadRequest, match=r"decides itself.*expected no .* got 'mine'"):
            await events.publish(channel, published, conflate="mine")
        assert await _data(events, channel) == []


async def test_any_json_conflates_by_the_key_its_publisher_names(tcp_store, keys, open_events):
    """Without one it is never left out."""
    recorder = await _announced(tcp_store, keys, open_events, "any:thing")
    await open_events.publish("any:thing", 1, conflate="cpu:0")
    await open_events.publish("any:thing", 2)
    await recorder.wait_for(2)
    assert [_key_of(message) for message in recorder.messages] == [b"cpu:0", b""]
    page = await open_events.history("any:thing")
    assert [publication.key for publication in page.publications] == ["", ""]


@pytest.mark.parametrize("key", ["", "two words", "a\nb", "x" * 129])
async def test_a_key_that_would_break_the_message_is_refused(open_events, key):
    """It travels between spaces."""
    with pytest.raises(BadRequest, match="a conflation key is 1-128 characters"):
        await open_events.publish("any:thing", 1, conflate=key)
    assert await _data(open_events, "any:thing") == []


async def test_an_event_of_another_channel_is_refused(events):
    """A channel carries what it declares, as struct and as JSON."""
    data = SessionExtendedData(
        session="s1", workspace="w1", version=1, expires_at=datetime.now(UTC)
    )
    event = SessionExtended(data=data)
    with pytest.raises(BadRequest, match=r"carries notification\.created.*got session\.extended"):
        await events.publish(FEED, event)
    with pytest.raises(BadRequest, match=r"notification\.created"):
        await events.publish(FEED, Raw(encode_event(event)))
    assert await _data(events, FEED) == []


@pytest.mark.parametrize("data", [{"n": 1}, [], "text", None, Raw(b'{"type":"other"}')])
async def test_raw_json_on_a_declared_channel_is_refused(events, data):
    """What is no event of the channel is not published."""
    with pytest.raises(BadRequest):
        await events.publish(FEED, data)
    assert await _data(events, FEED) == []


@pytest.mark.parametrize(
    "data",
    [object(), {"a": {1: object()}}, "\ud800", {"\udfff": 1}],
    ids=["object", "inside", "surrogate", "surrogate key"],
)
async def test_what_json_cannot_hold_is_refused(open_events, data):
    """A foreign type or a lone surrogate is the caller's mistake, said as such."""
    with pytest.raises(BadRequest):
        await open_events.publish("any:thing", data)


async def test_what_nests_for_ever_is_refused(open_events):
    """A list in itself ends in an error, not in a crash."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(BadRequest):
        await open_events.publish("any:thing", endless)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nan", b'"\xff"', b'"\\ud800"', b"[" * 100_000 + b"]"]
)
async def test_what_is_no_json_is_refused(open_events, text):
    """Raw JSON is checked before anything is published."""
    with pytest.raises((BadRequest, LimitExceeded)):
        await open_events.publish("any:thing", Raw(text))


async def test_line_ends_between_tokens_are_spaces(open_events):
    """Messages are separated by newlines, so none may stand in one; the meaning stays."""
    await open_events.publish("any:thing", Raw(b'{\r\n  "a":\n1\n}\n'))
    (data,) = await _data(open_events, "any:thing")
    assert b"\n" not in data
    assert b"\r" not in data
    assert json.loads(data) == {"a": 1}


async def test_a_run_carries_events_verbatim(events):
    """Raw JSON in a typed event is kept byte for byte, but for line ends."""
    await events.publish("run:w1:r1", RunEvent(data=Raw(b'{"x":  [1,\n2]}')))
    (data,) = await _data(events, "run:w1:r1")
    assert b'{"x":  [1, 2]}' in data


async def test_data_has_a_limit(open_events):
    """64 KiB are allowed and one byte more is not, whatever kind of data it is."""
    fitting = "x" * (MAX_DATA_BYTES - 2)
    assert (await open_events.publish("any:thing", fitting)).offset == 1
    with pytest.raises(LimitExceeded, match="65537"):
        await open_events.publish("any:thing", fitting + "x")
    with pytest.raises(LimitExceeded):
        await open_events.publish(FEED, _created(fitting))


async def test_an_unknown_channel_is_refused(events):
    """Every method says that nobody declared it."""
    for call in (
        events.publish("nobody:knows", 1),
        events.history("nobody:knows"),
        events.remove_history("nobody:knows"),
    ):
        with pytest.raises(UnknownChannel):
            await call


async def test_undeclared_channels_work_where_they_are_allowed(open_events):
    """With and without a namespace; a declared namespace stays as declared."""
    for name in ("any:thing", "plain", "a:b:c/d"):
        assert (await open_events.publish(name, {"n": 1})).offset == 1
    with pytest.raises(UnknownChannel):
        await open_events.publish("session:only-one", 1)
    with pytest.raises(BadRequest):
        await open_events.publish("no spaces", 1)


async def test_an_idempotency_key_makes_any_json_one_publication(open_events):
    """With the key it is published once, without it twice; an empty key is none."""
    for key, expected in (("k", 1), ("k", 1), (None, 2), ("", 3), ("", 4)):
        position = await open_events.publish("any:thing", 1, idempotency_key=key)
        assert position.offset == expected


async def test_removed_history_is_gone_and_positions_go_on(open_events):
    """Offsets and epoch are not given out a second time."""
    first = await open_events.publish("any:thing", 1)
    await open_events.remove_history("any:thing")
    assert await _data(open_events, "any:thing") == []
    second = await open_events.publish("any:thing", 2)
    assert (second.epoch, second.offset) == (first.epoch, 2)


# -- the list of channels -------------------------------------------------------------------


async def _age(store: Store, events: Events, name: str, age_ms: int) -> None:
    """Let the last publication of a channel be so old."""
    meta = Keys("fw").log_meta(events.catalogue.find(name))
    time_ms = int(str((await store.execute("HGET", meta, "t")).decode()))
    await store.execute("HSET", meta, "t", time_ms - age_ms)


async def test_channels_are_listed_with_their_tops(open_events):
    """All of them, or those that match a glob."""
    for n, name in enumerate(("a:1", "a:2", "b:1"), 1):
        for _ in range(n):
            position = await open_events.publish(name, n)
    assert {name: top.offset for name, top in (await open_events.channels()).items()} == {
        "a:1": 1,
        "a:2": 2,
        "b:1": 3,
    }
    assert await open_events.channels("b:*") == {"b:1": position}
    assert await open_events.channels("[") == {}


async def test_a_channel_without_a_log_is_not_listed(store, open_events):
    """A log that expired is not shown; later it leaves the index; publishing brings it back."""
    index = Keys("fw").channel_index()
    for name in ("any:old", "any:expired", "any:lost", "any:new"):
        await open_events.publish(name, 1)
    await _age(store, open_events, "any:expired", 400_000)
    await _age(store, open_events, "any:old", 400_000 + 2 * 3_600_000)
    await store.execute("DEL", Keys("fw").log_meta(open_events.catalogue.find("any:lost")))
    assert list(await open_events.channels()) == ["any:new"]
    assert await store.execute("ZSCORE", index, "any:expired") is not None
    assert await store.execute("ZSCORE", index, "any:old") is None
    assert await store.execute("ZSCORE", index, "any:lost") is None
    await open_events.publish("any:old", 2)
    await open_events.publish("any:lost", 2)
    assert set(await open_events.channels()) == {"any:new", "any:old", "any:lost"}


async def test_a_channel_that_is_no_longer_declared_does_not_spoil_the_list(events, open_events):
    """It is left out."""
    await open_events.publish("any:thing", 1)
    await events.publish(FEED, _created())
    assert list(await events.channels()) == [FEED]


async def test_many_channels_are_listed_in_few_round_trips(valkey, open_events):
    """A thousand channels take no scan and no call for each."""
    await asyncio.gather(*(open_events.publish(f"any:{n}", n) for n in range(1001)))
    with valkey.client() as client:
        client.config_resetstat()
        assert len(await open_events.channels()) == 1001
        stats = client.info("commandstats")
        assert stats["cmdstat_hmget"]["calls"] == 1001
        assert stats["cmdstat_zrevrange"]["calls"] == 1
        assert not {"cmdstat_scan", "cmdstat_keys"} & set(stats)
