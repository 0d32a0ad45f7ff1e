"""The hub as a whole: what a node is made of, how it starts and how it ends.

Everything is composed here and handed on by constructor; nothing reaches for a global. A
hub starts with Redis away and says so in its readiness; it works as soon as Redis is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from channels.catalogue import Channel
from channels.errors import (
    Disconnects,
    RequestError,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from channels.identity import ANONYMOUS, Identity
from channels.ids import new_id
from hub.access import Access
from hub.auth import Authenticator, TokenVerifier
from hub.connection import ConnectionSettings
from hub.database_watch import DatabaseWatch
from hub.driver import Driver
from hub.engine import Engine
from hub.feed import Feed
from hub.inspector import Inspector
from hub.loop_lag import LoopLag
from hub.nodes import Nodes
from hub.origin import OriginPolicy
from hub.registry import Registry
from hub.reporter import Reporter
from hub.revocations import Hold, Revocations
from hub.settings import Settings
from hub.tickets import Tickets
from hub.version import version
from services.database import Database
from services.door import Services
from services.follower import FollowerStats
from services.idempotency import Idempotency
from services.service_settings import ServiceSettings
from services.store.open_store import store_from_url
from services.store.port import Store
from services.store.tcp import TcpStoreOptions

__all__ = ["Hub"]

_log = logging.getLogger(__name__)

#: Seconds the start waits for Redis, which takes milliseconds where it is there.
_PATIENCE_S = 1.0
_NO_STREAMS = (
    "clients cannot subscribe: Redis is reached over its REST API, where this version hears "
    "nothing live; publishing, history and state work (streaming needs its rediss:// address)"
)
#: Seconds between a node's reports where somebody pays for each command, unless set.
_BILLED_REPORT_S = 60.0


class Hub:
    """One node. Use it as an async context manager, once; the constructor does no I/O.

    ``settings.redis_url`` must be set: whoever composes the process starts the embedded
    server (``server.py``, ``app.py``).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store | None = None,
    ) -> None:
        self.settings = settings
        #: Id of this node: new at every start, because its counters begin anew.
        self.node = new_id()
        self.name = settings.node_name or socket.gethostname()[:64]
        self.version = version()
        #: When it started, in seconds since 1970.
        self.started_at = time.time()
        self.origins = OriginPolicy.of(settings)
        self.verifier = TokenVerifier.of(settings)
        self.registry = Registry(settings.max_connections)
        self._connection_settings = ConnectionSettings(
            ping_interval_s=settings.ping_interval_s,
            pong_timeout_s=settings.pong_timeout_s,
            connect_timeout_s=settings.connect_timeout_s,
            max_channels=settings.max_channels,
        )
        catalogue = settings.catalogue()
        self.access = Access(catalogue, insecure=settings.insecure)
        another: Callable[[], Store] | None = None
        if store is None:
            if settings.redis_url is None:
                raise UsageError("a hub needs a redis_url: start the embedded server first")
            # Probes carry our prefix, so that an access list may allow nothing else.
            probe = TcpStoreOptions(probe_prefix=f"{settings.key_prefix}:{{hub}}:probe")
            another = partial(store_from_url, settings.redis_url, settings.redis_token, tcp=probe)
            store = another()
        database = Database(settings.database_url) if settings.database_url else None
        self.services = Services(
            store,
            catalogue=catalogue,
            prefix=settings.key_prefix,
            wait=False,
            another=another,
            database=database,
            settings=ServiceSettings(
                usage=settings.usage,
                budgets=settings.budgets,
                limits=settings.limits.for_node(settings.max_connections),
                cache=settings.cache,
            ),
        )
        #: None without a database.
        self.database_watch: DatabaseWatch | None = None
        if database is not None:
            self.database_watch = DatabaseWatch(database, migrate=settings.database_migrate)
        keys = self.services.keys
        self.engine = Engine(
            self.services.follower,
            self.services.events.log,
            check_store=self.check_store,
            snapshots=self.services.context.snapshots,
        )
        self.inspector = Inspector(store, keys)
        self.tickets = Tickets(store, keys)
        self.idempotency = Idempotency(store, keys)
        self.authenticator = Authenticator(
            self.verifier,
            self.tickets,
            self.services.auth_sessions,
            insecure=settings.insecure,
        )
        self.revocations = Revocations(self.engine, catalogue, self.services.auth_sessions)
        report_s = settings.node_report_s
        if store.traits.billed and "node_report_s" not in settings.sources:
            report_s = max(report_s, _BILLED_REPORT_S)
        self.nodes = Nodes(store, keys, report_s=report_s)
        self.reporter = Reporter(self, every_s=report_s)
        self.loop_lag = LoopLag(asyncio.get_running_loop().call_later)
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    # -- life ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        ready = asyncio.Event()
        self.services.store.on_state(lambda _ready: ready.set())
        self.services.store.on_state(self.inspector.on_state)
        await self.services.__aenter__()
        if not self.services.store.traits.subscriptions:
            _log.warning("%s", _NO_STREAMS)
        self.loop_lag.start()
        # Whoever reconnects after a restart should find Redis connected; without it we start.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await ready.wait()
        self._tasks = [
            asyncio.create_task(self.reporter.run(), name="fanwire-reporter"),
            asyncio.create_task(self.inspector.run(), name="fanwire-inspector"),
            asyncio.create_task(self.services.context.sweeper.run(), name="fanwire-sweeper"),
        ]
        if self.database_watch is not None:
            watch = asyncio.create_task(self.database_watch.run(), name="fanwire-database")
            self._tasks.append(watch)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The server above us has stopped accepting before we get here.
        # 1. Tell whoever is still connected to come back, to another node or to the next one.
        self.say_goodbye()
        # 2. Let them leave, as long as the grace lasts: what is queued is written first.
        await self.drain()
        # 3. Stop measuring and reporting, and be gone from the list of nodes.
        self.loop_lag.stop()
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            if self.services.store.ready:  # else it is forgotten for its silence
                with contextlib.suppress(StoreError):
                    await self.nodes.forget(self.node)
        # 4. Leave the rooms: they use the follower.
        await self.revocations.close()
        await self.engine.close()
        # 5. End the follower's watch, its repairs, and the store, which all of them used.
        await self.services.__aexit__(kind, error, traceback)

    def say_goodbye(self) -> None:
        """Ask every client to reconnect elsewhere, and refuse new ones; returns at once."""
        self._ending = True
        self.registry.end_all(Disconnects.SHUTDOWN)

    async def drain(self) -> None:
        """Wait until every client has left, or the grace is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.shutdown_grace_s):
                await self.registry.wait_empty()

    # -- for the transports ----------------------------------------------------------------

    def new_driver(self, proved: Identity | RequestError = ANONYMOUS) -> Driver:
        """Return what drives one more connection of the bidirectional protocol.

        ``proved`` is what the handshake proved, or why it did not; it stands for a client
        that sends no token of its own.
        """

        def authenticate(token: str) -> Identity:
            if token:
                return self.verifier.verify(token)
            if isinstance(proved, RequestError):
                raise proved
            return proved

        return self._driver(authenticate)

    def new_session_driver(self, hold: Hold) -> Driver:
        """Return what drives a connection whose handshake was proved by a login session.

        It ends with the session, unless its client sends a token of its own instead.
        """

        def authenticate(token: str) -> Identity:
            if token:
                identity = self.verifier.verify(token)
                hold.release()
                return identity
            hold.attach(driver)
            return hold.identity

        driver = self._driver(authenticate)
        driver.on_gone = hold.release
        return driver

    def _driver(self, authenticate: Callable[[str], Identity]) -> Driver:
        return Driver(
            engine=self.engine,
            events=self.services.events,
            access=self.access,
            authenticate=authenticate,
            settings=self._connection_settings,
            outbox_bytes=self.settings.outbox_bytes,
            version=self.version,
        )

    def new_feed(self, channels: Sequence[Channel], identity: Identity) -> Feed:
        """Return one more feed of ``channels``, not opened yet."""
        return Feed(
            self.engine,
            channels,
            identity,
            limit_bytes=self.settings.outbox_bytes,
            heartbeat_s=self.settings.sse_heartbeat_s,
        )

    def check_store(self) -> None:
        """Refuse at once what would only wait for Redis; raises ``StoreUnavailable``.

        Joins of one channel wait for each other: a thousand clients that come while Redis
        is away would otherwise wait for a thousand time-outs.
        """
        if not self.services.store.ready:
            raise StoreUnavailable(self.troubles[0])

    # -- state -----------------------------------------------------------------------------

    @property
    def stats(self) -> FollowerStats:
        """What the follower saw and repaired."""
        return self.services.follower.stats

    @property
    def troubles(self) -> list[str]:
        """Why the node should get no new clients now; empty when it is ready."""
        if self._ending:
            return ["the node is shutting down"]
        store = self.services.store
        if not store.ready:
            return [getattr(store, "trouble", None) or "Redis is away"]
        return [self.inspector.trouble] if self.inspector.trouble else []

    @property
    def warnings(self) -> list[str]:
        """What does not hold on this Redis although the node is ready."""
        warnings = [str(finding) for finding in self.inspector.findings]
        if not self.services.store.traits.subscriptions:
            warnings.insert(0, _NO_STREAMS)
        if self.database_watch is not None and self.database_watch.trouble:
            warnings.append(self.database_watch.trouble)
        return warnings
