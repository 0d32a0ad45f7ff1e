"""The endpoint as a server in a thread with a loop of its own, as far away as a network is."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import uvicorn
import uvloop

from .app import RestApp
from .faults import Fault

__all__ = ["Bill", "RestEndpointServer"]

_PATIENCE_S = 20.0


class Bill:
    """What a stretch of a test would have cost."""

    commands = 0


class RestEndpointServer:
    """A REST endpoint on a free port of this machine, in front of the server at ``redis_url``."""

    token = "test-token"
    read_only_token = "test-read-only-token"

    def __init__(self, redis_url: str) -> None:
        self.app = RestApp(redis_url, token=self.token, read_only_token=self.read_only_token)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        # A connection that is open still (a test that failed left it) is no reason to wait.
        config = uvicorn.Config(
            self.app,
            log_config=None,
            lifespan="on",
            http="httptools",
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="rest-endpoint", daemon=True)
        self._thread.start()
        assert self.app.started.wait(_PATIENCE_S), "the endpoint did not start"

    def _run(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve([self._socket])

    def fail(self, *faults: Fault) -> None:
        """Have the next requests meet ``faults``, one each."""
        self.app.faults.extend(faults)

    def release(self) -> None:
        """Let requests that hang go on."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.app.release)

    def reset(self) -> None:
        """Forget faults, scripts and counts."""
        self.app.faults.clear()
        self.app.database.forget_scripts()
        self.app.requests.clear()
        self.app.commands.clear()
        self.app.peers.clear()
        self.app.database.billed = self.app.database.global_locks = 0
        self.release()

    @contextmanager
    def bill(self) -> Iterator[Bill]:
        """Count what is billed inside, as ``commands`` of what this yields."""
        bill, before = Bill(), self.app.database.billed
        yield bill
        bill.commands = self.app.database.billed - before

    def close(self) -> None:
        """End it."""
        self.release()
        self._server.should_exit = True
        self._thread.join(_PATIENCE_S)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
