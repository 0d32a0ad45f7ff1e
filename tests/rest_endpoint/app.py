"""The REST API as an ASGI application: paths, statuses, encodings and errors as documented."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import Counter
from typing import Any
from urllib.parse import unquote_to_bytes

from .backend import ServerError
from .database import READ_ONLY, Answer, Database
from .faults import Fault

__all__ = ["RestApp"]

_MAX_REQUEST_BYTES = 10 * 1024 * 1024
_WRONG_TOKEN = "WRONGPASS invalid or missing auth token"


class RestApp:
    """One database. Attributes may be read and set from another thread."""

    def __init__(self, url: str, *, token: str, read_only_token: str) -> None:
        self.database = Database(url)
        self.token = token
        self.read_only_token = read_only_token
        #: Requests, by path.
        self.requests: Counter[str] = Counter()
        #: Headers of the last request, names in lower case.
        self.headers: dict[str, str] = {}
        #: What happens to the next requests, one each.
        self.faults: list[Fault] = []
        #: Addresses that connections came from.
        self.peers: set[tuple[str, int]] = set()
        #: Requests that are held back now.
        self.holding = 0
        #: What the last answer gave.
        self.sync_token = ""
        self._released = asyncio.Event()
        self._syncs = 0
        #: Set when the server is about to accept; its socket listens already.
        self.started = threading.Event()

    # -- ASGI ------------------------------------------------------------------------------

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert scope["type"] == "http"
        self.peers.add(scope["client"])
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and (answered := await self._before(fault, receive)) is not None:
            await _send(send, *answered)
            return
        status, document = await self._answer(scope, body)
        if fault is not None:
            document = await self._after(fault, document, receive)
        payload = json.dumps(document).encode()
        headers = [(b"content-type", b"application/json")]
        self._syncs += 1
        self.sync_token = f"token-{self._syncs}"
        headers.append((b"upstash-sync-token", self.sync_token.encode()))
        if fault is Fault.TRUNCATE:
            headers.append((b"content-length", b"%d" % len(payload)))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            half = payload[: len(payload) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            _transport(receive).close()
            return
        await _send(send, status, headers, payload)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        self.started.set()
        await receive()
        await self.database.close()
        await send({"type": "lifespan.shutdown.complete"})

    # -- faults ----------------------------------------------------------------------------

    async def _before(
        self, fault: Fault, receive: Any
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        html = [(b"content-type", b"text/html")]
        page = b"<html><body>Service Unavailable</body></html>"
        match fault:
            case Fault.RESET:
                _transport(receive).abort()
                return 200, [], b""
            case Fault.STALL:
                await self._hold()
                _transport(receive).abort()
                return 200, [], b""
            case Fault.TOO_MANY:
                error = b'{"error":"ERR max requests limit exceeded"}'
                return 429, [(b"content-type", b"application/json")], error
            case Fault.ERROR_500:
                return 500, [(b"content-type", b"application/json")], b'{"error":"ERR internal"}'
            case Fault.HTML_503:
                return 503, html, page
            case Fault.HTML_200:
                return 200, html, page
            case Fault.REDIRECT:
                return 307, [(b"location", b"http://127.0.0.1:1/")], b""
        return None

    async def _after(self, fault: Fault, document: Any, receive: Any) -> Any:
        match fault:
            case Fault.DROP:
                _transport(receive).abort()
            case Fault.HANG:
                await self._hold()
            case Fault.ODD_JSON:
                return {"answer": document}
            case Fault.PLAIN:
                return {"result": "not base64!"}
        return document

    async def _hold(self) -> None:
        self._released.clear()
        self.holding += 1
        await self._released.wait()
        self.holding -= 1

    @property
    def commands(self) -> Counter[str]:
        """Commands by name, without those inside scripts."""
        return self.database.commands

    def release(self) -> None:
        """Let requests that hang go on; call it in the endpoint's own loop."""
        self._released.set()

    # -- the API ---------------------------------------------------------------------------

    async def _answer(self, scope: dict[str, Any], body: bytes) -> tuple[int, Any]:
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["raw_path"].partition(b"?")[0]
        query = _query(scope["query_string"])
        try:
            allowed = self._authorise(scope["method"], query, body)
            encoding = self.headers.get("upstash-encoding", "")
            encode = _base64 if encoding == "base64" else _text
            name = path.strip(b"/").decode("latin-1")
            self.requests[f"/{name}" if name in {"", "pipeline", "multi-exec"} else "path"] += 1
            if name in {"pipeline", "multi-exec"}:
                return await self._many(name, _commands(body), allowed, encode)
            if name:
                command = [unquote_to_bytes(part) for part in path.strip(b"/").split(b"/")]
                if body:
                    command.append(body)
                for option, value in query:
                    if option != b"_token":
                        command += [option, value] if value else [option]
            else:
                command = _command(_json(body))
            result = await self.database.run(command, allowed)
        except Answer as answer:
            return answer.status, {"error": str(answer)}
        if isinstance(result, Exception):
            return 400, {"error": str(result)}
        return 200, {"result": encode(result)}

    def _authorise(
        self, method: str, query: list[tuple[bytes, bytes]], body: bytes
    ) -> set[str] | None:
        """Return the commands that the token allows, None for all."""
        if method not in {"GET", "HEAD", "POST", "PUT"}:
            raise Answer(405, "ERR method not allowed")
        if len(body) > _MAX_REQUEST_BYTES:
            raise Answer(400, "ERR max request size exceeded")
        token = dict(query).get(b"_token", b"").decode("latin-1")
        kind, _, given = self.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            token = given
        if token == self.token:
            return None
        if token == self.read_only_token:
            return READ_ONLY
        raise Answer(401, _WRONG_TOKEN)

    async def _many(
        self, name: str, commands: list[list[Any]], allowed: set[str] | None, encode: Any
    ) -> tuple[int, Any]:
        if name == "multi-exec":
            for command in commands:
                self.database.check(command, allowed)
            results = await self.database.multi(commands)
        else:
            results = []
            for command in commands:
                try:
                    results.append(await self.database.run(command, allowed))
                except Answer as answer:
                    results.append(answer)
        return 200, [
            {"error": str(result)} if isinstance(result, Exception) else {"result": encode(result)}
            for result in results
        ]


# -- helpers --------------------------------------------------------------------------------


async def _send(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def _transport(receive: Any) -> Any:
    """Return the connection below uvicorn's request: ASGI has no word for cutting it."""
    return receive.__self__.transport


def _query(raw: bytes) -> list[tuple[bytes, bytes]]:
    pairs = []
    for part in raw.split(b"&"):
        if part:
            name, _, value = part.replace(b"+", b" ").partition(b"=")
            pairs.append((unquote_to_bytes(name), unquote_to_bytes(value)))
    return pairs


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise Answer(400, "ERR failed to parse command") from None


def _command(given: Any) -> list[Any]:
    if not isinstance(given, list) or not given:
        raise Answer(400, "ERR empty command")
    return [_argument(one) for one in given]


def _commands(body: bytes) -> list[list[Any]]:
    given = _json(body)
    if not isinstance(given, list) or not given:
        raise Answer(400, "ERR empty pipeline request")
    return [_command(one) for one in given]


def _argument(one: Any) -> Any:
    match one:
        case bool():
            return "true" if one else "false"
        case str() | int() | float():
            return one
    raise Answer(400, "ERR unsupported argument type")


def _base64(reply: Any) -> Any:
    match reply:
        case b"OK":
            return "OK"
        case bytes():
            return base64.b64encode(reply).decode()
        case list():
            return [_base64(one) for one in reply]
    return _text(reply)


def _text(reply: Any) -> Any:
    match reply:
        case bytes():
            return reply.decode("utf-8", "replace")
        case list():
            return [_text(one) for one in reply]
        case ServerError():
            return str(reply)
    return reply
