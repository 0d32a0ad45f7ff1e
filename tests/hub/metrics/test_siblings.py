"""Workers ask each other for their metrics, and do without whoever does not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hub.histogram import Histogram
from hub.metrics import siblings as module
from hub.metrics.process import ProcessUse
from hub.metrics.siblings import ALONE, Siblings, Slot
from hub.metrics.snapshot import Snapshot
from hub.traffic import Traffic
from services.follower import FollowerStats


@pytest.fixture
def directory() -> Iterator[str]:
    """A directory with a name short enough for sockets."""
    with TemporaryDirectory(prefix="fw-") as name:
        yield name


def _snapshot(publications: int) -> Snapshot:
    return Snapshot(
        version="1",
        started_at=0.0,
        traffic=Traffic(publications=publications),
        connections={},
        accepted={},
        rooms=0,
        subscriptions=0,
        follower=FollowerStats(),
        store_ready=True,
        loop_lag=Histogram(),
        process=ProcessUse.now(),
    )


def _siblings(
    directory: str, number: int, take: Callable[[], Snapshot], count: int = 2
) -> Siblings:
    return Siblings(Slot(number=number, count=count, directory=directory), take)


def _files(directory: str) -> list[Path]:
    return list(Path(directory).iterdir())


async def _publications(siblings: Siblings) -> dict[int, int | None]:
    told = await siblings.ask()
    return {n: None if one is None else one.traffic.publications for n, one in told.items()}


async def test_each_tells_what_all_count_now(directory: str) -> None:
    """Both have the same answer, as of the question; who is not there yet, or any more, is None."""
    counts = [10, 20]
    first, second = (_siblings(directory, n, lambda n=n: _snapshot(counts[n])) for n in range(2))
    async with first:
        assert await _publications(first) == {0: 10, 1: None}
        async with second:
            assert await _publications(first) == {0: 10, 1: 20}
            counts[:] = [11, 21]
            assert await _publications(first) == await _publications(second) == {0: 11, 1: 21}
        assert await _publications(first) == {0: 11, 1: None}
    assert _files(directory) == []


async def test_a_successor_takes_the_place_of_one_that_was_killed(directory: str) -> None:
    """A kill leaves the socket's file behind: nobody answers there, and it is in nobody's way."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(Path(directory, "1.sock")))
    async with _siblings(directory, 0, partial(_snapshot, 1)) as first:
        assert await _publications(first) == {0: 1, 1: None}
        async with _siblings(directory, 1, partial(_snapshot, 2)):
            assert await _publications(first) == {0: 1, 1: 2}


async def test_one_that_stands_still_delays_nobody_for_long(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts, because the kernel does, and says nothing: it counts as down."""
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    with socket.socket(socket.AF_UNIX) as still:
        still.bind(str(Path(directory, "1.sock")))
        still.listen()
        async with (
            _siblings(directory, 0, partial(_snapshot, 1), count=3) as first,
            _siblings(directory, 2, partial(_snapshot, 3), count=3),
        ):
            async with asyncio.timeout(5):
                assert await _publications(first) == {0: 1, 1: None, 2: 3}


async def test_half_an_answer_is_none(directory: str) -> None:
    """A worker that dies while it tells leaves a text that ends too early."""

    def die(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_snapshot(2).encode()[:-10])
        writer.close()

    server = await asyncio.start_unix_server(die, Path(directory, "1.sock"))
    async with server, _siblings(directory, 0, partial(_snapshot, 1)) as first:
        assert await _publications(first) == {0: 1, 1: None}


async def test_without_a_place_for_sockets_it_serves_all_the_same(
    directory: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Metrics never keep a worker from its clients; the log says what is missing."""
    async with _siblings(f"{directory}/{'long' * 40}", 0, partial(_snapshot, 1)) as first:
        assert await _publications(first) == {0: 1, 1: None}
    assert "seen only by itself" in caplog.text


async def test_one_alone_has_nobody_to_ask(directory: str) -> None:
    """A single process opens no socket."""
    async with Siblings(ALONE, partial(_snapshot, 5)) as alone:
        assert await _publications(alone) == {0: 5}
