"""Tasks that must not die in silence."""

from __future__ import annotations

import asyncio

import pytest

from services.store.background import end, spawn


async def test_ends_with_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    """end() returns when the task has cleaned up, and says nothing."""
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    task = spawn(work(), "worker")
    await asyncio.sleep(0)
    await end(task)
    assert cleaned
    assert caplog.records == []
    await end(None)


async def test_a_bug_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """A task that ends by an exception is in the log before anybody asks."""

    async def work() -> None:
        raise RuntimeError("a bug")

    task = spawn(work(), "worker")
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert "worker has ended" in caplog.text
    await end(task)
