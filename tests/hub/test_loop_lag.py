"""The lag of the event loop: every beat counts, those of a stall too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from hub.histogram import BOUNDS_S
from hub.loop_lag import PERIOD_S, LoopLag


class Timer:
    """A timer that a test fires."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waiting: list[Callable[[], None]] = []
        self.delays: list[float] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Take note."""
        self.delays.append(delay_s)
        self.waiting.append(callback)
        return self  # type: ignore[return-value]  # what is called of a handle is cancel

    def cancel(self) -> None:
        """Forget what waits."""
        self.waiting.clear()

    def fire(self, *, after_s: float) -> None:
        """Let time pass, then call what waits."""
        self.now += after_s
        self.waiting.pop()()


@pytest.fixture
def timer() -> Timer:
    """What the loop would do."""
    return Timer()


@pytest.fixture
def lag(timer: Timer) -> LoopLag:
    """A lag that has begun."""
    lag = LoopLag(timer.call_later, lambda: timer.now)
    lag.start()
    return lag


def test_a_beat_in_time_is_no_lag(timer: Timer, lag: LoopLag) -> None:
    """One that comes early is none either, and the next one is due a period after it was."""
    timer.fire(after_s=PERIOD_S - 0.001)
    assert (sum(lag.histogram.counts), lag.histogram.sum_s) == (1, 0)
    assert timer.delays[-1] == pytest.approx(PERIOD_S + 0.001)


def test_every_beat_of_a_stall_counts(timer: Timer, lag: LoopLag) -> None:
    """A stall of 450 ms after a beat was due makes beats 450, 350, 250, 150 and 50 ms late."""
    timer.fire(after_s=PERIOD_S + 0.45)
    assert sum(lag.histogram.counts) == 5
    assert lag.histogram.sum_s == pytest.approx(0.45 + 0.35 + 0.25 + 0.15 + 0.05)
    assert timer.delays[-1] == pytest.approx(0.05)
    timer.fire(after_s=0.05)
    assert sum(lag.histogram.counts) == 6


def test_a_stop_of_an_hour_is_bounded(timer: Timer, lag: LoopLag) -> None:
    """Somebody's SIGSTOP costs neither time nor the figures of the day."""
    timer.fire(after_s=3600)
    assert sum(lag.histogram.counts) == lag.histogram.counts[-1] == 100
    assert 0 < timer.delays[-1] <= PERIOD_S


def test_nothing_beats_after_the_stop(timer: Timer, lag: LoopLag) -> None:
    """Stopping twice is once."""
    lag.stop()
    lag.stop()
    assert timer.waiting == []


async def test_a_blocked_loop_is_seen() -> None:
    """On the real loop, what blocks it for 150 ms is late by 50 ms at least."""
    loop = asyncio.get_running_loop()
    beaten = asyncio.Event()

    def call_later(delay_s: float, beat: Callable[[], None]) -> asyncio.TimerHandle:
        if delay_s < PERIOD_S / 2:  # after a late beat only
            beaten.set()
        return loop.call_later(delay_s, beat)

    lag = LoopLag(call_later)
    lag.start()
    time.sleep(1.5 * PERIOD_S + 0.02)  # noqa: ASYNC251 - the block
    async with asyncio.timeout(10):
        await beaten.wait()
    lag.stop()
    late = sum(
        count for bound, count in zip(BOUNDS_S, lag.histogram.counts, strict=False) if bound > 0.05
    )
    assert late >= 1
