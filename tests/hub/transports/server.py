"""A hub behind a real uvicorn, as small as a test of transports needs it, and raw clients."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self, cast

import uvicorn
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from channels.catalogue import Catalogue
from channels.errors import StoreUnavailable
from channels.identity import ANONYMOUS, Identity
from hub.access import Access
from hub.connection import ConnectionSettings
from hub.driver import Driver
from hub.engine import Engine
from hub.origin import OriginPolicy
from hub.registry import Registry
from hub.transports.direct_websocket import DirectWebSocket
from hub.transports.uvicorn_websocket import TAKE_OVER, FanwireWebSocketProtocol
from hub.transports.websocket import WebSocketEndpoint
from services import Services

__all__ = ["PATIENCE_S", "HubServer", "Peer", "serve"]

#: What should happen, happens within this, on a busy machine too.
PATIENCE_S = 10.0


class _Nobody:
    """The origin policy of a hub that is out of reach."""

    def allow(self, scope: Scope) -> bool:
        """Refuse."""
        return False


class Identifying(Protocol):
    """Finds out whose a handshake is."""

    async def identity_of_request(self, connection: HTTPConnection) -> Identity:
        """Return who it is."""


class _Anonymous:
    """Finds that every handshake is nobody's."""

    async def identity_of_request(self, connection: HTTPConnection) -> Identity:
        """Return nobody."""
        return ANONYMOUS


class HubServer:
    """What :class:`WebSocketEndpoint` needs of a hub, and the server around it."""

    def __init__(
        self,
        services: Services,
        *,
        limit: int,
        outbox_bytes: int,
        settings: ConnectionSettings,
        authenticate: Callable[[str], Identity],
        insecure: bool = True,
    ) -> None:
        self.services = services
        self._insecure = insecure
        self.engine = Engine(
            services.follower,
            services.events.log,
            linger_s=0,
            check_store=self._check_store,
            snapshots=services.context.snapshots,
        )
        self.registry = Registry(limit)
        self.origins: OriginPolicy | _Nobody = OriginPolicy(insecure=True)
        self.authenticator: Identifying = _Anonymous()
        self.drivers: list[Driver] = []
        self.port = 0
        #: The connections that uvicorn knows, those that only linger included.
        self.connections: set[object] = set()
        self._outbox_bytes = outbox_bytes
        self._settings = settings
        self._authenticate = authenticate

    @property
    def url(self) -> str:
        """Where the clients connect."""
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def _check_store(self) -> None:
        if not self.services.store.ready:
            raise StoreUnavailable("Redis is away")

    def new_driver(self, proved: Identity) -> Driver:
        """Return a driver, and keep it for the test to look at."""
        driver = Driver(
            engine=self.engine,
            events=self.services.events,
            access=Access(self.services.catalogue, insecure=self._insecure),
            authenticate=self._authenticate,
            settings=self._settings,
            outbox_bytes=self._outbox_bytes,
            version="test 1",
        )
        self.drivers.append(driver)
        return driver

    def cut(self) -> None:
        """Cut every connection, and let nobody in before :meth:`mend`."""
        self.origins = _Nobody()
        for connection in list(self.connections):
            if isinstance(connection, DirectWebSocket):
                connection.abort()
            else:
                cast(FanwireWebSocketProtocol, connection).transport.abort()

    def mend(self) -> None:
        """Let clients in again."""
        self.origins = OriginPolicy(insecure=True)

    async def publish(self, count: int, *, channel: str = "chat", size: int = 0) -> None:
        """Publish ``{"i":0}``, ``{"i":1}``... with so many bytes of padding."""
        for start in range(0, count, 200):
            await asyncio.gather(
                *(
                    self.services.events.publish(channel, {"i": i, "pad": "x" * size})
                    for i in range(start, min(start + 200, count))
                )
            )

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when ``condition`` holds; other processes and the kernel send no event."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.005)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def serve(
    redis_url: str,
    *,
    limit: int = 1_000,
    outbox_bytes: int = 1 << 20,
    settings: ConnectionSettings | None = None,
    authenticate: Callable[[str], Identity] = lambda token: ANONYMOUS,
    max_message: int = 1 << 24,
    port: int = 0,
    catalogue: Catalogue | None = None,
    direct: bool = True,
    insecure: bool = True,
) -> AsyncIterator[HubServer]:
    """Serve a hub on loopback. Afterwards nothing may be left of any connection.

    Not ``direct`` is how it is on an ASGI server that knows nothing of us.
    """
    async with Services.connect(
        redis_url, catalogue=catalogue or Catalogue(allow_undeclared=True)
    ) as services:
        hub = HubServer(
            services,
            limit=limit,
            outbox_bytes=outbox_bytes,
            settings=settings or ConnectionSettings(goodbye_timeout_s=0.5),
            authenticate=authenticate,
            insecure=insecure,
        )
        endpoint = WebSocketEndpoint(hub)  # type: ignore[arg-type]  # stands in for a Hub

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if not direct:
                scope["extensions"].pop(TAKE_OVER, None)
            await endpoint(scope, receive, send)

        with socket.create_server(("127.0.0.1", port)) as listener:
            config = uvicorn.Config(
                app,
                ws=FanwireWebSocketProtocol,
                ws_max_size=max_message,
                ws_ping_interval=None,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                timeout_graceful_shutdown=3,
            )
            server = _Server(config)
            hub.port = listener.getsockname()[1]
            serving = asyncio.create_task(server._serve([listener]))
            await server.up.wait()
            hub.connections = cast("set[object]", server.server_state.connections)
            try:
                yield hub
                hub.registry.end_all()
                await hub.until(lambda: not len(hub.registry))
            finally:
                server.should_exit = True
                await serving
                await hub.engine.close()
        assert not hub.engine.rooms


class Peer:
    """A client that speaks the protocol by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        #: Messages that were received and not looked at yet.
        self.received: list[Any] = []
        #: Text messages received, each with one or more of those.
        self.frames = 0

    @classmethod
    async def open(cls, url: str, *, subprotocol: str | None = None, origin: str = "") -> Self:
        """Open the WebSocket; nothing is said yet."""
        protocols = [Subprotocol(subprotocol)] if subprotocol else None
        headers = {"Origin": origin} if origin else None
        return cls(
            await connect(
                url,
                subprotocols=protocols,
                additional_headers=headers,
                compression=None,
                ping_interval=None,
                max_size=None,
                proxy=None,
                open_timeout=PATIENCE_S,
            )
        )

    @classmethod
    async def connect(cls, url: str, token: str = "") -> Self:
        """Open the WebSocket and connect."""
        peer = await cls.open(url)
        answer = await peer.ask({"id": 1, "connect": {"token": token}})
        assert "connect" in answer
        return peer

    async def send(self, *commands: object) -> None:
        """Send commands in one frame."""
        await self.socket.send("\n".join(json.dumps(command) for command in commands))

    async def next(self) -> Any:
        """Return the next message."""
        while not self.received:
            async with asyncio.timeout(PATIENCE_S):
                text = await self.socket.recv(decode=True)
            self.frames += 1
            self.received += [json.loads(line) for line in text.split("\n")]
        return self.received.pop(0)

    async def ask(self, command: dict[str, Any]) -> Any:
        """Send a command and return its answer, which must be the next reply."""
        await self.send(command)
        while True:
            message = await self.next()
            if "id" in message:
                assert message["id"] == command["id"]
                return message

    async def subscribe(self, channel: str = "chat", **fields: object) -> Any:
        """Subscribe; return the result."""
        command = {"id": 2, "subscribe": {"channel": channel, **fields}}
        return (await self.ask(command))["subscribe"]

    async def offsets(self, count: int) -> list[int]:
        """Return the offsets of the next publications."""
        return [(await self.next())["push"]["pub"]["offset"] for _ in range(count)]

    async def closed(self) -> int:
        """Wait for the end; return its code. What is received meanwhile is kept."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                async for text in self.socket:
                    assert isinstance(text, str)
                    self.received += [json.loads(line) for line in text.split("\n")]
        except ConnectionClosed:
            pass
        assert self.socket.close_code is not None
        return self.socket.close_code

    async def close(self) -> None:
        """Say goodbye."""
        await self.socket.close()
