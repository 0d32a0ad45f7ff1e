"""The clock that all nodes agree on."""

from __future__ import annotations

import asyncio
import time

import pytest

from channels.errors import StoreUnavailable
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
    assert clock.now_ms() == 1_000_000
