"""``POST /connection/ticket``: a token for a ticket."""

from __future__ import annotations

from tests.hub.event_source import listening
from tests.hub.serving import api, open_settings, served, strict_settings, token
from tests.servers import ValkeyServer

CHANNEL = "notifications:ann"


async def test_a_ticket_opens_one_feed(valkey: ValkeyServer) -> None:
    """Whoever has a token gets a ticket, and the ticket opens one feed as the same person."""
    async with served(strict_settings(valkey.url)) as at, at.client() as client:
        answer = await client.post(
            "/connection/ticket", headers={"Authorization": f"Bearer {token('ann')}"}
        )
        assert answer.headers["Cache-Control"] == "no-store"
        ticket = answer.json()["ticket"]
        address = f"/events?channel={CHANNEL}&ticket={ticket}"
        async with client.stream("GET", address) as stream:
            assert stream.status_code == 200
        assert (await client.get(address)).status_code == 401
        assert (await client.get(f"/events?channel={CHANNEL}&ticket=x")).status_code == 401


async def test_a_ticket_needs_a_token(valkey: ValkeyServer) -> None:
    """Nobody gets a ticket for nothing, unless everybody may do everything."""
    async with served(strict_settings(valkey.url)) as at, at.client() as client:
        answer = await client.post("/connection/ticket")
        assert (answer.status_code, answer.json()["code"]) == (401, 101)
        in_address = await client.post(f"/connection/ticket?token={token()}")
        assert in_address.status_code == 400
    async with served(open_settings(valkey.url)) as at, at.client() as client:
        ticket = (await client.post("/connection/ticket")).json()["ticket"]
        await api(at, "publish", channel="a:b", data=1)
        async with listening(client, "a:b", last_id="") as source:
            assert source.response.status_code == 200
        async with client.stream("GET", f"/events?channel=a:b&ticket={ticket}") as stream:
            assert stream.status_code == 200
