"""The clock that all nodes agree on."""

from __future__ import annotations

import asyncio
import time

import pytest

from channels.errors import StoreRefused, StoreUnavailable
from services import clock as module
from services.clock import Clock
from services.store.port import Store


@pytest.fixture
def store(any_store: Store) -> Store:
    """Of each kind: a service must not see a difference."""
    return any_store


@pytest.mark.parametrize("skew_s", [-3_600, 0, 45.5])
async def test_a_wrong_clock_is_corrected(store: Store, skew_s: float) -> None:
    """Whatever this machine believes, the server's time holds."""
    clock = Clock(store, now=lambda: time.time() + skew_s)
    await clock.measure()
    assert abs(clock.now_ms() - time.time() * 1000) < 1_000
    assert abs(clock.offset_ms + skew_s * 1000) < 1_000


async def test_a_right_clock_is_left_alone(store: Store) -> None:
    """Half of a round trip is no reason to turn it."""
    clock = Clock(store)
    await clock.measure()
    assert clock.offset_ms == 0


async def test_it_measures_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the server is away at first."""
    monkeypatch.setattr(module, "_AGAIN_S", 0.001)
    asked = asyncio.Event()

    class Away:
        def __init__(self) -> None:
            self.calls = 0

        async def execute(self, *command: object) -> list[bytes]:
            self.calls += 1
            if self.calls < 3:
                raise StoreUnavailable("away")
            asked.set()
            return [b"1000", b"0"]

    clock = Clock(Away(), now=lambda: 900.0)  # type: ignore[arg-type]  # as much as it asks of one
    running = asyncio.create_task(clock.run())
    async with asyncio.timeout(5):
        await asked.wait()
    running.cancel()
    await asyncio.wait({running})
    assert 1_000_000 <= clock.now_ms() + 1 < 1_005_000


class Server:
    """Says what time it is, after as long as a test wants."""

    def __init__(self) -> None:
        self.at_s = 1_000.0
        self.ticks = 0.0
        self.takes_s = 0.0
        self.asked = asyncio.Event()

    async def execute(self, *_command: object) -> list[bytes]:
        """Answer TIME."""
        self.asked.set()
        self.ticks += self.takes_s
        return [b"%d" % int(self.at_s), b"%d" % round(self.at_s % 1 * 1e6)]


@pytest.fixture
def server() -> Server:
    """A server whose clock and ours a test turns."""
    return Server()


async def test_a_jump_of_this_machines_clock_ends_nothing(server: Server) -> None:
    """Between measurements a clock counts that nobody sets."""
    own_s = [1_000.0]
    clock = Clock(server, now=lambda: own_s[0], ticks=lambda: server.ticks)  # type: ignore[arg-type]
    await clock.measure()
    for jump_s in (3_600.0, -7_200.0):
        own_s[0] += jump_s
        assert clock.now_ms() == 1_000_000
    server.ticks += 2.5
    assert clock.now_ms() == 1_002_500


async def test_a_slow_answer_does_not_turn_a_clock_that_may_be_right(server: Server) -> None:
    """Only what cannot be is corrected: the server said it at some moment of the round trip."""
    clock = Clock(server, now=lambda: 1_000.0, ticks=lambda: server.ticks)  # type: ignore[arg-type]
    await clock.measure()
    server.takes_s, server.at_s = 3.0, 1_000.5
    await clock.measure()
    assert clock.now_ms() == 1_003_000
    server.at_s = 900.0
    await clock.measure()
    assert clock.now_ms() == 901_500


async def test_a_server_that_jumps_is_followed_and_told_of(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """All nodes go by it, so that none ends what another one keeps."""
    clock = Clock(server, now=lambda: 1_000.0, ticks=lambda: server.ticks)  # type: ignore[arg-type]
    await clock.measure()
    assert not caplog.records
    server.at_s += 3_600
    await clock.measure()
    assert clock.now_ms() == 4_600_000
    assert clock.offset_ms == 3_600_000
    assert "the server's clock is 3600.0 s ahead of what it was" in caplog.text


async def test_a_machine_that_slept_asks_at_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it counted is too little by then."""
    monkeypatch.setattr(module, "_GLANCE_S", 0.001)
    own_s = [1_000.0]
    clock = Clock(server, now=lambda: own_s[0], ticks=lambda: server.ticks)  # type: ignore[arg-type]
    await clock.measure()
    running = asyncio.create_task(clock.run())
    await asyncio.sleep(0)
    server.asked.clear()
    own_s[0] += 600
    server.at_s += 600
    async with asyncio.timeout(5):
        await server.asked.wait()
    assert clock.now_ms() == 1_600_000
    running.cancel()
    await asyncio.wait({running})


async def test_what_is_no_time_is_refused(server: Server) -> None:
    """And what was known holds."""

    async def nonsense(*_command: object) -> list[bytes]:
        return [b"now", b"0"]

    clock = Clock(server, now=lambda: 7.0, ticks=lambda: 0.0)  # type: ignore[arg-type]
    server.execute = nonsense  # type: ignore[method-assign]
    with pytest.raises(StoreRefused, match="expected the server's time"):
        await clock.measure()
    assert clock.now_ms() == 7_000
    assert not clock.measured
