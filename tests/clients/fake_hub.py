"""A hub that speaks just enough of the protocol over a real WebSocket, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed


class FakeHub:
    """Logs by channel, one epoch each; every decision a test wants to make is an attribute."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Any]] = {}
        self.epochs: dict[str, str] = {}
        self.trimmed: dict[str, int] = {}
        self.sockets: dict[ServerConnection, set[str]] = {}
        self.commands: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.connect_errors: list[dict[str, Any]] = []
        self.subscribe_errors: dict[str, list[dict[str, Any]]] = {}
        self.keeps_history = True
        #: How many publications of a channel the next one tells that it supersedes.
        self.skipped: dict[str, int] = {}
        self.ping_s = 25
        self.changed = asyncio.Condition()
        self.url = ""
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        await self.listen(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def listen(self, port: int) -> None:
        """Accept connections."""
        self._server = await serve(self._serve, "127.0.0.1", port, compression=None)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def shut(self) -> None:
        """Stop like a hub that is restarted; the logs stay."""
        if self._server is not None:
            self._server.close(code=3001, reason="shutdown")
            await self._server.wait_closed()

    async def until(self, condition: Any) -> None:
        """Wait until something that the hub saw makes ``condition`` true."""
        async with self.changed:
            await self.changed.wait_for(condition)

    async def publish(self, channel: str, *values: Any) -> None:
        """Append values and push them, all in one frame, to those who are subscribed."""
        log = self.logs.setdefault(channel, [])
        lines = []
        for value in values:
            log.append(value)
            told = {"skipped": count} if (count := self.skipped.pop(channel, 0)) else {}
            push = {"channel": channel, "pub": {"offset": len(log), **told, "data": value}}
            lines.append(json.dumps({"push": push}))
        for socket, channels in list(self.sockets.items()):
            if channel in channels:
                await self.send(socket, "\n".join(lines))

    def supersede(self, channel: str, *values: Any) -> None:
        """Append values that nobody is sent; the next publication tells so."""
        self.logs.setdefault(channel, []).extend(values)
        self.skipped[channel] = self.skipped.get(channel, 0) + len(values)

    async def push(self, push: dict[str, Any]) -> None:
        """Send any push to everybody."""
        for socket in list(self.sockets):
            await self.send(socket, json.dumps({"push": push}))

    async def send(self, socket: ServerConnection, text: str) -> None:
        """Send a frame; a connection that is gone is nobody's fault."""
        with contextlib.suppress(ConnectionClosed):
            await socket.send(text)

    async def cut(self, code: int = 0, reason: str = "") -> None:
        """End every connection: with a close frame, or with code 0 as a broken wire."""
        for socket in list(self.sockets):
            if code:
                await socket.close(code, reason)
            else:
                socket.transport.abort()
                await socket.wait_closed()

    def forget(self, channel: str) -> None:
        """Lose the channel's history."""
        self.logs[channel] = []
        self.epochs[channel] = self.epochs.get(channel, "e") + "'"

    async def _serve(self, socket: ServerConnection) -> None:
        self.sockets[socket] = set()
        try:
            async for frame in socket:
                for line in frame.split("\n"):
                    await self._execute(socket, json.loads(line))
        except ConnectionClosed:
            pass
        finally:
            del self.sockets[socket]
            async with self.changed:
                self.changed.notify_all()

    async def _execute(self, socket: ServerConnection, command: dict[str, Any]) -> None:
        self.commands.append(command)
        if command:
            answer = self._answer(socket, command)
            await self.send(socket, json.dumps({"id": command["id"], **answer}))
        async with self.changed:
            self.changed.notify_all()

    def _answer(self, socket: ServerConnection, command: dict[str, Any]) -> dict[str, Any]:
        if "connect" in command:
            self.tokens.append(command["connect"].get("token", ""))
            if self.connect_errors:
                return {"error": self.connect_errors.pop(0)}
            return {"connect": {"client": "c", "version": "0", "ping": self.ping_s, "pong": True}}
        if "subscribe" in command:
            return self._subscribe(socket, command["subscribe"])
        if "history" in command:
            asked = command["history"]
            found = self._after(asked["channel"], asked.get("since", {}).get("offset", 0))
            page = found if asked["limit"] < 0 else found[: asked["limit"]]
            return {"history": {**self._top(asked["channel"]), "publications": page}}
        if "unsubscribe" in command:
            self.sockets[socket].discard(command["unsubscribe"]["channel"])
            return {"unsubscribe": {}}
        return {"error": {"code": 104, "message": "method not found"}}

    def _subscribe(self, socket: ServerConnection, request: dict[str, Any]) -> dict[str, Any]:
        channel = request["channel"]
        if self.subscribe_errors.get(channel):
            return {"error": self.subscribe_errors[channel].pop(0)}
        self.sockets[socket].add(channel)
        if not self.keeps_history:
            return {"subscribe": {}}
        result: dict[str, Any] = {"recoverable": True, "positioned": True, **self._top(channel)}
        if request.get("recover"):
            result["was_recovering"] = True
            after = request.get("offset", 0)
            same = request.get("epoch", "") == result["epoch"]
            if same and self.trimmed.get(channel, 0) <= after <= result["offset"]:
                result |= {
                    "recovered": True,
                    "offset": after,
                    "publications": self._after(channel, after),
                }
        wish = (request.get("data") or {}).get("snapshot")
        if wish is True or (wish == "gap" and not result.get("recovered")):
            # The state behind a channel: all that was said.
            told = {"snapshot": self.logs[channel], "position": self._top(channel)}
            result["data"] = told
        return {"subscribe": result}

    def _top(self, channel: str) -> dict[str, Any]:
        return {
            "epoch": self.epochs.get(channel, "e"),
            "offset": len(self.logs.setdefault(channel, [])),
        }

    def _after(self, channel: str, offset: int) -> list[dict[str, Any]]:
        values = self.logs.setdefault(channel, [])[offset:]
        return [{"offset": offset + n, "data": value} for n, value in enumerate(values, 1)]
