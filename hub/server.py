"""``fanwire serve``: the process, or the processes, around the application.

The process that was started owns the listening sockets and the embedded server. With one
worker it serves itself; with more, it only watches over them (``workers.py``). It ends with
status 0 on SIGTERM and SIGINT, after the clients were told.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from signal import SIGINT
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from channels.publication import MAX_DATA_BYTES
from hub.app import create_app
from hub.listener import bind_all, url_of
from hub.logs import set_up_logs
from hub.metrics.siblings import ALONE, Slot
from hub.runtime import Hub
from hub.settings import Settings
from hub.transports.uvicorn_http import FanwireHttpProtocol
from hub.transports.uvicorn_websocket import FanwireWebSocketProtocol
from hub.version import version
from services.store.embedded import EmbeddedServer
from services.store.port import Store

__all__ = ["HubServer", "build_server", "run_server", "serve"]

_log = structlog.get_logger(__name__)

#: Seconds an idle connection of an API client is kept: longer than the clients' pools keep
#: it, so that it is they who close it and no request meets a closing connection.
_KEEP_ALIVE_S = 75
#: Collections of the middle generation before a full one, at least; Python's 10 are 70,000
#: objects, which 5,000 connections are. Garbage that only a full one finds is rare, and with
#: this about 700,000 objects at most. Measured with 10,000 connections: 30 to 80 ms each.
_MIDDLE_PER_FULL_COLLECTION = 100


def serve(settings: Settings) -> None:
    """Serve until a signal ends it; returns when everything has ended in order.

    Raises:
        SettingsError: the port, the data directory or a setting is no good.
        StoreError: the embedded server did not start.
    """
    set_up_logs(settings.log_level, json=settings.log_json)
    with ExitStack() as stack:
        listeners = bind_all(settings)
        for listener in listeners:
            stack.callback(listener.close)
        embedded = settings.redis_url is None
        if embedded:
            server = stack.enter_context(EmbeddedServer(Path(settings.data_dir)))
            settings = settings.with_embedded_server(server.url)
        if settings.insecure:
            _log.warning("insecure: everybody may do everything on every channel")
        elif settings.api_key is None and settings.token_hmac_secret is None:
            _log.warning(
                "neither api_key nor token_hmac_secret is set: every key and every token is "
                "refused; to try things out on this machine, start with --insecure"
            )
        line = _ready_line(settings, listeners[0], embedded=embedded)
        if settings.workers == 1:
            run_server(settings, listeners[0], lambda: _say(line))
        else:
            # Imported here: a worker imports this module and needs none of that.
            from hub.workers import Workers  # noqa: PLC0415

            Workers(settings, listeners, on_ready=lambda: _say(line)).run()


def _say(line: str) -> None:
    """Tell whoever started us, if anybody listens."""
    if sys.stdout is None:  # a daemon's, closed before we began
        return
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What was not written would be tried again at the exit, and fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _ready_line(settings: Settings, listener: socket.socket, *, embedded: bool) -> str:
    notes = ["embedded Valkey" if embedded else "Redis"]
    if settings.workers > 1:
        notes.append(f"{settings.workers} workers")
    if settings.insecure:
        notes.append("insecure: everybody may do everything")
    return f"Fanwire {version()} on {url_of(listener)} ({', '.join(notes)})"


def run_server(
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], object],
    *,
    slot: Slot = ALONE,
) -> None:
    """Serve on ``listener`` in this process until a signal; ``on_ready`` is called once.

    ``slot`` is the place among the workers of the port.

    Exits with uvicorn's status when the application does not start.
    """

    def ready() -> None:
        _calm_garbage_collector()
        on_ready()

    build_server(settings, ready, slot=slot).run([listener])


def _calm_garbage_collector() -> None:
    """Have full collections come rarely, and pass by what is there to stay.

    A full collection walks every connection, with the loop standing still; and connections
    coming are what brings them on. What a connection leaves behind is freed without it.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _MIDDLE_PER_FULL_COLLECTION)


def build_server(
    settings: Settings,
    on_ready: Callable[[], object],
    *,
    store: Store | None = None,
    slot: Slot = ALONE,
) -> HubServer:
    """Return a server of the hub that the settings describe, not started yet."""
    app = create_app(settings, store=store, slot=slot)
    config = uvicorn.Config(
        app,
        loop="uvloop" if sys.platform != "win32" else "auto",
        http=FanwireHttpProtocol,
        ws=FanwireWebSocketProtocol,
        lifespan="on",
        # Ours stand already, and an access log would contain addresses with their queries.
        log_config=None,
        access_log=False,
        ws_max_size=MAX_DATA_BYTES,
        ws_per_message_deflate=False,
        # The protocol pings by itself, with time-outs that its clients know of.
        ws_ping_interval=None,
        ws_ping_timeout=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
    )
    return HubServer(config, app, on_ready)


class HubServer(uvicorn.Server):
    """uvicorn, with a word to the clients before it ends, and status 0 after it has."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, on_ready: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self.app = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell that connections are accepted."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: first the listening, then the clients, then the application."""
        for server in self.servers:
            server.close()
        hub: Hub = self.app.state.hub
        hub.say_goodbye()
        # uvicorn would end WebSockets with a code of its own, and cut what is queued.
        await hub.drain()
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn would leave the application's lifespan where it is, and log a traceback
            # when that is cancelled. It takes no longer than the grace.
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Take a signal: begin to end; a second Control-C ends at once.

        Neither what uvicorn does (raise the signal again in the end, so that the status is
        not 0) nor what sse-starlette adds (end every stream of the process, those of later
        servers too) is wanted here.
        """
        if self.should_exit and sig == SIGINT:
            self.force_exit = True
        else:
            self.should_exit = True
