"""Tickets: good once, for half a minute, on any node."""

from __future__ import annotations

import time

import msgspec
import pytest

from channels.errors import Unauthorized
from channels.identity import Identity
from hub.tickets import TICKET_LIFETIME_S, Tickets
from services.store.keys import Keys
from services.store.tcp import TcpStore
from tests.servers import ValkeyServer

ANN = Identity(
    user="ann",
    workspaces=frozenset({"w1", "w2"}),
    scopes=frozenset({"publish"}),
    expires_at=time.time() + 3600,
    info=msgspec.Raw(b'{"name":"Ann"}'),
)


async def test_a_ticket_is_good_once(valkey: ValkeyServer) -> None:
    """It stands for the whole identity, on another node too, and then for nobody."""
    async with TcpStore(valkey.url) as one, TcpStore(valkey.url) as other:
        ticket = await Tickets(one, Keys()).issue(ANN)
        found = await Tickets(other, Keys()).redeem(ticket)
        assert (found.user, found.workspaces, found.scopes, found.expires_at) == (
            ANN.user,
            ANN.workspaces,
            ANN.scopes,
            ANN.expires_at,
        )
        assert found.info is not None
        assert ANN.info is not None
        assert bytes(found.info) == bytes(ANN.info)
        with pytest.raises(Unauthorized):
            await Tickets(one, Keys()).redeem(ticket)


async def test_redis_never_sees_the_ticket(valkey: ValkeyServer) -> None:
    """Who reads Redis cannot use the tickets in it; and they go by themselves."""
    async with TcpStore(valkey.url) as store:
        ticket = await Tickets(store, Keys()).issue(ANN)
    with valkey.client() as client:
        [key] = client.keys()
        assert ticket.encode() not in key
        assert 0 < client.ttl(key) <= TICKET_LIFETIME_S


@pytest.mark.parametrize("ticket", ["", "x", "*", "a" * 10_000, "\ud800"])
async def test_an_unknown_ticket_is_refused(valkey: ValkeyServer, ticket: str) -> None:
    """Whatever was not issued stands for nobody."""
    async with TcpStore(valkey.url) as store:
        with pytest.raises(Unauthorized):
            await Tickets(store, Keys()).redeem(ticket)


async def test_a_ticket_does_not_outlive_its_token(valkey: ValkeyServer) -> None:
    """When the token has ended meanwhile, so has the ticket."""
    async with TcpStore(valkey.url) as store:
        ticket = await Tickets(store, Keys()).issue(ANN)
        later = Tickets(store, Keys(), now=lambda: time.time() + 3601)
        with pytest.raises(Unauthorized, match="expired"):
            await later.redeem(ticket)
