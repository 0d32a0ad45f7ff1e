"""Servers of other people, run beside the hub: the contract between them and the load client.

A module ``benchmarks/peers/<name>.py`` defines ``PEER: Peer``. A peer serves one channel to
everybody who connects, with the settings its users run it with, and sends a message to all
of them whenever the load client asks for it.

Every message is about 200 bytes and contains the marker ``~SEQ:00000042~`` once. The load
client finds the marker in whatever envelope the peer puts around it, so it knows no
envelope; it counts every message of every connection. Each connection must see 0, 1, 2, ...
without a hole or a repetition, so a new connection gets only what is published after it.
"""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "CHANNEL_DIGITS",
    "MARKER",
    "NOW_MS",
    "PAYLOAD_BYTES",
    "SEQ",
    "Endpoint",
    "Peer",
    "Publish",
    "Subscribe",
    "all_peers",
    "http_publish",
    "payload",
]

#: Stands for the 8 digits of a message's number in what is published.
SEQ = "@@SEQ@@"
#: Stands for the 8 digits of a channel's number, where a server has many channels.
CHANNEL_DIGITS = "@@CHANNEL@@"
#: Stands for the 13 digits of the time of publishing, in milliseconds.
NOW_MS = "@@NOW_MS@@"
#: What the load client looks for in everything it receives.
MARKER = f"~SEQ:{SEQ}~"
#: Size of a message's payload once the digits are filled in.
PAYLOAD_BYTES = 200

_DIGITS = 8


@dataclass(frozen=True)
class Subscribe:
    """How a connection of the load client becomes a subscriber.

    Attributes:
        path: of the HTTP upgrade (WebSocket) or the GET (EventSource), with its query.
        hello: text messages to send once upgraded, each in a frame of its own.
        skip: frames before the first message, for the reader; nothing depends on it, for
            messages are recognised by their marker.
        ready: text that the server sends when the subscription stands. Empty where the reply
            to the upgrade already says so.
        ping, pong: the server's ping, a whole text message, and what to answer it with
            (``{}`` and ``{}`` for Centrifugal's protocol, ``2`` and ``3`` for Engine.IO).
        many_channels: ``path`` or ``hello`` contain :data:`CHANNEL_DIGITS`, so that each
            connection can have a channel of its own.
        recover: messages to send instead of ``hello`` when a connection comes back, with
            ``@@EPOCH@@`` and ``@@OFFSET@@`` of the reply that it got when it was new.
    """

    path: str
    hello: tuple[str, ...] = ()
    skip: int = 0
    ready: str = ""
    ping: str = ""
    pong: str = ""
    many_channels: bool = False
    recover: tuple[str, ...] = ()


@dataclass(frozen=True)
class Publish:
    """How the load client makes the server send one message to everybody.

    ``template`` is one request, raw: HTTP/1.1 on a connection that stays open, or RESP when
    ``protocol`` is ``"resp"``. Every :data:`SEQ` in it is replaced by 8 digits, so lengths
    inside it count 8 there (:func:`http_publish` does). Several requests may be sent before
    the first is answered. Any status but 2xx, any RESP error, fails the run.
    """

    host: str
    port: int
    template: bytes
    protocol: str = "http"


@dataclass(frozen=True)
class Endpoint:
    """A running server: how to subscribe, over what it offers, and how to publish.

    ``pids`` are its processes, for those who measure memory and processor time.
    """

    ws: Subscribe | None
    sse: Subscribe | None
    publish: Publish
    pids: tuple[int, ...] = ()


class Peer(Protocol):
    """A server that can be measured; ``name`` is what tables call it."""

    name: str

    def missing(self) -> str | None:
        """Return why it cannot run here and how to get it; None when it can."""

    def versions(self) -> dict[str, str]:
        """Return the versions of what it is made of, by name, for the report."""

    def running(self, port: int, core: int | None) -> AbstractContextManager[Endpoint]:
        """Run the server on ``127.0.0.1:port``, alone on ``core`` unless that is None.

        Enters when connections are accepted; leaves when the process, ended by its id, has
        ended. ``RuntimeError`` says why it did not start.
        """


def payload(size: int = PAYLOAD_BYTES) -> str:
    """Return a message's payload: JSON, ``size`` bytes once the digits are filled in."""
    start, end = f'{{"seq":"{MARKER}","fill":"', '"}'
    length = len(start) + len(end) + _DIGITS - len(SEQ)
    return start + "x" * (size - length) + end


def http_publish(port: int, path: str, body: str, *, headers: tuple[str, ...] = ()) -> Publish:
    """Return a POST of ``body``, which contains :data:`SEQ`, to a server on loopback.

    ``headers`` are lines such as ``Content-Type: application/json``.
    """
    length = len(body.encode()) + body.count(SEQ) * (_DIGITS - len(SEQ))
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Length: {length}",
        *headers,
    )
    request = "\r\n".join(lines) + "\r\n\r\n" + body
    return Publish("127.0.0.1", port, request.encode())


def all_peers() -> list[Peer]:
    """Return the peer of each module in this folder, in the order of their files."""
    found: list[Peer] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if not module.ispkg and not module.name.startswith("_"):
            loaded = importlib.import_module(f"{__name__}.{module.name}")
            if (peer := getattr(loaded, "PEER", None)) is not None:
                found.append(peer)
    return found
