"""The WebSocket endpoint under uvicorn, with clients that speak by hand."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, cast

import pytest
from starlette.requests import HTTPConnection
from websockets.exceptions import InvalidStatus

from channels.catalogue import Catalogue
from channels.errors import Disconnects
from channels.identity import Identity
from hub.connection import ConnectionSettings
from hub.driver import Driver
from hub.frame import Batch
from hub.transports.direct_websocket import GOODBYE_S
from hub.transports.uvicorn_websocket import FanwireWebSocketProtocol
from services.events import Events
from tests.servers import ValkeyServer

from . import server
from .raw import asked_socket, commands, frame, raw_socket, read_frame, subscribed, switched
from .server import PATIENCE_S, HubServer, Peer

KIB = 1024


Serve = Callable[..., AbstractAsyncContextManager[HubServer]]


@pytest.fixture(params=["direct", "asgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Serve a hub as uvicorn of ours does, and as any other ASGI server does."""
    return partial(server.serve, direct=request.param == "direct")


@pytest.fixture
async def hub(valkey: ValkeyServer, serve: Serve) -> AsyncIterator[HubServer]:
    """A hub with ordinary limits."""
    async with serve(valkey.url) as hub:
        yield hub


# -- what is said ---------------------------------------------------------------------------


async def test_commands_are_answered_in_order(hub: HubServer) -> None:
    """One frame with everything; the answers come in the order of the questions."""
    peer = await Peer.open(hub.url)
    await peer.send(
        {"id": 1, "connect": {}},
        {"id": 2, "subscribe": {"channel": "chat"}},
        {"id": 3, "publish": {"channel": "chat", "data": {"text": "hi"}}},
        {"id": 4, "history": {"channel": "chat", "limit": 10}},
        {"id": 5, "presence": {"channel": "chat"}},
        {"id": 6, "unsubscribe": {"channel": "chat"}},
    )
    answers = {}
    pushes = []
    while len(answers) < 6:
        message = await peer.next()
        if "id" in message:
            answers[message["id"]] = message
        else:
            pushes.append(message["push"])
    assert list(answers) == [1, 2, 3, 4, 5, 6]
    assert answers[5]["error"]["code"] == 108
    [push] = pushes
    [stored] = answers[4]["history"]["publications"]
    assert push == {"channel": "chat", "pub": stored}
    assert stored["data"] == {"text": "hi"}
    assert stored["info"]["client"] == answers[1]["connect"]["client"]
    await peer.close()


async def test_a_burst_comes_in_few_messages(hub: HubServer) -> None:
    """Everything once and in order; what waits together goes out together."""
    peer = await Peer.connect(hub.url)
    await peer.subscribe()
    peer.frames = 0
    await hub.publish(2_000)
    assert await peer.offsets(2_000) == list(range(1, 2_001))
    assert peer.frames < 1_000
    await peer.close()


async def test_binary_frames_are_commands_too(hub: HubServer) -> None:
    """Some clients send bytes; answers are text."""
    peer = await Peer.open(hub.url)
    await peer.socket.send(b'{"id":1,"connect":{}}')
    assert (await peer.next())["id"] == 1
    await peer.close()


async def test_a_message_may_come_in_fragments(hub: HubServer) -> None:
    """Fragments, a ping between them, and a character that is cut in two."""
    async with raw_socket(hub) as sock:
        text = '{"id":1,"connect":{"name":"é"}}'.encode()
        cut = text.index("é".encode()) + 1
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, frame(text[:cut], fin=False))
        await loop.sock_sendall(sock, frame(b"hello", 9))
        await loop.sock_sendall(sock, frame(text[cut:], 0))
        assert await read_frame(sock) == (10, b"hello")
        opcode, payload = await read_frame(sock)
        assert (opcode, json.loads(payload)["id"]) == (1, 1)


async def test_a_close_is_answered_with_its_code(hub: HubServer) -> None:
    """A client that says goodbye is heard, and the hub forgets it."""
    async with raw_socket(hub) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, frame(struct.pack("!H", 4321), 8))
        assert await read_frame(sock) == (8, struct.pack("!H", 4321))
    await hub.until(lambda: not len(hub.registry))


async def test_pings_are_sent_and_pongs_expected(valkey: ValkeyServer, serve: Serve) -> None:
    """Two braces each way; without an answer the connection ends with 3012."""
    settings = ConnectionSettings(ping_interval_s=0.1, pong_timeout_s=0.2)
    async with serve(valkey.url, settings=settings) as hub:
        peer = await Peer.connect(hub.url)
        for _ in range(3):
            assert await peer.next() == {}
            await peer.send({})
        assert await peer.closed() == 3012


async def test_who_says_nothing_is_stale(valkey: ValkeyServer, serve: Serve) -> None:
    """A WebSocket without a connect command does not stay."""
    async with serve(valkey.url, settings=ConnectionSettings(connect_timeout_s=0.1)) as hub:
        peer = await Peer.open(hub.url)
        assert await peer.closed() == 3502


async def test_the_end_of_the_token_ends_the_connection(valkey: ValkeyServer, serve: Serve) -> None:
    """3005, within a second of the end."""
    end = time.time() + 0.3

    def authenticate(token: str) -> Identity:
        return Identity(user="ada", expires_at=end)

    async with serve(valkey.url, authenticate=authenticate) as hub:
        peer = await Peer.connect(hub.url, "token")
        await peer.subscribe()
        assert await peer.closed() == 3005
        assert 0 <= time.time() - end < 1


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\xff garbage", "garbage", "", "{}", "[" * 60_000, '{"id":1,"connect":[]}'],
    ids=lambda garbage: str(garbage)[:20],
)
async def test_garbage_is_a_bad_request(hub: HubServer, garbage: str | bytes) -> None:
    """3501, which tells clients not to come back; others do not notice."""
    other = await Peer.connect(hub.url)
    peer = await Peer.open(hub.url)
    await peer.socket.send(garbage)
    assert await peer.closed() == 3501
    assert "error" not in await other.ask({"id": 2, "unsubscribe": {"channel": "chat"}})
    await other.close()


async def test_text_that_is_not_utf8_ends_the_connection(hub: HubServer) -> None:
    """The code is RFC 6455's."""
    async with raw_socket(hub) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, frame(b'{"id":1,"x":"\xff"}'))
        opcode, payload = await read_frame(sock)
        assert (opcode, struct.unpack("!H", payload[:2])[0]) == (8, 1007)


@pytest.mark.parametrize(
    "text", ["x" * (64 * KIB + 1), "é" * (32 * KIB + 1), b"x" * (64 * KIB + 1)], ids=repr
)
async def test_messages_over_64_kib_are_too_big(hub: HubServer, text: str | bytes) -> None:
    """1009, however the bytes are counted, even if the server would take more."""
    peer = await Peer.open(hub.url)
    await peer.socket.send(text)
    assert await peer.closed() == 1009


async def test_the_servers_own_limit_says_the_same(valkey: ValkeyServer, serve: Serve) -> None:
    """A message that never reaches the endpoint ends with 1009 too."""
    async with serve(valkey.url, max_message=64 * KIB) as hub:
        peer = await Peer.open(hub.url)
        await peer.socket.send("x" * (64 * KIB + 1))
        assert await peer.closed() == 1009


async def test_the_largest_message_is_taken(hub: HubServer) -> None:
    """64 KiB are no byte too many."""
    peer = await Peer.connect(hub.url)
    command = {"id": 2, "publish": {"channel": "chat", "data": ""}}
    room = 64 * KIB - len(json.dumps(command))
    command["publish"] = {"channel": "chat", "data": "x" * room}
    assert len(json.dumps(command)) == 64 * KIB
    assert "publish" in await peer.ask(command)
    await peer.close()


@pytest.mark.parametrize("how", ["subprotocol", "query"])
async def test_protobuf_is_refused(hub: HubServer, how: str) -> None:
    """3506 says that this protocol will not be spoken; the client hears it."""
    if how == "subprotocol":
        peer = await Peer.open(hub.url, subprotocol="centrifuge-protobuf")
        assert peer.socket.subprotocol == "centrifuge-protobuf"
    else:
        peer = await Peer.open(f"{hub.url}?format=protobuf")
    assert await peer.closed() == 3506


@pytest.mark.parametrize("value", ["", " ", "\t"])
async def test_an_empty_subprotocol_is_none(hub: HubServer, value: str) -> None:
    """The official Python client sends such a header when it speaks JSON."""
    async with raw_socket(hub, f"Sec-WebSocket-Protocol:{value}\r\n") as sock:
        await asyncio.get_running_loop().sock_sendall(sock, commands({"id": 1, "connect": {}}))
        _, payload = await read_frame(sock)
        assert json.loads(payload)["id"] == 1


async def test_foreign_pages_are_refused(hub: HubServer) -> None:
    """403 in the handshake, before anything is accepted; our own pages come in."""
    with pytest.raises(InvalidStatus) as refused:
        await Peer.open(hub.url, origin="https://evil.example")
    assert refused.value.response.status_code == 403
    assert b"origin" in (refused.value.response.body or b"")
    assert not hub.drivers
    peer = await Peer.open(hub.url, origin=f"http://127.0.0.1:{hub.port}")
    await peer.close()


async def test_the_limit_of_connections(valkey: ValkeyServer, serve: Serve) -> None:
    """One too many is told 3504; when one leaves, there is room again."""
    async with serve(valkey.url, limit=2) as hub:
        first, second = await Peer.connect(hub.url), await Peer.connect(hub.url)
        third = await Peer.open(hub.url)
        assert await third.closed() == 3504
        await first.close()
        await hub.until(lambda: len(hub.registry) == 1)
        fourth = await Peer.connect(hub.url)
        await fourth.close()
        await second.close()


# -- slow, stalled and lost clients ---------------------------------------------------------


async def test_a_slow_reader_is_let_go_and_others_go_on(valkey: ValkeyServer, serve: Serve) -> None:
    """What it may owe is bounded; then it is dropped, room, socket and all."""
    async with serve(valkey.url, outbox_bytes=256 * KIB) as hub:
        reader = await Peer.connect(hub.url)
        await reader.subscribe()
        async with raw_socket(hub, receive_bytes=4 * KIB) as slow:
            await asyncio.get_running_loop().sock_sendall(
                slow,
                commands({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "chat"}}),
            )
            await read_frame(slow)
            await hub.until(lambda: len(hub.engine.rooms["chat"]) == 2)
            driver = hub.drivers[-1]
            sent = 0
            while driver.closing is None:
                assert sent < 1_000
                # Fewer bytes than an outbox holds, and read before the next come: a machine
                # that lets the hub wait may deliver all of them before anything is written.
                await hub.publish(10, size=16 * KIB)
                sent += 10
                assert len(driver.outbox) <= (256 + 10 * 17) * KIB  # one batch more at most
                await reader.offsets(10)
            assert driver.closing.code == 3008
            assert len(driver.outbox) == 0
            await hub.until(lambda: len(hub.registry) == 1)
            assert len(hub.engine.rooms["chat"]) == 1
            # The socket, which the client still holds open, is gone too.
            await hub.until(lambda: len(hub.connections) == 1)
        await hub.publish(1)
        assert await reader.offsets(1) == [sent + 1]
        await reader.close()


async def test_a_slow_reader_of_plain_asgi_that_reads_again_learns_why(
    valkey: ValkeyServer,
) -> None:
    """Nothing of what waited is written before 3008: it would only delay the goodbye."""
    async with server.serve(valkey.url, outbox_bytes=64 * KIB, direct=False) as hub:
        peer = await Peer.connect(hub.url)
        await peer.subscribe()
        driver = hub.drivers[-1]
        # More than the outbox takes, before the writer has its turn.
        await hub.publish(100, channel="other", size=2 * KIB)
        page = await hub.services.events.history("other", limit=100)
        for publication in page.publications:
            driver.deliver(Batch([publication]))
        assert driver.closing is not None
        assert await peer.closed() == 3008
        assert peer.received == []


async def test_a_slow_reader_that_reads_again_learns_why(valkey: ValkeyServer) -> None:
    """What it got is a beginning without a hole, and then it is told 3008."""
    async with server.serve(valkey.url, outbox_bytes=128 * KIB) as hub:
        async with raw_socket(hub, receive_bytes=4 * KIB) as slow:
            await asyncio.get_running_loop().sock_sendall(
                slow,
                commands({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "chat"}}),
            )
            await subscribed(slow)
            while not hub.drivers[-1].closing:
                await hub.publish(50, size=16 * KIB)
            offsets: list[int] = []
            opcode, payload = await read_frame(slow)
            while opcode == 1:
                found = [json.loads(line) for line in payload.split(b"\n")]
                offsets += [push["push"]["pub"]["offset"] for push in found if "push" in push]
                opcode, payload = await read_frame(slow)
            assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 3008)
            assert offsets == list(range(1, len(offsets) + 1))
        assert hub.engine.traffic.drops == {"slow": 1}


async def test_asking_without_reading_costs_bounded_memory(
    valkey: ValkeyServer, serve: Serve
) -> None:
    """A client that asks for history again and again is not given more than it reads."""
    async with serve(valkey.url, outbox_bytes=256 * KIB) as hub:
        await hub.publish(100, size=8 * KIB)
        async with raw_socket(hub, receive_bytes=4 * KIB) as greedy:
            loop = asyncio.get_running_loop()
            ask = [{"id": id, "history": {"channel": "chat", "limit": 100}} for id in range(2, 900)]
            await loop.sock_sendall(greedy, commands({"id": 1, "connect": {}}, *ask))
            most = 0
            await hub.until(lambda: len(hub.drivers[-1].outbox) > 256 * KIB)
            for _ in range(50):
                await asyncio.sleep(0.005)
                most = max(most, len(hub.drivers[-1].outbox))
            assert most < 1024 * KIB
            # It gets everything once it reads.
            text = b""
            while b'{"id":60,' not in text:
                opcode, payload = await read_frame(greedy)
                assert opcode == 1
                text = payload[-300_000:]


async def test_a_reset_connection_leaves_nothing_behind(hub: HubServer) -> None:
    """An abrupt end is noticed and cleaned up, even with much on its way."""
    async with raw_socket(hub) as sock:
        await asyncio.get_running_loop().sock_sendall(
            sock, commands({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "chat"}})
        )
        await hub.until(lambda: "chat" in hub.engine.rooms)
        await hub.publish(500, size=KIB)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await hub.until(lambda: not len(hub.registry) and not hub.engine.rooms)


async def test_a_fault_of_ours_ends_one_connection(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3004 tells the client to come back; nobody else is hurt, and nothing is left."""
    other = await Peer.connect(hub.url)
    peer = await Peer.connect(hub.url)
    await peer.subscribe()

    async def fail(self: Driver, asking: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(Driver, "_answer", fail)
        await peer.send({"id": 3, "history": {"channel": "chat"}})
        assert await peer.closed() == 3004
    await hub.until(lambda: len(hub.registry) == 1 and not hub.engine.rooms)
    assert "history" in await other.ask({"id": 3, "history": {"channel": "chat"}})
    await other.close()


# -- the shell of our own -------------------------------------------------------------------


class _Slow:
    """Needs a word before it knows who somebody is."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.word = asyncio.Event()
        self.before_answer: Callable[[], object] = lambda: None

    async def identity_of_request(self, connection: HTTPConnection) -> Identity:
        """Return nobody, in the end."""
        self.asked.set()
        await self.word.wait()
        self.before_answer()
        return Identity()


@pytest.mark.parametrize("size", [10, 40 * KIB])
async def test_what_is_sent_during_the_handshake_is_not_lost(hub: HubServer, size: int) -> None:
    """A client in a hurry is served after it, however the server thought about it so long."""
    slow = _Slow()
    hub.authenticator = slow
    async with asked_socket(hub) as sock:
        await slow.asked.wait()
        ask = {"id": 2, "publish": {"channel": "chat", "data": "x" * size}}
        sending = asyncio.create_task(
            asyncio.get_running_loop().sock_sendall(
                sock, commands({"id": 1, "connect": {}}, ask) + commands(ask | {"id": 3})
            )
        )
        for _ in range(20):  # turns in which the server may read it
            await asyncio.sleep(0.001)
        slow.word.set()
        await switched(sock)
        text = b""
        while b'"id":3' not in text:
            text += (await read_frame(sock))[1]
        assert [json.loads(line)["id"] for line in text.replace(b"}{", b"}\n{").split(b"\n")] == [
            1,
            2,
            3,
        ]
        await sending


async def test_an_idle_connection_has_no_task(valkey: ValkeyServer) -> None:
    """It is a few objects and a timer, until it asks for something."""
    async with server.serve(valkey.url) as hub:
        first = await Peer.connect(hub.url)
        await first.subscribe()
        before = len(asyncio.all_tasks())
        peers = [await Peer.connect(hub.url) for _ in range(20)]
        for peer in peers:
            await peer.subscribe()
        await hub.publish(3)
        for peer in peers:
            assert await peer.offsets(3) == [1, 2, 3]
        assert len(asyncio.all_tasks()) == before
        for peer in (first, *peers):
            await peer.close()


async def test_pings_of_the_protocol_below_are_answered(hub: HubServer) -> None:
    """Proxies and libraries ping by RFC 6455 too; what they say comes back."""
    async with raw_socket(hub) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, frame(b"are you there", 9))
        assert await read_frame(sock) == (10, b"are you there")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", None),
        (struct.pack("!H", 1000) + b"bye", 1000),
        (struct.pack("!H", 4321), 4321),
        (struct.pack("!H", 1005), 1002),
    ],
)
async def test_a_goodbye_is_answered(hub: HubServer, sent: bytes, code: int | None) -> None:
    """With the same code, unless it is none; then the server closes the line."""
    loop = asyncio.get_running_loop()
    async with raw_socket(hub) as sock:
        await loop.sock_sendall(sock, frame(sent, 8))
        opcode, payload = await read_frame(sock)
        assert opcode == 8
        assert (struct.unpack("!H", payload[:2])[0] if payload else None) == code
        assert await loop.sock_recv(sock, 1) == b""
    await hub.until(lambda: not len(hub.registry) and not hub.connections)


@pytest.mark.parametrize("end", ["close", "half close"])
async def test_who_ends_and_does_not_read_is_cut_off(valkey: ValkeyServer, end: str) -> None:
    """A goodbye does not keep what cannot be written, nor the connection in its rooms."""
    loop = asyncio.get_running_loop()
    async with server.serve(valkey.url) as hub, raw_socket(hub, receive_bytes=4 * KIB) as stuck:
        await loop.sock_sendall(
            stuck,
            commands({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "chat"}}),
        )
        await hub.until(lambda: "chat" in hub.engine.rooms)
        while not hub.drivers[-1].outbox:
            await hub.publish(10, size=16 * KIB)
        if end == "close":
            await loop.sock_sendall(stuck, frame(b"", 8))
        else:
            stuck.shutdown(socket.SHUT_WR)
        await hub.until(lambda: not len(hub.registry) and not hub.connections)


async def test_what_comes_after_our_goodbye_is_not_kept(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is told to go while it is being served may say what it likes."""
    loop = asyncio.get_running_loop()
    async with server.serve(valkey.url) as hub, raw_socket(hub) as sock:
        await loop.sock_sendall(sock, commands({"id": 1, "connect": {}}))
        await read_frame(sock)
        # The hub stays at work for it until it has our word.
        append = Events.append
        working, word = asyncio.Event(), asyncio.Event()

        async def slow(*args: Any, **options: Any) -> Any:
            working.set()
            await word.wait()
            return await append(*args, **options)

        monkeypatch.setattr(Events, "append", slow)
        await loop.sock_sendall(
            sock, commands({"id": 2, "publish": {"channel": "chat", "data": 1}})
        )
        await working.wait()
        hub.drivers[-1].end(Disconnects.SHUTDOWN)
        assert (await read_frame(sock))[0] == 8
        # Its answer is taken at once, whatever stands before it.
        await loop.sock_sendall(sock, commands({"id": 3, "ping": {}}) + frame(b"", 8))
        async with asyncio.timeout(GOODBYE_S / 2):
            assert await loop.sock_recv(sock, 1) == b""
        word.set()


async def test_a_shutdown_during_a_handshake_leaves_nothing(hub: HubServer) -> None:
    """The line is closed and not yet lost when the application accepts."""
    slow = _Slow()
    hub.authenticator = slow
    async with asked_socket(hub):
        await slow.asked.wait()
        [connection] = hub.connections
        slow.before_answer = cast(FanwireWebSocketProtocol, connection).shutdown
        slow.word.set()
        await hub.until(lambda: not hub.connections)
    await hub.until(lambda: not len(hub.registry))


async def test_who_does_not_answer_our_goodbye_is_cut_off(valkey: ValkeyServer) -> None:
    """The close frame comes, and some time later the end of the line."""
    loop = asyncio.get_running_loop()
    async with server.serve(valkey.url) as hub:
        async with raw_socket(hub) as sock:
            await loop.sock_sendall(sock, frame(b"not json"))
            opcode, payload = await read_frame(sock)
            assert (opcode, struct.unpack("!H", payload[:2])) == (8, (3501,))
            async with asyncio.timeout(PATIENCE_S):
                assert await loop.sock_recv(sock, 1) == b""
        await hub.until(lambda: not hub.connections)


async def test_a_reader_that_is_behind_gets_the_newest_of_each_key(hub: HubServer) -> None:
    """Offsets and skips add up, what has no key is all there, and the last one always comes."""
    count, every = 3_000, 50
    async with raw_socket(hub, receive_bytes=4 * KIB) as sock:
        await asyncio.get_running_loop().sock_sendall(
            sock, commands({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "chat"}})
        )
        await subscribed(sock)
        for n in range(1, count + 1):
            key = None if n % every == 0 else "gauge"
            await hub.services.events.publish("chat", {"n": n, "pad": "x" * KIB}, conflate=key)
        await hub.until(lambda: hub.engine.traffic.deliveries == count)
        assert hub.drivers[-1].closing is None
        reached, seen, skipped = 0, set(), 0
        while reached < count:
            opcode, payload = await read_frame(sock)
            assert opcode == 1
            for message in map(json.loads, payload.split(b"\n")):
                if "push" not in message:
                    continue
                pub = message["push"]["pub"]
                skipped += pub.get("skipped", 0)
                assert pub["offset"] == reached + pub.get("skipped", 0) + 1
                reached = pub["offset"]
                seen.add(pub["data"]["n"])
    assert skipped == count - len(seen) > 0
    assert hub.engine.traffic.drops == {"conflated": skipped}
    assert {n for n in range(1, count + 1) if n % every == 0} <= seen


async def test_a_burst_beyond_the_limit_reaches_who_keeps_up(
    valkey: ValkeyServer, serve: Serve
) -> None:
    """What came in one turn of the loop, because it stalled, is nobody's debt."""
    async with serve(valkey.url, outbox_bytes=128 * KIB) as hub:
        peer = await Peer.connect(hub.url)
        await peer.subscribe()
        room = hub.engine.rooms["chat"]
        await hub.publish(300, channel="other", size=2 * KIB)
        page = await hub.services.events.history("other", limit=300)
        for publication in page.publications:
            room.on_publication(publication)
        assert await peer.offsets(300) == list(range(1, 301))
        assert hub.engine.traffic.drops == {}
        await peer.close()


# -- the end --------------------------------------------------------------------------------


async def test_a_shutdown_is_told_after_what_is_queued(hub: HubServer) -> None:
    """Everybody gets what was published before, and then 3001."""
    peers = [await Peer.connect(hub.url) for _ in range(20)]
    for peer in peers:
        await peer.subscribe()
    await hub.publish(300, size=KIB)
    await hub.until(lambda: hub.engine.traffic.deliveries == 300 * len(peers))
    hub.registry.end_all()
    for peer in peers:
        assert await peer.closed() == 3001
        assert [push["push"]["pub"]["offset"] for push in peer.received] == list(range(1, 301))
    late = await Peer.open(hub.url)
    assert await late.closed() == 3001
    await hub.until(lambda: not len(hub.registry))


async def test_a_shutdown_does_not_wait_for_who_does_not_read(
    valkey: ValkeyServer, serve: Serve
) -> None:
    """A stalled client is given up after the time for goodbyes."""
    settings = ConnectionSettings(goodbye_timeout_s=0.2)
    async with (
        serve(valkey.url, settings=settings, outbox_bytes=1 << 24) as hub,
        raw_socket(hub, receive_bytes=4 * KIB) as stalled,
    ):
        await asyncio.get_running_loop().sock_sendall(
            stalled,
            commands({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "chat"}}),
        )
        await hub.until(lambda: "chat" in hub.engine.rooms)
        await hub.publish(600, size=16 * KIB)
        await hub.until(lambda: hub.engine.rooms["chat"].position.offset == 600)
        assert len(hub.drivers[-1].outbox) > 0
        began = time.monotonic()
        hub.registry.end_all()
        await hub.until(lambda: not len(hub.registry) and not hub.connections)
        assert time.monotonic() - began < 3


# -- coming back ----------------------------------------------------------------------------


async def test_everything_missed_comes_once_and_in_order(hub: HubServer) -> None:
    """A cut of 1,000 publications under live traffic, some of them large."""
    peer = await Peer.connect(hub.url)
    epoch = (await peer.subscribe())["epoch"]
    await hub.publish(10)
    assert await peer.offsets(10) == list(range(1, 11))
    peer.socket.transport.abort()
    await hub.publish(1_000, size=KIB)
    again = await Peer.connect(hub.url)
    live = asyncio.create_task(hub.publish(500))
    result = await again.subscribe(recover=True, epoch=epoch, offset=10)
    inside = [pub["offset"] for pub in result["publications"]]
    assert (result["recovered"], result["offset"]) == (True, 10)
    after = await again.offsets(1_500 - len(inside))
    assert inside + after == list(range(11, 1_511))
    await live
    await again.close()


async def test_what_is_gone_is_told(hub: HubServer) -> None:
    """History that was removed cannot be recovered, and the reply says so."""
    peer = await Peer.connect(hub.url)
    epoch = (await peer.subscribe())["epoch"]
    await hub.publish(5)
    await hub.services.events.remove_history("chat")
    again = await Peer.connect(hub.url)
    result = await again.subscribe(recover=True, epoch=epoch, offset=2)
    assert result["was_recovering"]
    assert "recovered" not in result
    assert result["offset"] == 5
    refused = await Peer.connect(hub.url)
    request = {"channel": "chat", "recover": True, "epoch": epoch, "offset": 2, "flag": 2}
    assert (await refused.ask({"id": 2, "subscribe": request}))["error"]["code"] == 112
    for each in (peer, again, refused):
        await each.close()


async def test_a_catalogue_without_the_channel(valkey: ValkeyServer, serve: Serve) -> None:
    """An undeclared namespace is error 102, and the connection goes on."""
    async with serve(valkey.url, catalogue=Catalogue()) as hub:
        peer = await Peer.connect(hub.url)
        answer = await peer.ask({"id": 2, "subscribe": {"channel": "nowhere:x"}})
        assert answer["error"]["code"] == 102
        await peer.close()
