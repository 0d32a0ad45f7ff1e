"""The server API: through the official client, and with everything that client never sends."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import cent
import httpx
import pytest

from channels.event import encode_event
from channels.events import NotificationCreated, NotificationCreatedData
from tests.hub.serving import API_KEY, Served, api, open_settings, served, strict_settings
from tests.servers import ValkeyServer
from tests.services.store.recorder import Recorder

SESSION = "session:w1:s1"


@pytest.fixture
async def hub(valkey: ValkeyServer) -> AsyncIterator[Served]:
    """A hub where everybody may do everything."""
    async with served(open_settings(valkey.url)) as at:
        yield at


@pytest.fixture
async def client(hub: Served) -> AsyncIterator[cent.AsyncClient]:
    """The official client of it."""
    client = cent.AsyncClient(f"{hub.url}/api", api_key=API_KEY)
    yield client
    await client.close()


async def test_cent_publishes_and_reads_back(client: cent.AsyncClient) -> None:
    """What the official client publishes it finds in the history, with its position and tags."""
    first = await client.publish(cent.PublishRequest(channel="a:b", data={"n": 1}))
    again = await client.publish(
        cent.PublishRequest(channel="a:b", data={"n": 2}, tags={"k": "v"}, idempotency_key="x")
    )
    same = await client.publish(
        cent.PublishRequest(channel="a:b", data={"n": 3}, idempotency_key="x")
    )
    assert (first.offset, again.offset, same.offset) == (1, 2, 2)
    history = await client.history(cent.HistoryRequest(channel="a:b", limit=10))
    assert [(p.offset, p.data, p.tags) for p in history.publications] == [
        (1, {"n": 1}, None),
        (2, {"n": 2}, {"k": "v"}),
    ]
    assert (history.offset, history.epoch) == (2, first.epoch)


async def test_a_conflation_key_reaches_the_nodes(hub: Served) -> None:
    """From each method that publishes, and to nobody who publishes without one."""
    recorder = Recorder()
    services = hub.hub.services
    topic = services.keys.pubsub(services.catalogue.find("a:b"))
    await services.store.listen(topic, recorder)
    await api(hub, "publish", channel="a:b", data=1, conflate="cpu:0")
    await api(hub, "broadcast", channels=["a:b"], data=2, conflate="cpu:1")
    command = {"publish": {"channel": "a:b", "data": 3, "conflate": "cpu:2"}}
    await api(hub, "batch", commands=[command])
    await api(hub, "publish", channel="a:b", data=4)
    await recorder.wait_for(4)
    heard = [message.split(b" ", 5)[4] for message in recorder.messages]
    assert heard == [b"cpu:0", b"cpu:1", b"cpu:2", b""]


@pytest.mark.parametrize("conflate", ["", "two words", "x" * 129])
async def test_a_conflation_key_that_is_none_is_refused(hub: Served, conflate: str) -> None:
    """The error says what one looks like."""
    answer = await api(hub, "publish", channel="a:b", data=1, conflate=conflate)
    assert answer["error"]["code"] == 107
    assert "a conflation key is 1-128 characters" in answer["error"]["message"]


async def test_the_types_of_a_channel_decide_what_conflates(hub: Served) -> None:
    """Not even the application can make a notification one that may be left out."""
    data = NotificationCreatedData(user="u1", notification="n1", title="look")
    event = encode_event(NotificationCreated(data=data))
    answer = await api(
        hub, "publish", channel="notifications:u1", data=json.loads(event), conflate="mine"
    )
    assert answer["error"]["code"] == 107
    assert "notification.created decides itself" in answer["error"]["message"]


async def test_cent_pages_through_history(client: cent.AsyncClient) -> None:
    """Limit, since and reverse mean what they mean at Centrifugo."""
    for n in range(1, 6):
        await client.publish(cent.PublishRequest(channel="a:b", data=n))

    async def offsets(**request: Any) -> list[int]:
        result = await client.history(cent.HistoryRequest(channel="a:b", **request))
        assert result.offset == 5
        return [publication.offset for publication in result.publications]

    epoch = (await client.history(cent.HistoryRequest(channel="a:b"))).epoch
    assert await offsets() == []
    assert await offsets(limit=-1) == [1, 2, 3, 4, 5]
    assert await offsets(limit=2, reverse=True) == [5, 4]
    since = cent.StreamPosition(offset=2, epoch=epoch)
    assert await offsets(limit=2, since=since) == [3, 4]
    assert await offsets(limit=-1, since=since, reverse=True) == [1]
    with pytest.raises(cent.CentApiResponseError) as caught:
        await offsets(limit=1, since=cent.StreamPosition(offset=2, epoch="other"))
    assert caught.value.code == 112
    await client.history_remove(cent.HistoryRemoveRequest(channel="a:b"))
    assert await offsets(limit=-1) == []


async def test_cent_broadcasts_with_an_outcome_for_each(client: cent.AsyncClient) -> None:
    """A channel that does not exist does not keep the others from getting the data."""
    result = await client.broadcast(
        cent.BroadcastRequest(channels=["a:b", "no channel", "c:d"], data={"n": 1})
    )
    one, two, three = result.responses
    assert (one.result, three.result) != (None, None)
    assert two.result is None
    assert two.error is not None
    assert two.error.code == 107


@pytest.mark.parametrize("parallel", [False, True])
async def test_cent_batches(client: cent.AsyncClient, *, parallel: bool) -> None:
    """Many commands in one request are answered in their order."""
    result = await client.batch(
        cent.BatchRequest(
            requests=[
                cent.PublishRequest(channel="a:b", data=1),
                cent.BroadcastRequest(channels=["c:d"], data=2),
                cent.ChannelsRequest(),
                cent.InfoRequest(),
            ],
            parallel=parallel,
        )
    )
    publish, broadcast, channels, info = result.replies
    assert publish.offset == 1
    assert broadcast.responses[0].result.offset == 1
    assert isinstance(channels.channels, dict)
    assert len(info.nodes) == 1


async def test_cent_sees_channels_and_nodes(client: cent.AsyncClient, hub: Served) -> None:
    """Channels are listed with their subscribers, nodes with what they carry."""
    await client.publish(cent.PublishRequest(channel="a:b", data=1))
    async with hub.client() as http, http.stream("GET", "/events?channel=c:d&channel=a:b"):
        found = (await client.channels(cent.ChannelsRequest(pattern="[ac]:*"))).channels
        assert {name: info.num_clients for name, info in found.items()} == {"a:b": 1, "c:d": 1}
        [node] = (await client.info(cent.InfoRequest())).nodes
        assert node.uid == hub.hub.node
        assert (node.num_clients, node.num_subs, node.num_channels) == (1, 2, 2)


async def test_what_is_published_arrives_verbatim(hub: Served) -> None:
    """Data is neither decoded nor encoded on its way; base64 is the same JSON."""
    text = '{"n":1.50,"deep":[[]],"line\u2028":"\u00fc\\u00fc"}'
    async with hub.client() as client:
        for body in (
            f'{{"channel":"a:b","data":{text}}}',
            f'{{"channel":"a:b","b64data":"{base64.b64encode(text.encode()).decode()}"}}',
        ):
            answer = await client.post("/api/publish", content=body.encode())
            assert "result" in answer.json()
        answer = await client.post("/api/history", json={"channel": "a:b", "limit": 2})
    for offset in (1, 2):
        assert f'{{"offset":{offset},"data":{text}}}' in answer.text


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("publish", "", 107),
        ("publish", "nonsense", 107),
        ("publish", "[]", 107),
        ("publish", "[" * 100_000, 107),
        ("publish", b"\xff", 107),
        ("publish", '{"channel":"a:b"}', 107),
        ("publish", '{"data":1}', 107),
        ("publish", '{"channel":"a b","data":1}', 107),
        ("publish", '{"channel":"a:b","data":1,"b64data":"MQ=="}', 107),
        ("publish", '{"channel":"a:b","b64data":"x"}', 107),
        ("publish", '{"channel":"a:b","b64data":"YWJj"}', 107),
        ("publish", '{"channel":"a:b","data":"\\ud800"}', 107),
        ("publish", '{"channel":"a:b","data":1,"skip_history":true}', 108),
        ("publish", '{"channel":"a:b","data":"' + "x" * 65_536 + '"}', 106),
        ("publish", '{"channel":"a:b","data":1,"idempotency_key":""}', 107),
        ("publish", '{"channel":"session:w1","data":1}', 102),
        ("publish", '{"channel":"session:w1:s1","data":{"type":"nonsense"}}', 107),
        ("broadcast", '{"channels":[],"data":1}', 107),
        ("batch", '{"commands":[' + "{}," * 1000 + "{}]}", 107),
        ("history", '{"channel":"a:b","limit":-2}', 107),
        ("channels", '{"pattern":"' + "*" * 256 + '"}', 107),
    ],
)
async def test_what_is_wrong_is_said(hub: Served, method: str, body: Any, code: int) -> None:
    """A request that makes no sense is answered 200 with an error of one sentence."""
    async with hub.client() as client:
        answer = await client.post(f"/api/{method}", content=body)
    assert answer.status_code == 200
    error = answer.json()["error"]
    assert error["code"] == code
    assert 10 < len(error["message"]) < 600


async def test_a_batch_tells_each_error(hub: Served) -> None:
    """Commands that make no sense have errors of their own; a batch holds no batch."""
    commands = [
        {"publish": {"channel": "a:b", "data": 1}},
        {"nonsense": {}},
        {"batch": {"commands": []}},
        {"publish": {}, "info": {}},
        {"history": {"channel": "a:b", "limit": 1}},
    ]
    replies = (await api(hub, "batch", commands=commands))["replies"]
    assert replies[0]["publish"]["offset"] == 1
    assert [reply["error"]["code"] for reply in replies[1:4]] == [104, 107, 107]
    assert replies[4]["history"]["offset"] == 1


async def test_an_unknown_method_is_404(hub: Served) -> None:
    """A method that is not there is told apart from one that failed."""
    async with hub.client() as client:
        answer = await client.post("/api/subscribe", json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, 104)
        assert (await client.get("/api/publish")).status_code == 405


async def test_a_large_body_is_413(hub: Served) -> None:
    """A body over 1 MiB is refused by its announced length, and without one while it comes."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 65_536

    async with hub.client() as client:
        for content in (b"x" * (1024 * 1024 + 1), chunks()):
            try:
                answer = await client.post("/api/publish", content=content)
            except httpx.WriteError:
                continue  # the hub had heard enough
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, 106)


async def test_the_key_decides(valkey: ValkeyServer) -> None:
    """Without the key nothing is said, not even which methods there are; cent understands."""
    async with served(strict_settings(valkey.url)) as at, at.client() as client:
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": f"Bearer {API_KEY}"}):
            for method in ("publish", "nonsense"):
                answer = await client.post(f"/api/{method}", json={}, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, 101)
                assert API_KEY not in answer.text
        answer = await client.post(
            "/api/info", json={}, headers={"Authorization": f"apikey {API_KEY}"}
        )
        assert answer.status_code == 200
        wrong = cent.AsyncClient(f"{at.url}/api", api_key="wrong")
        with pytest.raises(cent.CentUnauthorizedError):
            await wrong.info(cent.InfoRequest())
        await wrong.close()
        unknown = await api(at, "publish", channel="undeclared:x", data=1)
        assert unknown["error"]["code"] == 102


async def test_a_foreign_page_cannot_publish(hub: Served) -> None:
    """A page on the same machine's browser is no application: its origin gives it away."""
    async with hub.client() as client:
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            answer = await client.post("/api/publish", content=b"{}", headers=headers)
            assert answer.status_code == 403


async def test_redis_away_is_503(valkey_server: Callable[[], ValkeyServer]) -> None:
    """While Redis is away every command answers 503, when to retry, and the protocol's code."""
    redis = await asyncio.to_thread(valkey_server)
    async with served(open_settings(redis.url)) as at, at.client() as client:
        await asyncio.to_thread(redis.stop)
        answers = await asyncio.gather(
            client.post("/api/publish", json={"channel": "a:b", "data": 1}),
            client.post("/api/history", json={"channel": "a:b"}),
            client.post("/api/info", json={}),
            client.post("/api/batch", json={"commands": [{"info": {}}]}),
        )
        batch = answers.pop()
        assert batch.json()["replies"][0]["error"]["code"] == 100
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
            error = answer.json()["error"]
            assert (error["code"], error["temporary"]) == (100, True)
