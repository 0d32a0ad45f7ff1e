"""A hub's server API that executes publications by key and fails on demand."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx

Fault = Callable[[httpx.Request], httpx.Response]


class FakeApi:
    """Answers like the hub; ``faults`` are used up first, one a request."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Any]] = {}
        self.seen: dict[tuple[str, str], int] = {}
        self.requests: list[httpx.Request] = []
        self.faults: list[Fault | None] = []
        self.refuse: dict[str, tuple[int, str]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or do what the next fault says."""
        self.requests.append(request)
        fault = self.faults.pop(0) if self.faults else None
        return fault(request) if fault is not None else self.execute(request)

    def execute(self, request: httpx.Request) -> httpx.Response:
        """Answer a request as the hub would."""
        body = json.loads(request.content)
        method = request.url.path.removeprefix("/api/")
        if method == "batch":
            replies = []
            for command in body["commands"]:
                answer = self.publish(command["publish"])
                replies.append({"publish": answer["result"]} if "result" in answer else answer)
            return httpx.Response(200, json={"replies": replies})
        if method == "broadcast":
            answers = [self.publish({**body, "channel": name}) for name in body["channels"]]
            return httpx.Response(200, json={"result": {"responses": answers}})
        if method == "channels":
            names = {name: {"num_clients": len(log)} for name, log in self.logs.items()}
            return httpx.Response(200, json={"result": {"channels": names}})
        return httpx.Response(200, json=self.publish(body))

    def publish(self, command: dict[str, Any]) -> dict[str, Any]:
        """Publish one value, once a key."""
        channel = command["channel"]
        if channel in self.refuse:
            code, message = self.refuse[channel]
            return {"error": {"code": code, "message": message}}
        log = self.logs.setdefault(channel, [])
        key = (channel, command["idempotency_key"])
        if key not in self.seen:
            log.append(command["data"])
            self.seen[key] = len(log)
        return {"result": {"epoch": "e1", "offset": self.seen[key]}}

    def lose_reply(self, request: httpx.Request) -> httpx.Response:
        """Execute the request and lose the answer on its way back."""
        self.execute(request)
        raise httpx.ReadError("connection reset", request=request)


def answer(status: int, body: object = None, **headers: str) -> Fault:
    """Return a fault: the given answer, without executing anything."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: httpx.Response(status, content=content, headers=names)


def unreachable(request: httpx.Request) -> httpx.Response:
    """Fail before anything is sent."""
    raise httpx.ConnectError("connection refused", request=request)


class _Handler(http.server.BaseHTTPRequestHandler):
    api: FakeApi
    drop: list[bool]

    def do_POST(self) -> None:
        """Answer one request, or execute it and hang up."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        request = httpx.Request("POST", "http://hub" + self.path, content=content)
        request.headers.update(dict(self.headers))
        reply = self.api(request)
        if self.drop:
            self.drop.pop()
            self.close_connection = True
            return
        self.send_response(reply.status_code)
        self.send_header("Content-Length", str(len(reply.content)))
        self.end_headers()
        self.wfile.write(reply.content)

    def log_message(self, *args: Any) -> None:
        """Keep the test's output clean."""


@contextlib.contextmanager
def serving(api: FakeApi, *, drop: int = 0) -> Iterator[str]:
    """Serve ``api`` on a real socket and yield its address; lose the first ``drop`` replies."""
    handler = type("Handler", (_Handler,), {"api": api, "drop": [True] * drop})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
