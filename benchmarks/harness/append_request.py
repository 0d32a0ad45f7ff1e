"""The request that appends a publication, as bytes that the load client can repeat.

Publishing straight to Redis is what a service in process does. The event log itself says
which script, keys and arguments that takes, so that nothing here has to know them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import redis

from benchmarks.peers import CHANNEL_DIGITS, NOW_MS, SEQ, Publish, payload
from channels.catalogue import Catalogue
from channels.publication import encode_body
from services.event_log import EventLog
from services.store.keys import Keys
from services.store.packing import pack
from services.store.port import Argument, Reply, Store
from services.store.script import Script

__all__ = ["append_publish"]

#: Digits that stand nowhere else in a request, until the blanks take their place. What the
#: load client puts there has as many.
_CHANNEL = "98765432"
_SEQ = "87654321"
_NOW_MS = "9182736455463"
#: The script is told the time; of its numbers, the one so close to now is that.
_NOW_WITHIN_MS = 60_000


class _Recorder:
    """A store that keeps the one command that it is asked to run."""

    def __init__(self) -> None:
        self.script: Script | None = None
        self.command = b""

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        timeout_s: float | None = None,  # noqa: ARG002 - the store's signature
    ) -> Reply:
        """Take the script for appended."""
        self.script = script
        timeless = (_NOW_MS if _is_now(argument) else argument for argument in args)
        self.command = pack(("EVALSHA", script.sha, len(keys), *keys, *timeless))
        return [1, b"epoch", 1, 0]


def _is_now(argument: Argument) -> bool:
    now_ms = time.time_ns() // 1_000_000
    return isinstance(argument, int) and abs(argument - now_ms) < _NOW_WITHIN_MS


def append_publish(channel: str, redis_port: int) -> Publish:
    """Return how to publish to ``channel``, which may contain :data:`CHANNEL_DIGITS`.

    The script is loaded into the Redis on ``redis_port``.
    """
    recorder = _Recorder()
    found = Catalogue(allow_undeclared=True).find(channel.replace(CHANNEL_DIGITS, _CHANNEL))
    body = encode_body(payload().replace(SEQ, _SEQ).encode())
    log = EventLog(cast("Store", recorder), Keys())
    asyncio.run(log.append(found, body, id=f"bench-{_SEQ}"))
    assert recorder.script is not None
    with redis.Redis(port=redis_port) as connection:
        connection.script_load(recorder.script.text)
    template = recorder.command
    for digits, blank in ((_CHANNEL, CHANNEL_DIGITS), (_SEQ, SEQ), (_NOW_MS, NOW_MS)):
        template = template.replace(digits.encode(), blank.encode())
    return Publish("127.0.0.1", redis_port, template, protocol="resp")
