"""A login session's end is the end of its connections, on every node, whatever is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from channels.errors import Disconnects, Unauthorized
from hub.revocations import Hold
from services.auth_session import Issued
from services.auth_sessions import AuthSessions
from services.login_token import LoginToken
from tests.faults import FaultProxy
from tests.hub.event_source import EventSource, listening
from tests.hub.serving import Served, served, strict_settings, token
from tests.services.store.conftest import Valkey

PATIENCE_S = 10
CHANNEL = "notifications:ann"


@asynccontextmanager
async def hub_on(url: str, **changes: Any) -> AsyncIterator[Served]:
    """Serve a hub that looks after ends by itself only in the sweeper's own time."""
    async with served(strict_settings(url, **changes)) as at:
        yield at


@asynccontextmanager
async def socket(
    at: Served, issued: Issued | str, *, cookie: bool = True, subscribe: bool = True
) -> AsyncIterator[ClientConnection]:
    """Connect by a login session and subscribe to the personal feed."""
    text = issued if isinstance(issued, str) else issued.token
    header = {"Cookie": f"fanwire_session={text}"}
    if not cookie:
        header = {"Authorization": f"Bearer {text}"}
    url = at.url.replace("http", "ws") + "/connection/websocket"
    async with connect(url, additional_headers=header) as client:
        if subscribe:
            await client.send('{"id":1,"connect":{}}')
            assert "error" not in json.loads(await client.recv())
            await client.send(json.dumps({"id": 2, "subscribe": {"channel": CHANNEL}}))
            assert "error" not in json.loads(await client.recv())
        yield client


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Return with which code and reason the hub closes."""
    async with asyncio.timeout(PATIENCE_S):
        await client.wait_closed()
    return client.close_code or 0, client.close_reason or ""


async def goodbye(source: EventSource) -> dict[str, Any]:
    """Return what the hub says at the end of a feed."""
    *_, last = await source.rest()
    assert last.type == "close"
    told: dict[str, Any] = last.json
    return told


def auth(issued: Issued) -> dict[str, str]:
    """Return the header of a cookie."""
    return {"Cookie": f"fanwire_session={issued.token}"}


async def until(condition: Any) -> None:
    """Return when ``condition`` holds; nothing tells of it."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - as it says
            await asyncio.sleep(0.005)


REVOKED = (3503, "session revoked")


async def test_revoking_on_one_node_closes_on_both(valkey):
    """WebSocket and EventSource, by cookie and by header; another session's live on."""
    async with (
        hub_on(valkey.url) as one,
        hub_on(valkey.url) as two,
        contextlib.AsyncExitStack() as s,
    ):
        sessions = one.hub.services.auth_sessions
        lost, kept = await sessions.create("ann"), await sessions.create("ann")
        sockets = [
            await s.enter_async_context(socket(at, lost, cookie=cookie))
            for at in (one, two)
            for cookie in (True, False)
        ]
        others = [await s.enter_async_context(socket(at, kept)) for at in (one, two)]
        feeds = []
        for at in (one, two):
            client = await s.enter_async_context(at.client())
            feeds.append(await s.enter_async_context(listening(client, CHANNEL, **auth(lost))))
        assert len(one.hub.revocations) == len(two.hub.revocations) == 1
        await sessions.revoke("ann", lost.session.id)
        assert [await closed(client) for client in sockets] == [REVOKED] * 4
        for feed in feeds:
            assert await goodbye(feed) == {"code": 3503, "reason": "session revoked"}
        for client in others:
            await client.send('{"id":9,"history":{"channel":"notifications:ann"}}')
            assert "history" in json.loads(await client.recv())
    assert not Disconnects.SESSION_REVOKED.reconnect


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_killed_subscription_costs_no_revocation(valkey, when):
    """The connection that would tell of it is killed at that moment, on both nodes."""
    async with (
        hub_on(valkey.url) as one,
        hub_on(valkey.url) as two,
        contextlib.AsyncExitStack() as s,
    ):
        sessions = one.hub.services.auth_sessions
        for _ in range(5):
            issued = await sessions.create("ann")
            clients = [await s.enter_async_context(socket(at, issued)) for at in (one, two)]
            with valkey.client() as raw:
                if when == "before":
                    raw.client_kill_filter(_type="pubsub")
                await sessions.revoke("ann", issued.session.id)
                if when == "after":
                    raw.client_kill_filter(_type="pubsub")
            assert [await closed(client) for client in clients] == [REVOKED] * 2


async def test_a_message_that_is_swallowed_costs_no_revocation(server_binary, tmp_path):
    """The node hears nothing while it happens; it reads the log when it hears again."""
    server = Valkey(tmp_path)
    await server.start()
    try:
        async with (
            FaultProxy(server.port) as proxy,
            hub_on(proxy.url) as deaf,
            hub_on(server.url) as other,
        ):
            sessions = other.hub.services.auth_sessions
            issued = await sessions.create("ann")
            async with socket(deaf, issued) as client:
                proxy.blackhole = True
                await sessions.revoke("ann", issued.session.id)
                proxy.blackhole = False
                proxy.cut()
                assert await closed(client) == REVOKED
    finally:
        await server.kill()


async def test_what_the_log_cannot_tell_is_read_from_the_sessions(valkey):
    """The log is gone together with the message; the session is looked at instead."""
    async with hub_on(valkey.url) as at, contextlib.AsyncExitStack() as s:
        services = at.hub.services
        sessions = services.auth_sessions
        lost, kept = await sessions.create("ann"), await sessions.create("ann")
        rotated = await sessions.create("ann")
        gone = await s.enter_async_context(socket(at, lost))
        stays = await s.enter_async_context(socket(at, kept))
        back = await s.enter_async_context(socket(at, rotated))
        channel = services.catalogue.find("auth:ann")
        with valkey.client() as raw:
            # As if another Redis took over that had the sessions, and not the log.
            keys = services.keys
            raw.client_kill_filter(_type="pubsub")
            raw.hdel(keys.auth_sessions("ann"), lost.session.id)
            text = raw.hget(keys.auth_sessions("ann"), rotated.session.id)
            fresh = text.replace(b" 1 ", b" 2 ", 1)
            raw.hset(keys.auth_sessions("ann"), rotated.session.id, fresh)
            raw.delete(keys.log(channel), keys.log_meta(channel))
        assert await closed(gone) == REVOKED
        assert await closed(back) == (3011, "session rotated")
        await stays.send('{"id":9,"history":{"channel":"notifications:ann"}}')
        assert "history" in json.loads(await stays.recv())


async def test_rotating_lets_clients_come_back(valkey):
    """By the old secret they are let go; with the new one they are in, with the new rights."""
    async with hub_on(valkey.url) as one, hub_on(valkey.url) as two:
        sessions = one.hub.services.auth_sessions
        first = await sessions.create("ann", workspaces=["w1"])
        async with socket(one, first) as a, socket(two, first) as b:
            second = await sessions.rotate(first.token, workspaces=["w2"])
            assert [await closed(one) for one in (a, b)] == [(3011, "session rotated")] * 2
        async with socket(two, second) as back:
            await back.send('{"id":3,"subscribe":{"channel":"workspace:w1"}}')
            assert json.loads(await back.recv())["error"]["code"] == 103
            await back.send('{"id":4,"subscribe":{"channel":"workspace:w2"}}')
            assert "error" not in json.loads(await back.recv())
        async with socket(two, first, subscribe=False) as old:
            await old.send('{"id":1,"connect":{}}')
            assert (await closed(old))[0] == 3500
    assert Disconnects.SESSION_ROTATED.reconnect


async def test_an_expired_session_ends_its_connections(valkey):
    """The sweeper ends it, and that is told like any other end."""
    async with hub_on(valkey.url) as at:
        issued = await at.hub.services.auth_sessions.create("ann", idle_ttl_s=1)
        async with socket(at, issued) as client:
            assert await closed(client) == (3005, "token expired")


async def test_a_session_revoked_on_the_way_in_is_refused(valkey):
    """Proved at the handshake, over before the client says connect."""
    async with hub_on(valkey.url) as at:
        sessions = at.hub.services.auth_sessions
        issued = await sessions.create("ann")
        async with socket(at, issued, subscribe=False) as client:
            await until(lambda: len(at.hub.revocations) == 1)
            await sessions.revoke("ann", issued.session.id)
            channel = at.hub.services.catalogue.find("auth:ann")
            await until(lambda: at.hub.engine.rooms[channel.name].position.offset == 2)
            await client.send('{"id":1,"connect":{}}')
            assert (await closed(client))[0] == 3500


async def test_a_session_revoked_between_proof_and_hold_is_refused(valkey):
    """The node looks once more after it has begun to listen."""
    async with hub_on(valkey.url) as at:
        sessions = at.hub.services.auth_sessions
        issued = await sessions.create("ann")
        identity = (await sessions.verify(issued.token)).identity
        await sessions.revoke("ann", issued.session.id)
        with pytest.raises(Unauthorized):
            await at.hub.revocations.hold(identity)
        assert len(at.hub.revocations) == 0


async def test_revocations_racing_handshakes_leave_nobody_in(valkey):
    """However the two meet: once both are over, no connection of the session is open."""
    async with hub_on(valkey.url) as one, hub_on(valkey.url) as two:
        sessions = one.hub.services.auth_sessions

        async def come(at: Served, issued: Issued) -> int:
            try:
                async with socket(at, issued) as client:
                    return (await closed(client))[0]
            except (AssertionError, ConnectionClosed):
                return 0

        for turn in range(15):
            issued = await sessions.create("ann")
            coming = [asyncio.ensure_future(come(at, issued)) for at in (one, two) for _ in "123"]
            await asyncio.sleep(turn * 0.002)
            await sessions.revoke("ann", issued.session.id)
            assert set(await asyncio.gather(*coming)) <= {0, 3500, 3503}
        await until(lambda: len(one.hub.registry) == len(two.hub.registry) == 0)
        assert len(one.hub.revocations) == len(two.hub.revocations) == 0


async def test_a_client_with_a_token_of_its_own_does_not_need_the_session(valkey):
    """What its connect command carries is what counts from then on."""
    async with hub_on(valkey.url) as at:
        sessions = at.hub.services.auth_sessions
        issued = await sessions.create("ann")
        async with socket(at, issued, subscribe=False) as client:
            await client.send(json.dumps({"id": 1, "connect": {"token": token("ann")}}))
            await client.recv()
            assert len(at.hub.revocations) == 0
            await sessions.revoke("ann", issued.session.id)
            await client.send('{"id":9,"history":{"channel":"notifications:ann"}}')
            assert "history" in json.loads(await client.recv())


async def test_a_ticket_ends_with_the_session_it_came_from(valkey):
    """It stands for the session, not for more."""
    async with hub_on(valkey.url) as at, at.client() as client:
        sessions = at.hub.services.auth_sessions
        issued = await sessions.create("ann")
        answer = await client.post("/connection/ticket", headers=auth(issued))
        unused = await client.post("/connection/ticket", headers=auth(issued))
        params = {"channel": CHANNEL, "ticket": answer.json()["ticket"]}
        async with client.stream("GET", "/events", params=params) as response:
            source = EventSource(response)
            await until(lambda: len(at.hub.revocations) == 1)
            await sessions.revoke("ann", issued.session.id)
            assert (await goodbye(source))["code"] == 3503
        params["ticket"] = unused.json()["ticket"]
        assert (await client.get("/events", params=params)).status_code == 401


async def test_what_is_let_go_is_forgotten(valkey):
    """When the last connection of a user leaves, the node watches the user no more."""
    async with hub_on(valkey.url) as at:
        issued = await at.hub.services.auth_sessions.create("ann")
        async with socket(at, issued), socket(at, issued):
            assert len(at.hub.revocations) == 1
        await until(lambda: len(at.hub.revocations) == 0)


async def test_a_request_by_a_stale_token_is_refused(valkey):
    """Over HTTP too, with 401, and without the secret in the answer."""
    async with hub_on(valkey.url) as at, at.client() as client:
        sessions: AuthSessions = at.hub.services.auth_sessions
        issued = await sessions.create("ann")
        bearer = {"Authorization": f"Bearer {issued.token}"}
        assert (await client.post("/connection/ticket", headers=bearer)).status_code == 200
        await sessions.revoke("ann", issued.session.id)
        for headers in (bearer, auth(issued)):
            answer = await client.post("/connection/ticket", headers=headers)
            assert answer.status_code == 401
            assert LoginToken.parse(issued.token).secret not in answer.text
        address = await client.get(f"/events?channel={CHANNEL}&token={issued.token}")
        assert address.status_code == 400


async def test_the_same_end_is_told_once():
    """Whatever comes after the first one."""

    class Client:
        """Notes what it is told."""

        user = "ann"

        def __init__(self) -> None:
            self.told: list[Any] = []

        def end(self, disconnect: Any) -> None:
            """Note it."""
            self.told.append(disconnect)

    client = Client()
    hold = Hold(object(), lambda _: None)  # type: ignore[arg-type]  # not looked at
    hold.attach(client)
    hold.end(Disconnects.SESSION_REVOKED)
    hold.end(Disconnects.EXPIRED)
    assert client.told == [Disconnects.SESSION_REVOKED]
    with pytest.raises(Unauthorized):
        hold.attach(client)
