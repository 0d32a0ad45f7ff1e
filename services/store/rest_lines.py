"""Connections for requests, each with an HTTP client of its own.

The pool of an HTTP client loses count of its connections when requests are cancelled at the
wrong moment (seen with httpcore 1.0.9), and is full for ever after a few of them. Here a
connection serves one request at a time, and one that did not end well is thrown away with all
that its client knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

import httpx

from .rest_address import RestAddress

__all__ = ["Lines"]

#: A server that closes idle connections does so after a minute or more. We are first, because
#: a request that meets the closing has an unknown outcome.
_IDLE_S = 45.0
#: What a connection has for its farewell.
_CLOSE_S = 2.0


class Lines:
    """As many connections as there are requests at the same time; the caller bounds these."""

    __slots__ = ("_address", "_closing", "_connect_timeout_s", "_idle", "_tls")

    def __init__(self, address: RestAddress, *, connect_timeout_s: float) -> None:
        self._address = address
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[httpx.AsyncClient] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: str, **request: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """Send one request over a connection of its own; raises ``httpx.HTTPError``."""
        # The last one used: it is the likeliest to be open, and the others grow old.
        line = self._idle.pop() if self._idle else self._make()
        try:
            response = await line.post(url, **request)
        except BaseException:
            self._discard(line)
            raise
        self._idle.append(line)
        return response

    def _make(self) -> httpx.AsyncClient:
        local = self._address.local
        if self._tls is None:  # made once: it reads every certificate there is
            self._tls = httpx.create_ssl_context(trust_env=not local)
        return httpx.AsyncClient(
            verify=self._tls,
            # Deadlines are the caller's; a connect has its own, so that another address of the
            # same name gets its turn.
            timeout=httpx.Timeout(None, connect=self._connect_timeout_s),
            limits=httpx.Limits(max_connections=1, keepalive_expiry=_IDLE_S),
            # A redirect would carry the token to somebody else.
            follow_redirects=False,
            trust_env=not local,
        )

    def _discard(self, line: httpx.AsyncClient) -> None:
        task = asyncio.get_running_loop().create_task(_close(line), name="fanwire-line")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """End every connection; none may be in use."""
        idle, self._idle = self._idle, []
        for line in idle:
            await _close(line)
        if self._closing:
            await asyncio.wait(self._closing)


async def _close(line: httpx.AsyncClient) -> None:
    # It may be broken, which is why it is closed. (A TimeoutError is an OSError.)
    with contextlib.suppress(httpx.HTTPError, OSError, RuntimeError):
        async with asyncio.timeout(_CLOSE_S):
            await line.aclose()
