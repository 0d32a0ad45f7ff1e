"""The hub's nodes, as they tell about themselves: one entry each in a Redis hash.

For dashboards and the server API's ``info``; delivery never depends on it. A node that told
nothing for a while is left out, and its entry is removed by whoever notices.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import msgspec

from channels.events.hub import NodeReport, NodeReported
from services.store.keys import Keys
from services.store.port import Reply, Store

__all__ = ["Nodes"]

#: A node is taken for gone when it missed this many of its own reports, but not before
#: ``_MIN_PATIENCE_S``: a busy event loop is not a dead one.
_MISSED = 4
_MIN_PATIENCE_S = 5.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(NodeReported).decode


class Nodes:
    """The last report of every node on one store."""

    __slots__ = ("_key", "_now", "_patience_s", "_store")

    def __init__(
        self,
        store: Store,
        keys: Keys,
        *,
        report_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._key = keys.nodes()
        self._patience_s = max(_MISSED * report_s, _MIN_PATIENCE_S)
        self._now = now

    async def tell(self, report: NodeReported) -> None:
        """Replace the report of a node; raises ``StoreError``."""
        await self._store.execute("HSET", self._key, report.data.node, _encode(report))

    async def forget(self, node: str) -> None:
        """Remove a node that ends; raises ``StoreError``."""
        await self._store.execute("HDEL", self._key, node)

    async def all(self) -> list[NodeReport]:
        """Return the reports of the nodes that live, in the order of their ids.

        Raises:
            StoreError: they could not be read.
        """
        reply = await self._store.execute("HGETALL", self._key)
        live, dead = [], []
        for node, text in _pairs(reply):
            try:
                report = _decode(text)
            except msgspec.DecodeError:  # another version's, or somebody else's
                dead.append(node)
                continue
            if self._now() - report.time.timestamp() > self._patience_s:
                dead.append(node)
            else:
                live.append(report.data)
        if dead:
            await self._store.execute("HDEL", self._key, *dead)
        return sorted(live, key=lambda report: report.node)


def _pairs(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Return the fields of a hash, which RESP3 sends as a map and RESP2 as a list."""
    if isinstance(reply, dict):
        return [(field, cast(bytes, value)) for field, value in reply.items()]
    flat = cast("list[bytes]", reply)
    return list(zip(flat[::2], flat[1::2], strict=True))
