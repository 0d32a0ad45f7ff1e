"""The shared fixtures do what tests rely on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop

from .servers import ValkeyServer


def test_every_test_finds_an_empty_server(valkey: ValkeyServer) -> None:
    """Keys and scripts of one test are not there for the next."""
    with valkey.client() as client:
        client.set("left", "behind")
        sha = client.script_load("return 1")
    valkey.empty()
    with valkey.client() as client:
        assert (client.dbsize(), client.script_exists(sha)) == (0, [False])


def test_a_server_of_ones_own_stops_and_starts(
    valkey_server: Callable[[], ValkeyServer],
) -> None:
    """The factory's servers are apart from each other and keep their data and address."""
    one, other = valkey_server(), valkey_server()
    with one.client() as client:
        client.set("kept", "yes")
    one.stop()
    one.start()
    with one.client() as mine, other.client() as theirs:
        assert (mine.get("kept"), theirs.get("kept")) == (b"yes", None)


async def test_coroutines_run_on_uvloop() -> None:
    """Tests run on the event loop of production."""
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
