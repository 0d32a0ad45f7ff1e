"""Nodes: who told lately, and who is gone."""

from __future__ import annotations

import time

import pytest

from channels.events.hub import NodeReport, NodeReported
from hub.nodes import Nodes
from services.store.endpoint import Endpoint
from services.store.keys import Keys
from services.store.tcp import TcpStore
from tests.servers import ValkeyServer


@pytest.mark.parametrize("protocol", [2, 3])
async def test_the_dead_are_left_out_and_removed(valkey: ValkeyServer, protocol: int) -> None:
    """A node that told nothing for some reports is gone, and so is what nobody understands."""
    endpoint = Endpoint.from_url(f"{valkey.url}&protocol={protocol}")
    async with TcpStore(endpoint) as store:
        key = Keys().nodes()
        now = Nodes(store, Keys(), report_s=2)
        await now.tell(NodeReported(data=NodeReport(node="b", clients=2)))
        await now.tell(NodeReported(data=NodeReport(node="a", clients=1)))
        await now.tell(NodeReported(data=NodeReport(node="a", clients=3)))
        await store.execute("HSET", key, "c", b"not a report")
        assert [(report.node, report.clients) for report in await now.all()] == [("a", 3), ("b", 2)]
        assert await store.execute("HLEN", key) == 2
        await now.forget("a")
        assert [report.node for report in await now.all()] == ["b"]
        later = Nodes(store, Keys(), report_s=2, now=lambda: time.time() + 9)
        assert await later.all() == []
        assert await store.execute("HLEN", key) == 0
