"""A Redis that cannot be written to, or forgot everything: nothing ends wrongly, and it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from channels.errors import StoreUnavailable
from services import approvals, auth_sessions, onboarding, session_manager
from services.approvals import Approvals
from services.auth_sessions import AuthSessions
from services.onboarding import Onboarding
from services.session_manager import SessionManager
from services.store.keys import Keys
from services.store.tcp import TcpStore

from ..servers import PATIENCE_S, ValkeyServer
from .accounts import HandClock, context_of, told
from .conftest import QUICK

CHANNELS = ("session:w1:s1", "approvals:w1", "auth:ann", "workspace:w1")


class Place:
    """Services and a node that sweeps, on a server of their own."""

    def __init__(self, server: ValkeyServer, store: TcpStore, keys: Keys) -> None:
        self.server = server
        self.clock = HandClock()
        self.context = context_of(store, keys, self.clock)
        self.context.sweeper.every_s = 0.01
        for service in (session_manager, approvals, auth_sessions, onboarding):
            service.install(self.context)

    async def begin(self) -> None:
        """Make one of everything that ends."""
        await SessionManager(self.context, "w1").create_session("s1", "ann", idle_ttl_s=60)
        await Approvals(self.context, "w1").request("pay", {}, expires_in_s=60)
        await AuthSessions(self.context).create("ann", idle_ttl_s=60)
        await Onboarding(self.context, "w1").start("ann", expires_in_s=60)

    async def ends(self) -> list[str]:
        """Return the ends that were told."""
        types = [event["type"] for name in CHANNELS for event in await told(self.context, name)]
        return [type_ for type_ in types if type_.endswith("expired")]

    @contextlib.asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """Sweep by the clock of the test."""
        clock = self.context.clock
        clock.measured, clock._ahead_ms, clock._ticks = True, 0.0, self.clock
        running = asyncio.create_task(self.context.sweeper.run())
        try:
            yield
        finally:
            assert not running.done()
            running.cancel()
            await asyncio.wait({running})

    def config(self, name: str, value: str) -> None:
        """Set something up."""
        with self.server.client() as client:
            client.config_set(name, value)

    def follow(self, host: str, port: str) -> None:
        """Have the server be a replica, or none."""
        with self.server.client() as client:
            client.replicaof(host, port)


@pytest.fixture
async def place(valkey_server: Callable[[], ValkeyServer], keys: Keys) -> AsyncIterator[Place]:
    """A place with one of everything, a moment before all of it ends."""
    server = valkey_server()
    async with TcpStore(server.url, QUICK) as store:
        place = Place(server, store, keys)
        await place.begin()
        yield place


async def until_ended(place: Place) -> None:
    """Wait for the four ends."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(StoreUnavailable):
                if len(await place.ends()) >= 4:
                    return
            await asyncio.sleep(0.02)


FAULTS: dict[str, tuple[Callable[[Place], None], Callable[[Place], None]]] = {
    "full": (lambda p: p.config("maxmemory", "1"), lambda p: p.config("maxmemory", "0")),
    "a replica": (
        lambda p: p.follow("127.0.0.1", "1"),
        lambda p: p.follow("NO", "ONE"),
    ),
    "lonely": (
        lambda p: p.config("min-replicas-to-write", "1"),
        lambda p: p.config("min-replicas-to-write", "0"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_cannot_be_ended_ends_when_it_can(
    place: Place, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither told nor gone while the server refuses; all of it once, afterwards, by itself."""
    begin, end = FAULTS[fault]
    place.config("maxmemory-policy", "noeviction")
    caplog.set_level(logging.INFO, "services.sweeper")
    begin(place)
    place.clock.forward(61)
    async with place.sweeping():
        async with asyncio.timeout(PATIENCE_S):
            # The sweeper tells of a look that failed by this alone.
            while caplog.text.count("nothing ends by itself for now") < 2:
                place.clock.forward(0.5)  # what was claimed in vain comes back
                await asyncio.sleep(0.01)
        with contextlib.suppress(StoreUnavailable):  # nor is a replica believed
            assert await place.ends() == []
        end(place)
        place.clock.forward(11)
        await until_ended(place)
    assert len(await place.ends()) == 4
    for root in ("w1", "ann"):
        assert await place.context.store.execute("EXISTS", place.context.keys.due(root)) == 0


async def test_nothing_is_left_of_what_redis_forgot(place: Place) -> None:
    """FLUSHALL under a node that sweeps: no ends of what is no more; what begins then, ends."""
    async with place.sweeping():
        await place.context.store.execute("FLUSHALL")
        place.clock.forward(61)
        await place.begin()
        place.clock.forward(61)
        await until_ended(place)
    assert len(await place.ends()) == 4


async def test_nodes_whose_clocks_differ_tell_each_end_once(
    valkey_server: Callable[[], ValkeyServer], keys: Keys
) -> None:
    """Half a minute apart, claims mean nothing to each other, and the scripts still decide."""
    server = valkey_server()
    async with TcpStore(server.url, QUICK) as store:
        places = [Place(server, store, keys) for _ in range(3)]
        for place, skew_s in zip(places, (-30, 0, 30), strict=True):
            place.clock.forward(skew_s)
        sessions = SessionManager(places[1].context, "w1")
        for number in range(60):
            await sessions.create_session(f"s{number}", "ann", idle_ttl_s=60)
        for _ in range(12):
            for place in places:
                place.clock.forward(10)
            await asyncio.gather(*(place.context.sweeper.sweep() for place in places * 2))
        for number in range(60):
            events = await told(places[1].context, f"session:w1:s{number}")
            assert [event["type"] for event in events] == ["session.created", "session.expired"]
