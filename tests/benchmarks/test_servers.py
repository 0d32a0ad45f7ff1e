"""The hub and the limit under the load client, as the scenarios run them, but small."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from benchmarks.harness.fanwire_hub import FanwireHub
from benchmarks.harness.limit import Limit
from benchmarks.harness.load_client import Group, Load, held, run_load
from benchmarks.harness.ports import free_port
from benchmarks.harness.processes import resident_bytes
from benchmarks.peers import Peer

CONNECTIONS = 20


def servers() -> list[Peer]:
    """Return what the scenarios measure of ours."""
    return [
        Limit(),
        FanwireHub(),
        FanwireHub("authenticated", authenticated=True),
        FanwireHub("redis-py", module="benchmarks.redis_py_hub"),
    ]


@pytest.mark.parametrize("server", servers(), ids=lambda server: server.name)
def test_everybody_gets_everything(server: Peer) -> None:
    """WebSockets and, where anybody may, event streams get every message once and in order."""
    port = free_port()
    with server.running(port, None) as endpoint:
        assert endpoint.ws is not None
        groups = [Group(endpoint.ws, CONNECTIONS)]
        if server.name != "authenticated":
            assert endpoint.sse is not None
            groups.append(Group(endpoint.sse, CONNECTIONS, sse=True))
        load = Load(groups=groups, publish=endpoint.publish, window=10, seconds=0.3, warm_up_s=0.1)
        result = run_load(load, port)
        assert resident_bytes(endpoint.pids) > 0
    assert result.errors == 0
    assert result.received == result.published * len(groups) * CONNECTIONS > 0


def test_channels_of_their_own() -> None:
    """With many channels each connection gets the messages of its own and no others."""
    port = free_port()
    with FanwireHub(many_channels=True).running(port, None) as endpoint:
        assert endpoint.ws is not None
        load = Load(
            groups=[Group(endpoint.ws, CONNECTIONS)],
            publish=endpoint.publish,
            channels=CONNECTIONS // 2,
            window=10,
            seconds=0.3,
        )
        result = run_load(load, port)
    assert result.errors == 0
    assert result.received == result.published * 2 > 0


def test_a_storm_is_recovered() -> None:
    """Connections that were cut come back and get what they missed."""
    port, missed = free_port(), 7
    with FanwireHub().running(port, None) as endpoint:
        assert endpoint.ws is not None
        load = Load(
            groups=[Group(endpoint.ws, CONNECTIONS)], publish=endpoint.publish, storm=missed
        )
        result = run_load(load, port)
    assert result.errors == 0
    assert result.received == missed * CONNECTIONS
    assert 0 < result.rejoin_s <= result.seconds


def test_connections_are_held() -> None:
    """Held connections stand beside others until the context ends."""
    port = free_port()
    with Limit().running(port, None) as endpoint:
        assert endpoint.ws is not None
        load = Load(groups=[Group(endpoint.ws, CONNECTIONS)])
        with held(load, port):
            assert run_load(load, port).connections == CONNECTIONS


def test_a_held_connection_that_is_cut_is_told() -> None:
    """A server that ends before its connections were let go is no success."""
    port = free_port()
    with ExitStack() as server, pytest.raises(RuntimeError, match="cut the connection"):  # noqa: PT012 - it raises as the context ends
        endpoint = server.enter_context(Limit().running(port, None))
        assert endpoint.ws is not None
        with held(Load(groups=[Group(endpoint.ws, CONNECTIONS)]), port):
            server.close()
