"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from .processes import ROOT, HubProcess, Place

CHROMIUM = "/usr/bin/chromium"


@pytest_asyncio.fixture
async def place(server_binary: None) -> AsyncIterator[Place]:
    """A directory for processes; at the end nothing works in it any more."""
    place = Place()
    yield place
    await place.close()


@pytest.fixture
def start_hub(place: Place) -> Callable[..., Awaitable[HubProcess]]:
    """Return a coroutine that starts a hub process with the given flags."""

    async def start(*flags: str, **options: object) -> HubProcess:
        hub = HubProcess(place, *flags, **options)
        await hub.start()
        return hub

    return start


@pytest_asyncio.fixture
async def hub(start_hub: Callable[..., Awaitable[HubProcess]]) -> HubProcess:
    """A running, insecure hub with its own Valkey."""
    return await start_hub()


def _need(found: bool, what: str) -> None:
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI runs every test: {what}", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def node() -> str:
    """Return the path of Node; without it and the packages of tests/js, skip."""
    found = shutil.which("node")
    installed = (ROOT / "tests" / "js" / "node_modules" / "centrifuge").is_dir()
    _need(found is not None and installed, "Node with the packages of tests/js is needed")
    return found or ""


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of Chromium; without it, skip."""
    _need(Path(CHROMIUM).exists(), f"{CHROMIUM} is needed")
    return CHROMIUM
