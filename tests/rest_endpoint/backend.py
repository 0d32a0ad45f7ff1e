"""The way to the server: bare hiredis on a stream, so that replies and errors stay as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import parse_url

__all__ = ["Backend", "ServerError"]


class ServerError(Exception):
    """An error reply, word for word."""


class _Connection:
    """One connection, RESP2."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._parser = hiredis.Reader(replyError=ServerError, protocolError=ServerError)

    async def run(self, command: Sequence[Any]) -> Any:
        """Send one command and return its reply; errors are returned."""
        self.writer.write(hiredis.pack_command(tuple(command)))
        while (reply := self._parser.gets()) is False:
            received = await self._reader.read(65_536)
            if not received:
                raise ConnectionResetError("the server behind the endpoint has gone")
            self._parser.feed(received)
        return reply


class Backend:
    """Runs commands, each request on a connection of its own while it lasts."""

    def __init__(self, url: str) -> None:
        self._options = dict(parse_url(url))
        self._idle: list[_Connection] = []

    async def run(self, *commands: Sequence[Any]) -> list[Any]:
        """Run ``commands`` one after another; an error reply is returned as ``ServerError``."""
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            replies = [await connection.run(command) for command in commands]
        except BaseException:
            connection.writer.close()
            raise
        self._idle.append(connection)
        return replies

    async def _connect(self) -> _Connection:
        options = self._options
        if path := options.get("path"):
            streams = await asyncio.open_unix_connection(path)
        else:
            streams = await asyncio.open_connection(options["host"], options.get("port", 6379))
        connection = _Connection(*streams)
        if password := options.get("password"):
            await connection.run(["AUTH", options.get("username") or "default", password])
        if database := options.get("db"):
            await connection.run(["SELECT", database])
        return connection

    async def close(self) -> None:
        """End the connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.writer.close()
