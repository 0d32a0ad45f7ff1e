"""Requests that are sent twice are carried out once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from channels.errors import OutcomeUnknown
from services import idempotency as module
from services.idempotency import Idempotency, KeptReply, KeyReused, UnderWay, operation_id
from services.store.keys import Keys
from services.store.port import Reply, Store

REPLY = KeptReply(201, {"etag": '"1"'}, b'{"a":1}')
ID = operation_id("ann", "key")


@pytest.fixture
def store(any_store: Store) -> Store:
    """Of each kind: a service must not see a difference."""
    return any_store


@pytest.fixture
def requests(store: Store, keys: Keys) -> Idempotency:
    """The requests on a real server."""
    return Idempotency(store, keys)


async def test_the_second_one_gets_the_reply_of_the_first(requests: Idempotency) -> None:
    """Byte for byte, and for as often as it asks."""
    assert await requests.begin("w1", ID, b"post") is None
    await requests.finish("w1", ID, b"post", REPLY)
    assert await requests.begin("w1", ID, b"post") == REPLY
    assert await requests.begin("w1", ID, b"post") == REPLY


async def test_one_at_a_time(requests: Idempotency) -> None:
    """Of a hundred at once one goes ahead; the others learn that it is under way."""
    begun = await asyncio.gather(
        *(requests.begin("w1", ID, b"post") for _ in range(100)), return_exceptions=True
    )
    assert begun.count(None) == 1
    assert sum(isinstance(one, UnderWay) for one in begun) == 99


async def test_a_key_stands_for_one_request(requests: Idempotency) -> None:
    """Another one with the same key is a mistake, while it is under way and after it."""
    await requests.begin("w1", ID, b"post")
    with pytest.raises(KeyReused):
        await requests.begin("w1", ID, b"other")
    await requests.finish("w1", ID, b"post", REPLY)
    with pytest.raises(KeyReused):
        await requests.begin("w1", ID, b"other")


async def test_keys_of_others_are_others(requests: Idempotency) -> None:
    """Neither callers nor workspaces share them."""
    await requests.begin("w1", ID, b"post")
    assert await requests.begin("w2", ID, b"other") is None
    assert await requests.begin("w1", operation_id("bob", "key"), b"other") is None


async def test_an_abandoned_one_may_be_sent_again(requests: Idempotency) -> None:
    """At once."""
    await requests.begin("w1", ID, b"post")
    await requests.abandon("w1", ID)
    assert await requests.begin("w1", ID, b"post") is None


async def test_what_a_dead_node_left_ends(
    requests: Idempotency, store: Store, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note that nobody finishes holds for a minute; a kept reply for a day."""
    await requests.begin("w1", ID, b"post")
    left = await store.execute("PTTL", keys.request_op("w1", ID))
    assert isinstance(left, int)
    assert 0 < left <= module.UNDER_WAY_MS
    await requests.finish("w1", ID, b"post", REPLY)
    left = await store.execute("PTTL", keys.request_op("w1", ID))
    assert isinstance(left, int)
    assert module.UNDER_WAY_MS < left <= module.KEEP_MS


@pytest.mark.parametrize("ran", [True, False])
async def test_a_lost_answer_does_not_stand_in_its_own_way(
    store: Store, keys: Keys, ran: bool
) -> None:
    """Whoever asked and heard nothing asks again, and knows its own note."""

    class Deaf:
        times = 1

        async def run(self, *args: Any) -> Reply:
            if not self.times:
                return await store.run(*args)
            self.times -= 1
            if ran:
                await store.run(*args)
            raise OutcomeUnknown("no reply")

    deaf = Deaf()
    requests = Idempotency(deaf, keys)  # type: ignore[arg-type]  # as much as it asks of one
    assert await requests.begin("w1", ID, b"post") is None
    with pytest.raises(UnderWay):
        await requests.begin("w1", ID, b"post")
    deaf.times = 2
    with pytest.raises(OutcomeUnknown):
        await requests.begin("w1", ID, b"post")


async def test_a_large_reply_is_not_kept(requests: Idempotency, store: Store, keys: Keys) -> None:
    """The request is carried out again, by the same operation id; another one is refused."""
    await requests.begin("w1", ID, b"post")
    large = KeptReply(200, {}, b"x" * (module.KEEP_BYTES + 1))
    await requests.finish("w1", ID, b"post", large)
    kept = await store.execute("STRLEN", keys.request_op("w1", ID))
    assert isinstance(kept, int)
    assert kept < 200
    assert await requests.begin("w1", ID, b"post") is None
    with pytest.raises(KeyReused):
        await requests.begin("w1", ID, b"other")
